"""Plays torchrun and its ranks on one node: ``python -m tests.support.runs.played_torchrun RUN_DIR NODE``.

It writes what ranks write and computes nothing, so that a run costs a tenth of a second of processor time instead of seven: for
what happens around a run. Each rank is a process of its own that ends with its torchrun, as a real one does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from paceline.engine.events import CaseEnded, CaseStarted, EpochEnded, Event, RankJoined, StepsTaken
from paceline.engine.plan import Plan
from paceline.engine.training.group.rank_process import die_with_parent
from paceline.engine.wire import encode, from_plain

from tests.support.places import CHECKOUT

EPOCH_S = 0.1
"""Seconds of an epoch of one step."""


def python_that_plays(place: Path) -> Path:
    """A program for ``python`` in nodes.toml: everything but the ranks of a run is real."""
    program = place / "python"
    play = '-m tests.support.runs.played_torchrun "$3" "$4"'
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$2" = paceline.engine.training.launcher ] && PYTHONPATH="$PYTHONPATH:{CHECKOUT}" exec {sys.executable} {play}\n'
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    return program


def play_rank(plan: Plan, rank: int, run_dir: Path) -> None:
    """All cases of the plan, told in the words of a rank."""
    share, left = divmod(plan.global_batch_size, len(plan.ranks))
    sizes = tuple(share + (other < left) for other in range(len(plan.ranks)))
    with (run_dir / "ranks" / f"{rank}.jsonl").open("a", buffering=1) as file:

        def tell(event: Event) -> None:
            file.write(encode(event) + "\n")

        tell(RankJoined(rank=rank, pid=os.getpid(), world_size=len(plan.ranks), backend="gloo"))
        for case in plan.cases:
            if rank == 0:
                tell(CaseStarted(rank=rank, case=case.name, policy=case.policy, local_batch_sizes=sizes))
            for epoch in range(plan.epochs):
                time.sleep(EPOCH_S)
                tell(StepsTaken(rank=rank, case=case.name, epoch=epoch, step=epoch, steps=1, samples=sizes[rank]))
                if rank == 0:
                    tell(EpochEnded(rank=rank, case=case.name, epoch=epoch, epochs=plan.epochs, loss=1.0, local_batch_sizes=sizes))
            if rank == 0:
                tell(CaseEnded(rank=rank, case=case.name, local_batch_sizes=sizes))


def main(run_dir: Path, name: str) -> int:
    """Fork the ranks of a node and wait for them; returns torchrun's status."""
    plan = from_plain(Plan, json.loads((run_dir / "plan.json").read_text()))
    node = next(node for node in plan.nodes if node.name == name)
    for rank in node.ranks:
        if os.fork() == 0:
            die_with_parent()
            play_rank(plan, rank, run_dir)
            os._exit(0)
    return int(any(os.wait()[1] for _ in node.ranks))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
