"""Where a step goes, and how shares moved, of any result that has phases and shares. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from ...reports.document_type import document_type
from ...reports.phases import PHASES
from ..content import Chart, Series, Table, figure, words
from ..result_file import ResultFile


def phase_table(one: ResultFile, prefix: str) -> list[Table]:
    """Milliseconds of a step by phase, mean of the ranks."""
    rows = []
    for name, path, phases in _phases_of(one):
        cells = [figure(None if phase not in phases else phases[phase] * 1000, ",.1f", one.at(f"{path}phases")) for phase in PHASES]
        rows.append((words(name), *cells))
    title = "A step by phase, milliseconds, mean of the ranks"
    return [Table(f"{prefix}phases", title, ("case", *PHASES), tuple(rows))] if rows else []


def _phases_of(one: ResultFile) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Name, path in the document, and mean seconds by phase of each case that has phases."""
    document = one.document
    cases = document["cases"] if document_type(document) == "bench" else [document]
    for place, case in enumerate(cases):
        if not case.get("phases"):
            continue
        found: dict[str, list[float]] = {}
        for entry in case["phases"]:
            found.setdefault(entry["phase"], []).append(entry["seconds"])
        path = f"cases[{place}]." if document_type(document) == "bench" else ""
        yield case.get("policy") or one.name, path, {phase: fsum(all_) / len(all_) for phase, all_ in found.items()}


def stacked_phases(one: ResultFile, prefix: str) -> Chart:
    found = list(_phases_of(one))
    names = tuple(name for name, _, _ in found)
    series = tuple(
        Series(
            phase,
            names,
            tuple(phases.get(phase, 0.0) * 1000 for _, _, phases in found),
            sources=tuple(one.at(f"{path}phases") for _, path, _ in found),
        )
        for phase in PHASES
    )
    return Chart(f"{prefix}step", "Where a step goes, mean of the ranks", "stacked", "", "ms", series if found else ())


def share_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    """Shares over steps of each case whose shares changed, with its stragglers as marks."""
    document = one.document
    cases = document["cases"] if document_type(document) == "bench" else [document]
    for place, case in enumerate(cases):
        changes = case.get("share_changes") or []
        if len(changes) < 2:
            continue
        path = f"cases[{place}]." if document_type(document) == "bench" else ""
        steps = tuple(float(change["step"]) for change in changes)
        series = tuple(
            Series(
                f"{device['node']}:{device['index']}",
                steps,
                tuple(float(change["local_batch_sizes"][rank]) for change in changes),
                sources=tuple(one.at(f"{path}share_changes[{row}].local_batch_sizes[{rank}]") for row in range(len(changes))),
            )
            for rank, device in enumerate(document["devices"])
        )
        name = case.get("policy") or "run"
        marks = tuple(
            (float(entry["since_step"]), f"{entry['node'] or 'all'}: {entry['cause']}")
            for entry in document.get("stragglers") or ()
            if entry["case"] in (name, document.get("policy"))
        )
        yield Chart(f"{prefix}shares-{name}", f"Shares under {name}", "steps", "step", "samples of a step", series, marks)
