"""The program that torchrun starts once per device to profile it: ``python -m paceline.engine.profiling RUN_DIR NODE``.

Reads from top to bottom. A failure of one device, disk or link is recorded in its event, and the other measurements go on.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import PacelineError, PlanImpossible
from ..events import (
    AllReduceProfiled,
    DeviceProfiled,
    GradientProfiled,
    ProfilingAdvanced,
    StepTimesProfiled,
)
from ..plan import Plan, RankPlan
from ..protocol.run_plan import read_run_plan
from ..training.data import load_splits
from ..training.device import make_timer, select_device
from ..training.group.peer_failure import is_collateral
from ..training.group.process_group import form_group
from ..training.group.rank_process import own_rank
from ..training.group.rendezvous import rendezvous
from ..training.rank_log import RankLog
from ..training.tasks import task_for
from ..workloads import WORKLOADS
from .device import measure_device
from .gradients import measure_gradient
from .host import measure_host
from .network import measure_all_reduce, measure_links
from .precisions import measure_precisions
from .rank_sync import RankSync
from .steps import StepBenchmark, measure_crowding, measure_steps

DEVICE_S, STEPS_S, DISK_S, LINK_ROUND_S, GROUP_S = 3.0, 18.0, 1.5, 1.5, 6.0
"""Usual seconds of each part, for the progress: a device, its steps, a disk, a round of links, and the part with the group."""
RANK_PATIENCE_S = 300.0
"""Seconds that the other ranks wait for one rank's measurement."""


def profile(run_dir: Path, plan: Plan, rank: RankPlan, log: RankLog) -> None:
    """Measure everything on one rank, from joining the store to leaving it."""
    if plan.workload not in WORKLOADS:
        raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    workload = WORKLOADS[plan.workload]
    task = task_for(workload)
    node = plan.node_of(rank.rank)
    all_ranks = range(len(plan.ranks))
    sync = RankSync(rank.rank, store := rendezvous(plan, rank, run_dir))
    progress = _Progress(plan, log if rank.rank == 0 else None)
    steps: StepBenchmark | None = None
    measured = StepTimesProfiled(error="not measured")

    def measure() -> None:
        nonlocal steps, measured
        try:
            device = select_device(rank)
            timer = make_timer(rank, workload, device)
            log.write(measure_device(device, timer, rank.device_index))
        except (RuntimeError, PacelineError) as error:  # torch's own: a lost device, a failing driver
            log.write(DeviceProfiled(error=_reason(error)))
            measured = StepTimesProfiled(error=_reason(error))
            log.write(measured)
            return
        progress.begin("steps of growing batches")
        try:
            new_steps = StepBenchmark(workload, task, load_splits(run_dir, plan, task)[0], timer, device)
            measured = measure_steps(new_steps, rank.device_index)
            measured = replace(measured, precision_speedups=measure_precisions(new_steps, measured.sizes[-1]))
            steps = new_steps
        except (RuntimeError, PacelineError) as error:
            measured = StepTimesProfiled(error=_reason(error))
        log.write(measured)

    # Devices are measured at the same time, as in training; CPUs of one machine share its cores and take turns.
    progress.begin("matrix products and copies")
    sharing = [peer.rank for peer in plan.ranks if peer.device_kind == "cpu" and _shares_machine(plan, peer.rank, rank.rank)]
    sync.run_in_turn("measure", sharing if rank.device_kind == "cpu" else [rank.rank], measure, RANK_PATIENCE_S)
    sync.publish("usable", "" if steps is not None else measured.error)
    unusable = {peer: error for peer, error in sync.collect("usable", all_ranks, RANK_PATIENCE_S).items() if error}
    if steps is not None and rank.device_kind == "cpu" and len(sharing) > 1:  # in training they compute at the same time
        measured = replace(measured, crowding=measure_crowding(steps.measure, measured.sizes, measured.seconds))
        log.write(measured)

    progress.begin("disks")
    if rank.rank == node.ranks[0]:
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        beside = [peer.ranks[0] for peer in plan.nodes if peer.address == node.address]
        sync.run_in_turn("disk", beside, lambda: log.write(measure_host(run_dir, versions)), DISK_S * 20)
        sync.collect("disk", [peer.ranks[0] for peer in plan.nodes], DISK_S * 20)
        progress.begin("links")
        measure_links(plan, node, sync, log.write)

    # From here on all ranks take part.
    sync.publish("links over")
    sync.collect("links over", all_ranks, RANK_PATIENCE_S)
    progress.begin("gradients and sums over all ranks")
    if unusable or steps is None:
        who = ", ".join(f"rank {peer} on {plan.node_of(peer).name}" for peer in unusable)
        _write_group_errors(rank, log, f"not measured: {who} cannot take part")
    else:
        try:
            group = form_group(plan, rank, steps.device, store, run_dir, log)
            gradient = measure_gradient(steps, group, measured.seconds_per_sample or 0.0, measured.largest_batch)
            total = measure_all_reduce(plan, group)
        except RuntimeError as error:
            _write_group_errors(rank, log, _reason(error))
        else:
            if rank.rank == 0:
                log.write(gradient)
                if total is not None:
                    log.write(total)
    progress.begin("")
    sync.publish("over")
    sync.collect("over", all_ranks, plan.timeout)


def _write_group_errors(rank: RankPlan, log: RankLog, reason: str) -> None:
    if rank.rank == 0:
        log.write(GradientProfiled(error=reason))
        log.write(AllReduceProfiled(error=reason))


def _shares_machine(plan: Plan, one: int, other: int) -> bool:
    return plan.node_of(one).address == plan.node_of(other).address


class _Progress:
    """Logs on rank 0 which part begins and how long the rest usually takes."""

    def __init__(self, plan: Plan, log: RankLog | None) -> None:
        self._log = log
        nodes = len(plan.nodes)
        alone = [
            sum(_shares_machine(plan, rank.rank, peer.rank) for peer in plan.ranks)
            for rank in plan.ranks
            if rank.device_kind == "cpu"
        ]
        disks = max(sum(place.address == peer.address for peer in plan.nodes) for place in plan.nodes)
        self._usual = {
            "matrix products and copies": DEVICE_S * max([1, *alone]),
            "steps of growing batches": STEPS_S * max([1, *alone]),
            "disks": DISK_S * disks,
            "links": LINK_ROUND_S * (nodes - 1 + nodes % 2),
            "gradients and sums over all ranks": GROUP_S,
            "": 0.0,
        }

    def begin(self, part: str) -> None:
        """Log that this part begins; empty: all is done."""
        if self._log is not None:
            parts, seconds = list(self._usual), list(self._usual.values())
            done, total = sum(seconds[: parts.index(part)]), sum(seconds)
            which, last = parts.index(part) + 1, len(parts) - 1
            if not part:
                which = last = 0
            event = ProfilingAdvanced(phase=part, fraction=done / total, seconds_left=total - done, part=which, parts=last)
            self._log.write(event)


def _reason(error: Exception) -> str:
    """Return the first line of an error, at most 300 characters."""
    first = str(error).strip().splitlines()
    return (error.reason if isinstance(error, PacelineError) else first[0] if first else type(error).__name__)[:300]


def main(run_dir: Path, node: str) -> int:
    """Profile; write any failure of the whole rank as one line to its file and to standard error. Return the exit status."""
    plan = read_run_plan(run_dir)
    rank = own_rank(plan, node)
    log = RankLog(run_dir / "ranks" / f"{rank.rank}.jsonl", rank.rank)
    try:
        profile(run_dir, plan, rank, log)
    except Exception as error:
        reason = _reason(error) if isinstance(error, PacelineError) else f"{type(error).__name__}: {_reason(error)}"
        print(f"rank {rank.rank} failed: {reason}", file=sys.stderr, flush=True)
        log.write_failure(reason, is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backend's threads may hang on a lost peer; everything is written already
