"""The program that torchrun starts once per device: ``python -m paceline.engine.training RUN_DIR NODE``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..balancer.policies import Problem
from ..errors import PacelineError, PlanImpossible
from ..events import RankJoined
from ..plan import Plan, RankPlan
from ..protocol.run_files import JOINS_VARIABLE
from ..protocol.run_plan import read_run_plan
from ..workloads import WORKLOADS, Workload
from .checkpoints.resume import make_checkpointer, read_resumed, resumed_place
from .data import Split, load_splits, load_test
from .device import make_timer, select_device
from .emulation.network import EmulatedLink
from .group.peer_failure import is_collateral
from .group.process_group import Group, join_group
from .group.rank_process import own_rank
from .group.reform import Formation, Regroup, ask_to_join
from .guard import Guard
from .loop import Case
from .normalization import min_local_batch
from .precision import agree_precision, set_precision
from .probe import StandaloneBenchmark, probe_devices
from .rank_log import RankLog
from .recovery.members import NOWHERE, Measured, Members
from .shares.sampler import SamplerState
from .tasks import Task, task_for
from .timing.safe_timer import SafeTimer
from .trainer import Trainer, TrainerConfig, make_trainer


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a rank trains on, whoever takes part."""

    workload: Workload
    task: Task
    training: Split
    validation: Split
    test: Split | None

    @staticmethod
    def load(run_dir: Path, plan: Plan) -> Inputs:
        """Raises PlanImpossible for an unknown workload, DataRefused where data are missing or broken."""
        if plan.workload not in WORKLOADS:
            raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
        workload = WORKLOADS[plan.workload]
        task = task_for(workload)
        training, validation = load_splits(run_dir, plan, task)
        return Inputs(workload, task, training, validation, load_test(run_dir, plan, task))


def train(run_dir: Path, plan: Plan, rank: RankPlan, log: RankLog) -> None:
    """Train all cases of the plan on one rank, from loading the data to leaving the group."""
    inputs = Inputs.load(run_dir, plan)
    workload, task, training = inputs.workload, inputs.task, inputs.training
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
    config = make_config(plan, workload, rank, group, max_micro_batches)

    resumed = read_resumed(plan, run_dir)
    checkpointer = make_checkpointer(plan, rank, run_dir, log)
    regroup = None
    if plan.min_devices is not None:
        numbers = tuple(one.rank for one in plan.ranks)
        regroup = Regroup(plan, rank.rank, rank.rank, device, run_dir, Formation(0, numbers, numbers))
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
            members = make_members(inputs, plan, rank, regroup, timer, log)
            members.group, members.checkpointer = group, checkpointer
            members.measured = Measured(planned.name, profile, max_micro_batches, precision)
        case = Case(
            workload=workload,
            problem=problem,
            trainer=trainer,
            validation=inputs.validation,
            test=inputs.test,
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
            alone = [known.in_parts(batch, most) for known, most in zip(profile, max_micro_batches, strict=True)]
            standalone.measure_baseline(trainer, steps, batch, alone)
        checkpointer = case.checkpointer
    if checkpointer is not None:
        checkpointer.wait()
    if regroup is None:
        group.leave()


def come_back(run_dir: Path, plan: Plan, rank: RankPlan, inputs: Inputs, formation: Formation, log: RankLog) -> None:
    """Train the rest of a run in its group, which has taken in this process: the one before on its device is gone."""
    workload, planned = inputs.workload, plan.cases[0]
    log.case = planned.name
    device = select_device(rank)
    guard = Guard(log)
    timer = SafeTimer(make_timer(rank, workload, device), guard)
    set_precision(plan.precision)
    regroup = Regroup(plan, formation.number_of(rank.rank), rank.rank, device, run_dir, formation, is_joining=True)
    members = make_members(inputs, plan, rank, regroup, timer, log)
    began = time.perf_counter()
    trainer, problem, (steps, evaluated, epoch, offset) = members.go_on(None, NOWHERE)
    assert members.group is not None
    log.write(RankJoined(pid=os.getpid(), world_size=members.group.size, backend=plan.backend))
    guard.write(members.event(steps, 0, time.perf_counter() - began))
    case = Case(
        workload=workload,
        problem=problem,
        trainer=trainer,
        validation=inputs.validation,
        test=inputs.test,
        group=members.group,
        log=log,
        guard=guard,
        seed=members.seed,
        epochs=plan.epochs,
        checkpointer=members.checkpointer,
        place=SamplerState(len(inputs.training), members.seed, epoch, offset),
        first_step=steps,
        first_epoch=evaluated,
        members=members,
    )
    case.train()
    if case.checkpointer is not None:
        case.checkpointer.wait()


def make_config(plan: Plan, workload: Workload, rank: RankPlan, group: Group, max_micro_batches: tuple[int, ...]) -> TrainerConfig:
    """Settings of a trainer of this group."""
    return TrainerConfig(
        max_micro_batch=max_micro_batches[rank.rank],
        synchronized_limits=tuple(max_micro_batches) if plan.is_norm_synchronized else (),
        max_gradient_norm=workload.max_gradient_norm,
        reads_one_step_late=plan_has_gpu(plan),
        link=None if plan.link is None else EmulatedLink(plan.link, group.size, plan.seed),
        compression=plan.compression,
        local_steps=plan.local_steps,
    )


def make_members(inputs: Inputs, plan: Plan, rank: RankPlan, regroup: Regroup, timer: SafeTimer, log: RankLog) -> Members:
    """How the one case of a run goes on when its members change."""
    planned, workload, training = plan.cases[0], inputs.workload, inputs.training
    seed, batch = plan.seed + planned.repeat, min(plan.global_batch_size, len(training))

    def build(group: Group, measured: Measured) -> Trainer:
        config = make_config(plan, workload, rank, group, measured.max_micro_batches)
        return make_trainer(workload, inputs.task, training, timer, group, config, seed=seed, precision=measured.precision)

    def problem_of(trainer: Trainer, measured: Measured, ranks: Sequence[int]) -> Problem:
        profile = tuple(measured.profile[one] for one in ranks)
        lows = (min_local_batch(trainer.replica.model),) * len(ranks)
        return Problem(planned.policy, batch, profile, lows=lows, highs=(batch,) * len(ranks))

    return Members(
        regroup,
        None,
        None,
        build,
        problem_of,
        lambda: make_checkpointer(plan, rank, run_dir=regroup.run_dir, log=log, is_chosen=True),
        None,
        seed,
    )


def plan_has_gpu(plan: Plan) -> bool:
    """Whether any rank computes on a GPU, asynchronously to its host."""
    return any(rank.device_kind == "cuda" for rank in plan.ranks)


def main(run_dir: Path, node: str) -> int:
    """Train; write any failure as one line to the rank's own file and to standard error. Return the exit status."""
    plan = read_run_plan(run_dir)
    rank = own_rank(plan, node)
    log = None
    try:
        if JOINS_VARIABLE in os.environ:  # its file is named by its number, which it has once it is taken in
            inputs = Inputs.load(run_dir, plan)
            formation = ask_to_join(run_dir, rank.rank)
            number = formation.number_of(rank.rank)
            log = RankLog(run_dir / "ranks" / f"{number}.jsonl", rank.rank, number)
            come_back(run_dir, plan, rank, inputs, formation, log)
        else:
            log = RankLog(run_dir / "ranks" / f"{rank.rank}.jsonl", rank.rank)
            train(run_dir, plan, rank, log)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, PacelineError):
            reason = f"{type(error).__name__}: {reason}"
        print(f"rank {rank.rank} failed: {reason}", file=sys.stderr, flush=True)
        if log is not None:
            log.write_failure(reason[:500], is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backend's threads may hang on a lost peer; everything is written already
