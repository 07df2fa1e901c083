"""Tables and charts as CSV: unrounded figures, each beside the file and field that it comes from. Pure."""

from __future__ import annotations

import csv
import io

from .content import Chart, Table


def table_csv(table: Table) -> str:
    """One line a row; the last column names the sources of its figures."""
    rows: list[list[object]] = [
        [*("" if cell.value is None else cell.value for cell in row), " ; ".join(cell.source for cell in row if cell.source)]
        for row in table.rows
    ]
    return _text([[*table.header, "sources"], *rows])


def chart_csv(chart: Chart) -> str:
    """One line a point: series, x, y, error, source."""
    rows: list[list[object]] = []
    for series in chart.series:
        for place, (x, y) in enumerate(zip(series.xs, series.ys, strict=True)):
            error = series.errors[place] if series.errors else None
            source = series.sources[place] if series.sources else ""
            rows.append([series.name, x, "" if y is None else y, "" if error is None else error, source])
    return _text([["series", chart.x_label or "x", chart.y_label or "y", "error", "source"], *rows])


def _text(rows: list[list[object]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([[_safe(value) for value in row] for row in rows])
    return file.getvalue()


def _safe(value: object) -> object:
    """A text that a spreadsheet would run as a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "@", "-") and len(value) > 1 else value
