"""Random schedules of faults by a virtual clock: ``python -m benchmarks.jobs.membership [COUNT [FIRST]]``, 10,000 in 10 minutes.

Two to five nodes and a spare train; nodes are killed, stopped, cut off, drained, return and join, workers and the centre die. The
decisions are those that runners make (``engine.membership``). Seeds are 0, 1, 2, ... or from FIRST, so each can be played again.
"""

from __future__ import annotations

import sys

from benchmarks.table import Figure, print_figures
from tests.support.runs.membership_lab import MAX_STALL_S, BrokenPromise, MembershipLab

COUNT = 10_000


def measure(count: int = COUNT, first: int = 0) -> list[Figure]:
    """Play so many schedules."""
    broken: list[str] = []
    generations = repeated = ended = faults = proofs = 0
    longest = 0.0
    for seed in range(first, first + count):
        lab = MembershipLab(seed)
        try:
            lab.run()
        except BrokenPromise as error:
            broken.append(f"schedule {seed}: {error}")
            print(broken[-1], flush=True)
            continue
        generations += max(lab.decided)
        repeated += lab.repeated
        ended += lab.has_ended_by_loss
        faults += len(lab.faults)
        proofs += lab.proofs
        longest = max(longest, lab.longest_stall)
    what = f"{count:,} schedules, {faults:,} faults, {generations:,} generations, {proofs:,} proofs of death"
    gone = f"{ended} lost all state: checkpoints"
    return [
        Figure(f"{what}: sample lost or doubled, split brain, stall", "0", f"{len(broken)} ({gone})", not broken),
        Figure("longest time that nobody trains although somebody may", f"<= {MAX_STALL_S:.0f} s", f"{longest:.1f} s", True),
        Figure("steps repeated at a change of members", "<= 1", f"{repeated / max(1, generations):.4f} of one", True),
    ]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(*map(int, sys.argv[1:3])))


if __name__ == "__main__":
    sys.exit(main())
