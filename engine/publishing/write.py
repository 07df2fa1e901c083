"""Writes a report: all of its files, or none under their names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import StorageFailed, UsageError
from ..protocol.private_files import make_directory
from .charts import draw
from .content import Report
from .csv_tables import chart_csv, table_csv
from .formats import FORMATS, PICTURES
from .html import html
from .latex import document, table
from .markdown import markdown


def write_report(report: Report, directory: Path, formats: Sequence[str]) -> list[Path]:
    """Write a report in these formats; returns its files. Raises UsageError for an unknown format, StorageFailed for a full disk.

    The files are written aside and moved: an interrupted report leaves the files of the last one as they were.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(f"there is no format {unknown[0]!r}", hint=f"known: {', '.join(FORMATS)}")
    files = contents(report, formats)
    try:
        make_directory(directory)
        aside = Path(tempfile.mkdtemp(prefix=".report-", dir=directory))
    except OSError as error:
        raise StorageFailed(f"cannot write {directory}: {error.strerror or error}") from None
    try:
        for name, content in files.items():
            make_directory((aside / name).parent)
            (aside / name).write_bytes(content)
        for name in files:
            make_directory((directory / name).parent)
            (aside / name).replace(directory / name)
    except OSError as error:
        raise StorageFailed(f"cannot write {directory}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [directory / name for name in files]


def contents(report: Report, formats: Sequence[str]) -> dict[str, bytes]:
    """Every file of a report by its name."""
    endings = [ending for ending in PICTURES if ending in formats]
    pictures = {chart.name: {ending: draw(chart, ending) for ending in endings} for chart in report.charts}
    names = {chart: [f"figures/{chart}.{ending}" for ending in drawn] for chart, drawn in pictures.items()}
    files = {f"figures/{chart}.{ending}": data for chart, drawn in pictures.items() for ending, data in drawn.items()}
    if "md" in formats:
        files["report.md"] = markdown(report, names).encode()
    if "html" in formats:
        inside = {chart.name: pictures[chart.name].get("png") or draw(chart, "png") for chart in report.charts}
        files["report.html"] = html(report, inside).encode()
    if "latex" in formats:
        files |= {f"tables/{one.name}.tex": table(one).encode() for one in report.tables}
        files["report.tex"] = document(report, names).encode()
    if "csv" in formats:
        files |= {f"data/{one.name}.csv": table_csv(one).encode() for one in report.tables}
        files |= {f"data/figure-{chart.name}.csv": chart_csv(chart).encode() for chart in report.charts}
    return files
