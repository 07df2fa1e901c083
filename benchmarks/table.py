"""How a benchmark tells its figures: one line a claim, met or MISSED, and the raw numbers as a CSV file beside it.

``benchmarks/balancer.py`` reads these lines back (``ROW``), so all benchmarks print them through ``row``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
ROW = re.compile(r"^(?P<verdict>met|MISSED)\s+(?P<what>\S.*?)\s{2,}(?P<goal>\S.*?)\s{2,}(?P<figure>\S.*)$")
"""A line that ``row`` printed, taken apart."""


def row(what: str, goal: str, figure: str, is_met: bool) -> None:
    """One line of the table: verdict, claim, goal and figure, at least two spaces apart."""
    print(f"{'met' if is_met else 'MISSED':<6}  {what:<70}  {goal:>16}  {figure}", flush=True)


def write_csv(name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Keep the raw numbers as benchmarks/results/NAME.csv; floats with six digits, which is more than any clock here is worth."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for values in rows:
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return path
