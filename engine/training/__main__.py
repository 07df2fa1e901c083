"""The program torchrun starts once a device: ``python -m paceline.engine.training RUN_DIR NODE``. Read it from top to bottom."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..errors import PacelineError
from ..plan import Plan
from ..wire import from_plain
from .group import die_with_parent, is_collateral, own_rank
from .ranklog import RankLog
from .session import Session


def train(run_dir: Path, plan: Plan, node: str, log: RankLog) -> None:
    """What one rank does, from joining the group to leaving it."""
    session = Session.prepare(plan, own_rank(plan, node), run_dir, log)
    session.join()
    session.probe()
    for case in plan.cases:
        session.train(case)
        if plan.is_bench:
            session.measure_standalone(case)
    session.leave()


def main(run_dir: Path, node: str) -> int:
    """Train, and whatever goes wrong say it in one line, in the rank's own file and on standard error."""
    die_with_parent()
    plan = from_plain(Plan, json.loads((run_dir / "plan.json").read_text()))
    rank = own_rank(plan, node).rank
    log = RankLog(run_dir / "ranks" / f"{rank}.jsonl", rank)
    try:
        train(run_dir, plan, node, log)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, PacelineError):
            reason = f"{type(error).__name__}: {reason}"
        print(f"rank {rank} failed: {reason}", file=sys.stderr, flush=True)
        log.failed(reason[:500], is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backends' threads may hang on a peer that is gone; nothing is left to be written
