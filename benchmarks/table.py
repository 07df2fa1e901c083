"""The output of every benchmark: one line per figure, met or MISSED, and the raw figures as CSV files.

``benchmarks.runner`` parses these lines with ``LINE``, so every benchmark prints them through ``print_line`` or ``print_figures``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import RESULTS

LINE = re.compile(r"^(?P<verdict>met|MISSED)\s+(?P<what>\S.*?)\s{2,}(?P<goal>\S.*?)\s{2,}(?P<value>\S.*)$")
"""Parses what ``print_line`` printed."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and its goal."""

    what: str
    goal: str
    value: str
    is_met: bool
    benchmark: str = ""
    """``GROUP/NAME`` of the benchmark that printed it; empty: not known."""


def print_line(what: str, goal: str, value: str, is_met: bool) -> None:
    """Print verdict, claim, goal and value, separated by at least two spaces."""
    print(f"{'met' if is_met else 'MISSED':<6}  {what:<70}  {goal:>16}  {value}", flush=True)


def print_figures(figures: Iterable[Figure]) -> int:
    """Print one line per figure. Returns the exit status: 1 where a goal was missed."""
    missed = 0
    for figure in figures:
        print_line(figure.what, figure.goal, figure.value, figure.is_met)
        missed += not figure.is_met
    return 1 if missed else 0


def parse_figures(lines: Iterable[str], benchmark: str) -> list[Figure]:
    """The figures among the printed lines of a benchmark."""
    found = [match for line in lines if (match := LINE.match(line))]
    return [Figure(line["what"], line["goal"], line["value"], line["verdict"] == "met", benchmark) for line in found]


def write_csv(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write raw figures to benchmarks/results/NAME.csv, floats with six significant digits, more than any clock here resolves."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for values in rows:
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return path
