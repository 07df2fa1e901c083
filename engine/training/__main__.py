"""The program torchrun starts once a device: ``python -m paceline.engine.training RUN_DIR NODE``. Read it from top to bottom."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..balancer.policies import Problem
from ..errors import PacelineError, PlanImpossible
from ..plan import Plan, RankPlan
from ..wire import from_plain
from ..workloads import WORKLOADS
from .data import load
from .device import device_of, timer_for
from .emulation.network import EmulatedLink
from .group import die_with_parent, is_collateral, join, own_rank
from .loop import Case
from .normalization import least_samples
from .precision import agree
from .rank_log import RankLog
from .tasks import task_of
from .timing.probe import Standalone, probe
from .trainer import make_trainer


def train(run_dir: Path, plan: Plan, rank: RankPlan, log: RankLog) -> None:
    """What one rank does, from its first look at the plan to leaving the group."""
    if plan.workload not in WORKLOADS:
        raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    workload = WORKLOADS[plan.workload]
    task = task_of(workload)
    training, validation = load(run_dir, plan, task)
    batch = min(plan.global_batch_size, len(training))
    device = device_of(rank)
    timer = timer_for(rank, workload, device)

    group = join(plan, rank, device, run_dir, log)
    is_bfloat16 = agree(group, is_wanted=workload.is_bfloat16)
    profile, most = probe(workload, task, training, timer, group, batch, log, is_bfloat16=is_bfloat16)
    standalone = Standalone(group, training, log)
    link = None if plan.link is None else EmulatedLink(plan.link, group.size, plan.seed)

    for planned in plan.cases:
        log.case = planned.name
        at_once = most[rank.rank]
        seed = plan.seed + planned.repeat
        is_late = plan_has_gpu(plan)
        trainer = make_trainer(
            workload,
            task,
            training,
            timer,
            group,
            seed,
            at_once,
            is_late=is_late,
            is_bfloat16=is_bfloat16,
            link=link,
            compression=plan.compression,
            local_steps=plan.local_steps,
        )
        # What does not fit in memory at once is trained in micro-batches, so memory bounds no share.
        lows = (least_samples(trainer.replica.model),) * group.size
        problem = Problem(planned.policy, batch, profile, lows=lows, highs=(batch,) * group.size)
        case = Case(workload, problem, trainer, validation, group, log, seed, plan.epochs)
        memory, steps = case.train()
        if plan.is_bench:
            standalone.measure(trainer, planned.name, steps, memory.local_batch_sizes[rank.rank])
    group.leave()


def plan_has_gpu(plan: Plan) -> bool:
    """Whether any rank computes ahead of its host."""
    return any(rank.device_kind == "cuda" for rank in plan.ranks)


def main(run_dir: Path, node: str) -> int:
    """Train, and whatever goes wrong say it in one line, in the rank's own file and on standard error."""
    die_with_parent()
    plan = from_plain(Plan, json.loads((run_dir / "plan.json").read_text()))
    rank = own_rank(plan, node)
    log = RankLog(run_dir / "ranks" / f"{rank.rank}.jsonl", rank.rank)
    try:
        train(run_dir, plan, rank, log)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, PacelineError):
            reason = f"{type(error).__name__}: {reason}"
        print(f"rank {rank.rank} failed: {reason}", file=sys.stderr, flush=True)
        log.failed(reason[:500], is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backends' threads may hang on a peer that is gone; nothing is left to be written
