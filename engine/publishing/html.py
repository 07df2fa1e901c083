"""A report as one HTML file that needs nothing beside it: its pictures are inside. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from .content import Report, Table

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:1rem 0}"
    "th,td{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th{border-bottom:2px solid #444}.w{text-align:left}img{max-width:100%}.n{color:#555}.scroll{overflow-x:auto}"
    "blockquote{border-left:4px solid #d55e00;margin:1rem 0;padding:.2rem 1rem;background:#fff6ef}"
)


def html(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The text of report.html. ``pictures``: PNG bytes by chart; a chart without any is left out."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(report.title)}</h1>",
        *[f"<p>{escape(sentence)}</p>" for sentence in report.summary],
        *[f"<blockquote>{escape(note)}</blockquote>" for note in report.notes],
    ]
    for table in report.tables:
        parts += [f"<h2>{escape(table.title)}</h2>", _table(table)]
        parts += [f'<p class="n">{escape(table.note)}</p>'] if table.note else []
    for chart in report.charts:
        if (picture := pictures.get(chart.name)) is not None:
            data = base64.b64encode(picture).decode()
            parts += [
                f"<h2>{escape(chart.title)}</h2>",
                f'<p><img alt="{escape(chart.title)}" src="data:image/png;base64,{data}"></p>',
            ]
    items = "".join(f"<li>{escape(name)}: <code>{escape(path)}</code></li>" for name, path in report.sources)
    return "\n".join([*parts, f"<h2>Sources</h2>\n<ul>{items}</ul>", "</body>\n</html>\n"])


def _table(table: Table) -> str:
    """A table; the title of a figure names where it comes from."""

    def side(column: int) -> str:
        return ' class="w"' if column < table.text_columns else ""

    head = "".join(f"<th{side(column)}>{escape(name)}</th>" for column, name in enumerate(table.header))
    rows = [
        "".join(
            f"<td{side(column)}{f' title={chr(34)}{escape(cell.source)}{chr(34)}' if cell.source else ''}>{escape(cell.text)}</td>"
            for column, cell in enumerate(row)
        )
        for row in table.rows
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
