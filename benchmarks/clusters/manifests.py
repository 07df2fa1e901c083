"""Manifests of jobs drawn at random: ``python -m benchmarks.clusters.manifests [JOBS] [MUTANTS]``, 1,000 and 300 by default.

Each is checked against the strict schemas of Kubernetes 1.37, the models of JobSet and Kubeflow Trainer, and what their webhooks
refuse; what is written comes back equal from YAML, from the models, and as a plan. Mutants of them, one fault each, are refused.
"""

from __future__ import annotations

import random
import sys

from benchmarks.table import Figure, print_figures
from tests.support.clusters.round_trip import check_jobs, check_mutants


def measure(jobs: int = 1000, mutants: int = 300) -> list[Figure]:
    """Draw so many."""
    wrong = check_jobs(random.Random(0), jobs)
    accepted = check_mutants(random.Random(1), mutants)
    for line in (*wrong, *accepted):
        print(line, flush=True)
    rejected = 1 - len(accepted) / mutants
    return [
        Figure(f"{jobs:,} jobs as manifests: invalid, or not equal when read back", "0", str(len(wrong)), not wrong),
        Figure(f"{mutants} mutants of manifests: refused", ">= 99 %", f"{100 * rejected:.1f} %", rejected >= 0.99),
    ]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(*map(int, sys.argv[1:3])))


if __name__ == "__main__":
    sys.exit(main())
