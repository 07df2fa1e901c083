"""Results become a report: the tables and charts that their documents have data for. Pure.

docs/design/publishing.md lists them; ``--like`` chooses and names them as the projects that people compare with do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ..reports.document_type import document_type
from .content import Chart, Report, Table
from .parts.fits import fit_charts, fit_tables
from .parts.hardware import hardware_charts, hardware_tables
from .parts.policies import bench_charts, bench_tables
from .parts.runs import runs_charts, runs_table, train_charts, train_tables
from .parts.scaling import scale_charts, scale_tables
from .parts.suites import suite_charts, suite_tables
from .parts.trials import search_charts, search_tables
from .result_file import ResultFile
from .summary import summary_of

_PARTS: Mapping[str, tuple[Callable[[ResultFile, str], Iterable[Table]], Callable[[ResultFile, str], Iterable[Chart]]]] = {
    "bench": (bench_tables, bench_charts),
    "scale": (scale_tables, scale_charts),
    "train": (train_tables, train_charts),
    "search": (search_tables, search_charts),
    "suite": (suite_tables, suite_charts),
    "fit": (fit_tables, fit_charts),
    "profile": (hardware_tables, hardware_charts),
}
"""Tables and charts by the type of a document; names get a prefix where a report has several."""
Part = TypeVar("Part", Table, Chart)
MAX_NAME = 120
"""Letters of the name of a file."""
REPORTED = tuple(_PARTS)
"""Types of documents that a report can be made of."""


def report_of(sources: Sequence[ResultFile]) -> Report:
    """The report of one or several results."""
    tables: list[Table] = []
    charts: list[Chart] = []
    trains = [one for one in sources if document_type(one.document) == "train"]
    for one in sources:
        prefix = "" if len(sources) == 1 else f"{one.name}-"
        kind = document_type(one.document)
        if kind in _PARTS:
            of_tables, of_charts = _PARTS[kind]
            tables += of_tables(one, prefix)
            charts += of_charts(one, prefix)
    if len(trains) > 1:
        tables.insert(0, runs_table(trains))
        charts[:0] = runs_charts(trains)
    return Report(
        title=_title(sources),
        summary=tuple(summary_of([one.document for one in sources])),
        tables=tuple(_with_file_names([table for table in tables if table.rows])),
        charts=tuple(_with_file_names([one for one in charts if any(y is not None for series in one.series for y in series.ys)])),
        sources=tuple((one.name, one.path) for one in sources),
        notes=tuple(_notes(sources)),
    )


def file_name(name: str) -> str:
    """A name that a file may have on any system, and that LaTeX reads as one: the name of a result may hold anything."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-._") else "-" for char in name)
    return plain[-MAX_NAME:].lstrip(".-_") or "part"


def _with_file_names(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts under names of files, each name once."""
    used: set[str] = set()
    for part in parts:
        name = plain = file_name(part.name)
        number = 1
        while name in used:
            number += 1
            name = f"{number}-{plain}"
        used.add(name)
        yield replace(part, name=name)


def _title(sources: Sequence[ResultFile]) -> str:
    names = dict.fromkeys(str(one.document.get("workload") or one.name) for one in sources)
    kinds = dict.fromkeys(document_type(one.document) for one in sources)
    what = {
        "bench": "policies compared",
        "scale": "scaling",
        "train": "training",
        "search": "hyperparameters",
        "fit": "what fits",
        "profile": "hardware",
    }
    return f"{', '.join(names)}: {', '.join(what.get(kind, kind) for kind in kinds)}"


def _notes(sources: Sequence[ResultFile]) -> Iterator[str]:
    for one in sources:
        label = "" if len(sources) == 1 else f"{one.name}: "
        if one.document.get("emulated"):
            network = " and over an emulated network" if one.document.get("emulated_network") else ""
            yield f"{label}measured on emulated devices{network}: no figure is of real hardware"
        yield from (f"{label}{sentence}" for sentence in one.document.get("warnings") or ())
