"""The program that torchrun starts once per device: ``python -m paceline.engine.training RUN_DIR NODE``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from ..balancer.policies import Problem
from ..errors import PacelineError, PlanImpossible
from ..plan import Plan, RankPlan
from ..wire import from_plain
from ..workloads import WORKLOADS
from .checkpoints.resume import make_checkpointer, read_resumed, resumed_place
from .data import load_splits, load_test
from .device import make_timer, select_device
from .emulation.network import EmulatedLink
from .group.peer_failure import is_collateral
from .group.process_group import Group, join_group
from .group.rank_process import own_rank
from .group.reform import Regroup
from .guard import Guard
from .loop import Case
from .normalization import min_local_batch
from .precision import agree_precision, set_precision
from .probe import StandaloneBenchmark, probe_devices
from .rank_log import RankLog
from .recovery.members import Members
from .tasks import task_for
from .timing.safe_timer import SafeTimer
from .trainer import Trainer, TrainerConfig, make_trainer


def train(run_dir: Path, plan: Plan, rank: RankPlan, log: RankLog) -> None:
    """Train all cases of the plan on one rank, from loading the data to leaving the group."""
    if plan.workload not in WORKLOADS:
        raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    workload = WORKLOADS[plan.workload]
    task = task_for(workload)
    training, validation = load_splits(run_dir, plan, task)
    test = load_test(run_dir, plan, task)
    batch = min(plan.global_batch_size, len(training))
    device = select_device(rank)
    guard = Guard(log)
    timer = SafeTimer(make_timer(rank, workload, device), guard)

    group = join_group(plan, rank, device, run_dir, log)
    precision = agree_precision(group, plan.ranks, plan.precision, prefers_bfloat16=workload.is_bfloat16)
    set_precision(plan.precision)
    profile, max_micro_batches = probe_devices(
        workload, task, training, timer, group, batch=batch, guard=guard, precision=precision
    )
    standalone = StandaloneBenchmark(group, training, guard)
    link = None if plan.link is None else EmulatedLink(plan.link, group.size, plan.seed)

    config = TrainerConfig(
        max_micro_batch=max_micro_batches[rank.rank],
        synchronized_limits=tuple(max_micro_batches) if plan.is_norm_synchronized else (),
        max_gradient_norm=workload.max_gradient_norm,
        reads_one_step_late=plan_has_gpu(plan),
        link=link,
        compression=plan.compression,
        local_steps=plan.local_steps,
    )

    resumed = read_resumed(plan, run_dir)
    checkpointer = make_checkpointer(plan, rank, run_dir, log)
    regroup = None
    if plan.min_devices is not None:
        regroup = Regroup(plan, rank.rank, device, run_dir, tuple(one.rank for one in plan.ranks))
    for planned in plan.cases:
        log.case = planned.name
        seed = plan.seed + planned.repeat
        trainer = make_trainer(workload, task, training, timer, group, config, seed=seed, precision=precision)
        place = None
        if resumed is not None:
            place = resumed_place(resumed, len(training), seed, plan.epochs)
            trainer.load(resumed, seed + (int(resumed["step"]) << 20) + rank.rank)
        # A batch that does not fit in memory at once is trained in micro-batches, so memory bounds no share.
        lows = (min_local_batch(trainer.replica.model),) * group.size
        problem = Problem(planned.policy, batch, profile, lows=lows, highs=(batch,) * group.size)
        members = None
        if regroup is not None:

            def build(next_group: Group, numbers: tuple[int, ...], seed: int = seed) -> Trainer:
                link = None if plan.link is None else EmulatedLink(plan.link, next_group.size, plan.seed)
                changed = replace(config, link=link)
                return make_trainer(workload, task, training, timer, next_group, changed, seed=seed, precision=precision)

            members = Members(
                regroup, group, build, lambda numbers: make_checkpointer(plan, rank, run_dir, log, numbers), checkpointer, seed
            )
        case = Case(
            workload=workload,
            problem=problem,
            trainer=trainer,
            validation=validation,
            test=test,
            group=group,
            log=log,
            guard=guard,
            seed=seed,
            epochs=plan.epochs,
            checkpointer=checkpointer,
            place=place,
            first_step=0 if resumed is None else int(resumed["step"]),
            members=members,
        )
        memory, steps = case.train()
        if plan.is_bench:
            standalone.measure(trainer, planned.name, steps, memory.local_batch_sizes[rank.rank])
            alone = [time.in_parts(batch, most) for time, most in zip(profile, max_micro_batches, strict=True)]
            standalone.measure_baseline(trainer, steps, batch, alone)
        checkpointer = case.checkpointer
    if checkpointer is not None:
        checkpointer.wait()
    if regroup is None:
        group.leave()


def plan_has_gpu(plan: Plan) -> bool:
    """Whether any rank computes on a GPU, asynchronously to its host."""
    return any(rank.device_kind == "cuda" for rank in plan.ranks)


def main(run_dir: Path, node: str) -> int:
    """Train; write any failure as one line to the rank's own file and to standard error. Return the exit status."""
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
        log.write_failure(reason[:500], is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backend's threads may hang on a lost peer; everything is written already
