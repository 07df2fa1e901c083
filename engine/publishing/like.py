"""The tables and figures of projects that people compare with, under their names, beside ours. Pure.

What those projects report is quoted as figures, marked *reported*; nothing of it is measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..reports.document_type import Document, document_type
from .content import Chart, Report, Table, figure, words
from .result_file import ResultFile

Part = TypeVar("Part", Table, Chart)


@dataclass(frozen=True, slots=True)
class Like:
    """Which parts of a report a project shows, and what it calls them."""

    about: str
    tables: tuple[tuple[str, str, str], ...]
    """Our name, their file name, their title; in their order."""
    charts: tuple[tuple[str, str, str], ...]


LIKES: dict[str, Like] = {
    "trainer": Like(
        "policies against each other on unlike cards, beside what the project claims",
        (("claims", "policy_claims", "Claims and measurements"), ("policies", "benchmark_summary", "Benchmark summary")),
        (
            ("throughput", "throughput_comparison", "Throughput comparison"),
            ("utilization", "gpu_utilization", "GPU utilization"),
            ("imbalance", "load_imbalance", "Load imbalance"),
            ("efficiency", "scaling_efficiency", "Scaling efficiency"),
            ("devices", "hardware_comparison", "Hardware comparison"),
            ("loss-over-time", "convergence", "Convergence"),
            ("step", "timing_breakdown", "Timing breakdown"),
        ),
    ),
    "two-devices": Like(
        "one device against two: training time and throughput with their spread",
        (("runs", "summary", "Single device and data parallel"),),
        (
            ("training-time-comparison", "training_time_comparison", "Training time comparison"),
            ("throughput-comparison", "tokens_per_second_comparison", "Throughput comparison"),
        ),
    ),
    "negative-scaling": Like(
        "when more devices are slower: epoch time, speed-up, efficiency, accuracy",
        (
            ("scaling", "table_scaling", "Training performance"),
            ("accuracy", "table_accuracy", "Accuracy comparison"),
            ("runs", "table_accuracy", "Accuracy comparison"),
        ),
        (
            ("epoch-seconds", "epoch_time_comparison", "Epoch time comparison"),
            ("training-time-comparison", "epoch_time_comparison", "Epoch time comparison"),
            ("speedup", "speedup", "Speed-up and the ideal line"),
            ("efficiency", "efficiency", "Parallel efficiency"),
            ("metric-curves", "accuracy_curves", "Validation accuracy"),
        ),
    ),
    "cloud": Like(
        "trials one after another against all devices at once",
        (
            ("trials", "hyperparameter_results", "Hyperparameter search"),
            ("search-times", "comparison", "One machine and the cluster"),
        ),
        (
            ("search-times", "hyperparameter_time", "Search time"),
            ("trial-seconds", "time_per_config", "Time of a configuration"),
            ("search-values", "validation", "Validation by configuration"),
        ),
    ),
}
"""By the word of ``report --like``."""

CLAIMS = {
    "equal": ("450", "60-70 %", "30-40 %", "0.6-0.7"),
    "proportional": ("+33 %", "75-85 %", "15-20 %", "0.75-0.85"),
    "dynamic": ("+44 %", "80-90 %", "10-15 %", "0.8-0.9"),
    "hybrid": ("+44 %", "80-90 %", "10-15 %", "0.8-0.9"),
}
"""What the trainer for unlike clusters reports by policy: throughput (equal in samples/s, then over it), utilization, imbalance,
scaling efficiency."""


def as_like(report: Report, sources: Sequence[ResultFile], name: str) -> Report:
    """The report with the parts of a project, under its names. Several results of one kind keep a prefix each."""
    like = LIKES[name]
    tables = [*(_claims(one) for one in sources if name == "trainer" and document_type(one.document) == "bench"), *report.tables]
    chosen = [
        replace(table, name=_renamed(table.name, ours, theirs), title=title)
        for ours, theirs, title in like.tables
        for table in tables
        if _is_named(table.name, ours)
    ]
    drawn = [
        replace(chart, name=_renamed(chart.name, ours, theirs), title=title)
        for ours, theirs, title in like.charts
        for chart in report.charts
        if _is_named(chart.name, ours)
    ]
    return replace(report, tables=tuple(_distinct(chosen)), charts=tuple(_distinct(drawn)))


def _is_named(name: str, ours: str) -> bool:
    return name == ours or name.endswith(f"-{ours}")


def _renamed(name: str, ours: str, theirs: str) -> str:
    return name.removesuffix(ours) + theirs


def _distinct(parts: Sequence[Part]) -> list[Part]:
    """The first part of each name."""
    return list({part.name: part for part in reversed(parts)}.values())[::-1]


def _claims(one: ResultFile) -> Table:
    """What is reported and what was measured, policy by policy."""
    document: Document = one.document
    equal = next((case["samples_per_second"] for case in document["cases"] if case["policy"] == "equal"), None)
    rows = []
    for place, case in enumerate(document["cases"]):
        reported = CLAIMS[case["policy"]]
        is_equal = case["policy"] == "equal"
        rate = case["samples_per_second"]
        gain = None if rate is None or not equal or is_equal else rate / equal - 1.0
        source = one.at(f"cases[{place}].samples_per_second")
        rows.append(
            (
                words(case["policy"]),
                words(reported[0]),
                figure(rate, ",.0f", source) if is_equal else figure(gain, "+.0%", source),
                words(reported[1]),
                figure(case.get("utilization"), ".0%", one.at(f"cases[{place}].utilization")),
                words(reported[2]),
                figure(case["imbalance"], ".0%", one.at(f"cases[{place}].imbalance")),
                words(reported[3]),
                figure(case["balance_efficiency"], ".2f", one.at(f"cases[{place}].balance_efficiency")),
            )
        )
    header: tuple[str, ...] = ("policy", "throughput, reported", "measured", "utilization, reported", "measured")
    header = (*header, "imbalance, reported", "measured", "scaling efficiency, reported", "measured")
    note = (
        "Reported: by the reference project, on its devices. Measured: here; the gain is over equal shares of the same launch. "
        "Utilization is the part of a step in which a device computes, scaling efficiency throughput over the devices alone."
    )
    return Table("claims", "Claims and measurements", header, tuple(rows), note=note)
