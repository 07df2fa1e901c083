"""A report as Markdown: summary, tables, and the pictures beside it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .content import Report, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def markdown(report: Report, pictures: Mapping[str, Sequence[str]]) -> str:
    """The text of report.md. ``pictures``: file names by chart; the first that Markdown can show is shown."""
    lines = [f"# {escape(report.title)}", "", *[f"{escape(sentence)}  " for sentence in report.summary], ""]
    lines += [f"> {escape(note)}" for note in report.notes]
    for table in report.tables:
        lines += ["", f"## {escape(table.title)}", "", *table_lines(table)]
        lines += ["", f"*{escape(table.note)}*"] if table.note else []
    for chart in report.charts:
        shown = next((name for name in pictures.get(chart.name, ()) if name.endswith((".png", ".svg"))), None)
        if shown is not None:
            lines += ["", f"## {escape(chart.title)}", "", f"![{escape(chart.title)}]({shown})"]
            lines += ["", f"*{escape(chart.note)}*"] if chart.note else []
    lines += ["", "## Sources", ""]
    lines += [f"- {escape(name)}: `{path}`" for name, path in report.sources]
    return "\n".join([*lines, ""])


def table_lines(table: Table) -> list[str]:
    """A Markdown table, line by line."""
    rule = ["---" if column < table.text_columns else "---:" for column in range(len(table.header))]
    rows = [[escape(cell.text) for cell in row] for row in table.rows]
    return ["| " + " | ".join(row) + " |" for row in ([escape(name) for name in table.header], rule, *rows)]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
