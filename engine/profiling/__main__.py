"""The program torchrun starts once a device to profile it: ``python -m paceline.engine.profiling RUN_DIR NODE``. Read it downwards.

What goes wrong with one device, disk or link stands in the line about it, and the rest goes on.
"""

from __future__ import annotations

import json
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
from ..training.data import load
from ..training.device import device_of, timer_for
from ..training.group import die_with_parent, form, is_collateral, meet, own_rank
from ..training.rank_log import RankLog
from ..training.tasks import task_of
from ..wire import from_plain
from ..workloads import WORKLOADS
from .device import measure_device
from .gradients import measure_gradient
from .host import measure_host
from .network import measure_all_reduce, measure_links
from .steps import Steps, measure_crowding, measure_steps
from .turns import Turns

DEVICE, STEPS, DISK, PAIRS, GROUP = 3.0, 18.0, 1.5, 1.5, 6.0
"""Seconds that parts usually take: a device, its steps, a disk, a round of pairs, and what needs the group."""
PATIENCE = 300.0
"""Seconds that a device may take which is measured alone."""


def profile(run_dir: Path, plan: Plan, rank: RankPlan, log: RankLog) -> None:
    """What one rank does, from meeting the others to leaving them."""
    if plan.workload not in WORKLOADS:
        raise PlanImpossible(f"this version knows no workload {plan.workload!r}", hint="known: " + ", ".join(WORKLOADS))
    workload = WORKLOADS[plan.workload]
    task = task_of(workload)
    node = plan.node_of(rank.rank)
    everyone = range(len(plan.ranks))
    turns = Turns(rank.rank, store := meet(plan, rank, run_dir, log))
    progress = _Progress(plan, log if rank.rank == 0 else None)
    steps: Steps | None = None
    measured = StepTimesProfiled(error="not measured")

    def measure() -> None:
        nonlocal steps, measured
        try:
            device = device_of(rank)
            timer = timer_for(rank, workload, device)
            log.write(measure_device(device, timer, rank.device_index))
        except (RuntimeError, PacelineError) as error:  # torch's own: a device that has gone, a driver that fails
            log.write(DeviceProfiled(error=_reason(error)))
            measured = StepTimesProfiled(error=_reason(error))
            log.write(measured)
            return
        progress.at("steps of growing batches")
        try:
            made = Steps(workload, task, load(run_dir, plan, task)[0], timer, device)
            measured = measure_steps(made, rank.device_index)
            steps = made
        except (RuntimeError, PacelineError) as error:
            measured = StepTimesProfiled(error=_reason(error))
        log.write(measured)

    # Devices at once, as they work in training; but processors of one machine share its cores, and take turns.
    progress.at("matrix products and copies")
    sharing = [peer.rank for peer in plan.ranks if peer.device_kind == "cpu" and _is_beside(plan, peer.rank, rank.rank)]
    turns.one_by_one("measure", sharing if rank.device_kind == "cpu" else [rank.rank], measure, PATIENCE)
    turns.say("usable", "" if steps is not None else measured.error)
    unusable = {peer: error for peer, error in turns.hear("usable", everyone, PATIENCE).items() if error}
    if steps is not None and rank.device_kind == "cpu" and len(sharing) > 1:  # in training they compute at once, all the same
        measured = replace(measured, crowding=measure_crowding(steps.seconds, measured.sizes, measured.seconds))
        log.write(measured)

    progress.at("disks")
    if rank.rank == node.ranks[0]:
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        beside = [place.ranks[0] for place in plan.nodes if place.address == node.address]
        turns.one_by_one("disk", beside, lambda: log.write(measure_host(run_dir, versions)), DISK * 20)
        turns.hear("disk", [place.ranks[0] for place in plan.nodes], DISK * 20)
        progress.at("links")
        measure_links(plan, node, turns, log.write)

    # From here on all ranks have to take part.
    turns.say("links over")
    turns.hear("links over", everyone, PATIENCE)
    progress.at("gradients and sums over all ranks")
    if unusable or steps is None:
        who = ", ".join(f"rank {peer} on {plan.node_of(peer).name}" for peer in unusable)
        _nothing_together(rank, log, f"not measured: {who} cannot take part")
    else:
        try:
            group = form(plan, rank, steps.device, store, log)
            gradient = measure_gradient(steps, group, measured.seconds_per_sample or 0.0, measured.largest_batch)
            total = measure_all_reduce(plan, group)
        except RuntimeError as error:
            _nothing_together(rank, log, _reason(error))
        else:
            if rank.rank == 0:
                log.write(gradient)
                if total is not None:
                    log.write(total)
    progress.at("")
    turns.say("over")
    turns.hear("over", everyone, plan.timeout)
    if rank.rank == 0:  # it holds the store
        turns.hear("gone", [peer for peer in everyone if peer != 0], plan.timeout)
    else:
        turns.say("gone")


def _nothing_together(rank: RankPlan, log: RankLog, reason: str) -> None:
    if rank.rank == 0:
        log.write(GradientProfiled(error=reason))
        log.write(AllReduceProfiled(error=reason))


def _is_beside(plan: Plan, one: int, other: int) -> bool:
    return plan.node_of(one).address == plan.node_of(other).address


class _Progress:
    """Tells, as rank 0, which part begins and how long the rest usually takes."""

    def __init__(self, plan: Plan, log: RankLog | None) -> None:
        self._log = log
        nodes = len(plan.nodes)
        alone = [
            sum(_is_beside(plan, rank.rank, peer.rank) for peer in plan.ranks) for rank in plan.ranks if rank.device_kind == "cpu"
        ]
        disks = max(sum(place.address == peer.address for peer in plan.nodes) for place in plan.nodes)
        self._usual = {
            "matrix products and copies": DEVICE * max([1, *alone]),
            "steps of growing batches": STEPS * max([1, *alone]),
            "disks": DISK * disks,
            "links": PAIRS * (nodes - 1 + nodes % 2),
            "gradients and sums over all ranks": GROUP,
            "": 0.0,
        }

    def at(self, part: str) -> None:
        """This part begins; empty: all is done."""
        if self._log is not None:
            parts, seconds = list(self._usual), list(self._usual.values())
            done, whole = sum(seconds[: parts.index(part)]), sum(seconds)
            which, last = parts.index(part) + 1, len(parts) - 1
            if not part:
                which = last = 0
            told = ProfilingAdvanced(phase=part, fraction=done / whole, seconds_left=whole - done, part=which, parts=last)
            self._log.write(told)


def _reason(error: Exception) -> str:
    """One line of what went wrong."""
    first = str(error).strip().splitlines()
    return (error.reason if isinstance(error, PacelineError) else first[0] if first else type(error).__name__)[:300]


def main(run_dir: Path, node: str) -> int:
    """Profile, and whatever goes wrong with this rank as a whole say it in one line."""
    die_with_parent()
    plan = from_plain(Plan, json.loads((run_dir / "plan.json").read_text()))
    rank = own_rank(plan, node)
    log = RankLog(run_dir / "ranks" / f"{rank.rank}.jsonl", rank.rank)
    try:
        profile(run_dir, plan, rank, log)
    except Exception as error:
        reason = _reason(error) if isinstance(error, PacelineError) else f"{type(error).__name__}: {_reason(error)}"
        print(f"rank {rank.rank} failed: {reason}", file=sys.stderr, flush=True)
        log.failed(reason, is_collateral=is_collateral(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]), sys.argv[2])
    sys.stdout.flush()
    os._exit(status)  # the backends' threads may hang on a peer that is gone; nothing is left to be written
