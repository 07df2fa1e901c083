"""Tables and charts of a suite of benchmarks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..content import Cell, Chart, Series, Table, figure, words
from ..result_file import ResultFile

SUITE_NOTE = (
    "Means over the rounds, ± their 95 % interval by Student's t, sd their standard deviation. Difference: of the throughput to "
    "that of equal shares, by Welch's test."
)
_COLUMNS = (
    ("samples_per_second", "samples/s", ",.0f"),
    ("speedup_over_equal", "over equal", ".2f"),
    ("balance_efficiency", "scaling efficiency", ".1%"),
    ("utilization", "utilization", ".0%"),
    ("imbalance", "imbalance", ".1%"),
    ("loss", "loss", ".4g"),
    ("metric", "metric", ".4g"),
    ("seconds_to_target", "s to target", ".1f"),
    ("joules_per_sample", "J/sample", ".3g"),
    ("device_hours", "device hours", ".3f"),
)
_DIFFERENCE = {True: "beyond the noise", False: "within the noise", None: ""}


def suite_tables(one: ResultFile, prefix: str) -> list[Table]:
    """One row a workload and policy."""
    rows = tuple(tuple(_cells(one, place, row)) for place, row in enumerate(one.document["rows"]))
    header = ("workload", "policy", *(name for _, name, _ in _COLUMNS), "difference")
    return [Table(f"{prefix}suite", "Workloads and policies", header, rows, text_columns=2, note=SUITE_NOTE)]


def _cells(one: ResultFile, place: int, row: Mapping[str, Any]) -> Iterator[Cell]:
    yield words(row["workload"])
    yield words(row["policy"])
    for field, _, form in _COLUMNS:
        value = row[field]
        yield figure(value["mean"], form, one.at(f"rows[{place}].{field}.mean"), value["ci95"], value["std"])
    yield words(_DIFFERENCE[row["is_beyond_noise"]])


def suite_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    """Throughput over equal and utilization, a group of bars a workload."""
    document = one.document
    policies = list(dict.fromkeys(row["policy"] for row in document["rows"]))
    for field, title, label, factor in (
        ("speedup_over_equal", "Speed-up over equal shares", "times", 1.0),
        ("utilization", "Utilization", "% of a step", 100.0),
        ("balance_efficiency", "Scaling efficiency", "% of the devices alone", 100.0),
    ):
        series = []
        for policy in policies:
            own = [(place, row) for place, row in enumerate(document["rows"]) if row["policy"] == policy]
            means = tuple(None if row[field]["mean"] is None else row[field]["mean"] * factor for _, row in own)
            halves = tuple(None if row[field]["ci95"] is None else row[field]["ci95"] * factor for _, row in own)
            sources = tuple(one.at(f"rows[{place}].{field}.mean") for place, _ in own)
            errors = halves if any(half is not None for half in halves) else ()
            series.append(Series(policy, tuple(row["workload"] for _, row in own), means, errors, sources))
        yield Chart(f"{prefix}suite-{field.replace('_', '-')}", title, "bars", "", label, tuple(series))
