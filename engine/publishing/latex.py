"""A report as LaTeX: one file of tables in booktabs style, one document that includes tables and figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .content import Report, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "—": "---",
    "−": "$-$",
    "µ": r"$\mu$",
    "×": r"$\times$",
    "°": r"$^{\circ}$",
    "…": r"\ldots{}",
}
"""Characters that LaTeX reads as commands, and those that pdflatex lacks without packages."""


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; a character that no default font has becomes a question mark."""
    return "".join(_ESCAPES.get(char, char if " " <= char < "\x7f" or "\xa0" < char < "\u0180" else "?") for char in text)


def table(one: Table) -> str:
    """A table environment; it needs the package booktabs."""
    columns = "l" * one.text_columns + "r" * (len(one.header) - one.text_columns)
    rows = [" & ".join(escape(cell.text) for cell in row) + r" \\" for row in one.rows]
    note = f"\n\\par\\smallskip\\footnotesize {escape(one.note)}" if one.note else ""
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            f"\\caption{{{escape(one.title)}}}",
            f"\\label{{tab:{label(one.name)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(escape(name) for name in one.header) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}" + note,
            r"\end{table}",
            "",
        ]
    )


def document(report: Report, pictures: Mapping[str, Sequence[str]]) -> str:
    """The text of report.tex, which inputs the tables beside it. ``pictures``: file names by chart; PDF is preferred over PNG."""
    lines = [
        r"\documentclass[a4paper,11pt]{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage{booktabs,graphicx,textcomp}",
        r"\usepackage[margin=2.5cm]{geometry}",
        f"\\title{{{escape(report.title)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
        *[f"{escape(sentence)}\n" for sentence in report.summary],
    ]
    lines += [f"\\emph{{{escape(note)}}}\n" for note in report.notes]
    lines += [f"\\input{{tables/{one.name}.tex}}" for one in report.tables]
    for chart in report.charts:
        names = pictures.get(chart.name, ())
        shown = next((name for ending in (".pdf", ".png") for name in names if name.endswith(ending)), None)
        if shown is None:
            continue
        lines += [
            r"\begin{figure}[htbp]",
            r"\centering",
            f"\\includegraphics[width=.85\\linewidth]{{{shown}}}",
            f"\\caption{{{escape(chart.title)}}}",
            f"\\label{{fig:{label(chart.name)}}}",
            r"\end{figure}",
        ]
    return "\n".join([*lines, r"\end{document}", ""])


def label(name: str) -> str:
    """A name that a label may have."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-.") else "-" for char in name)
