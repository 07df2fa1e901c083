"""The reference trainer's table beside ours, on its own scenario: ``python -m benchmarks experiments/trainer_table``.

The embedded lab of its four unlike cards trains under all policies, interleaved; ``report --like trainer`` quotes what the project
reports and gives what was measured. Its claims: equal 450 samples/s, proportional +33 %, dynamic +44 %. ``--keep DIR`` keeps
everything.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.experiments.lab import paceline, run
from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, write_csv

CLAIMED = {"proportional": 0.33, "dynamic": 0.44, "hybrid": 0.44}
"""Gain over equal shares that the reference reports."""
_COLUMNS = ("samples_per_second", "speedup_over_equal", "utilization", "imbalance", "balance_efficiency")


def measure(folder: Path, repeats: int) -> list[Figure]:
    """Run the benchmark and its report."""
    shutil.copy(CHECKOUT / "nodes.toml", folder / "nodes.toml")
    document = paceline(folder, "bench", "--repeats", str(repeats))
    report = paceline(folder, "report", document["run_id"], "--like", "trainer")
    cases: dict[str, dict[str, Any]] = {case["policy"]: case for case in document["cases"]}
    write_csv(
        "trainer_table", ["policy", *_COLUMNS], [[name, *(case.get(key) for key in _COLUMNS)] for name, case in cases.items()]
    )
    figures = []
    for policy, claimed in CLAIMED.items():
        gain = (cases[policy]["speedup_over_equal"] or 0.0) - 1.0
        told = f"{gain:+.0%}, {_parts(cases[policy])}"
        figures.append(Figure(f"{policy} over equal", f">= {claimed:+.0%}", told, gain >= claimed))
    equal, hybrid = cases["equal"], cases["hybrid"]
    before, after = equal.get("imbalance"), hybrid.get("imbalance")
    less = before is not None and after is not None and before > after
    figures.append(Figure("imbalance falls", "below equal's", f"{_parts(equal)} -> {_parts(hybrid)}", less))
    tables = [Path(file).name for file in report["files"] if file.endswith(".tex")]
    figures.append(Figure("the claims as a table", "policy_claims.tex", ", ".join(tables), "policy_claims.tex" in tables))
    return figures


def _parts(case: dict[str, Any]) -> str:
    names = (("utilization", "utilization"), ("imbalance", "imbalance"), ("balance_efficiency", "efficiency"))
    return ", ".join(f"{name} {case[key]:.0%}" for key, name in names if case.get(key) is not None)


if __name__ == "__main__":
    run(measure, __doc__)
