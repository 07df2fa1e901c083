"""Where the time of a step goes, by rank and epoch; which phase is the bottleneck, and what to try next. Pure.

Communication is the least wait of any rank: the last rank of a step waits for the network only. The rest of a wait is waiting for
other ranks. Host stalls are subtracted from forward and backward in proportion, because they are measured for both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from ..events import RankEpochEnded
from ..plan import CasePlan, Plan
from ..states import ADAPTIVE_POLICIES
from .figures import RunLines, working_ranks

OWN_PHASES = ("data", "host-to-device", "host", "forward", "backward")
PHASES = (*OWN_PHASES, "communication", "wait", "optimizer")
"""The phases of a step, in order."""
PHASE_NAMES = {"host-to-device": "copy to the device", "host": "stall of the processor"}
"""Names of phases for people, where they differ from those in documents."""
COMPUTE = "compute"
"""Forward and backward together."""
MIN_BOTTLENECK_SHARE = 0.10
"""Share of a step below which a phase is no bottleneck."""
_MAX_SECONDS = 1e9
"""Longer durations are garbage from a broken clock."""
_ADVICE = {
    "data": "keep the data on a local disk, make samples smaller, or give the node's loaders more cores",
    "host-to-device": "make samples smaller, as integers instead of floats; batches are copied from pinned memory already",
    "host": "another program, or another rank of this node, takes the processor of this rank: leave it a core of its own",
    "optimizer": "take fewer and larger steps (--accumulation {factor}); on GPUs the optimizer is a fused one already",
    COMPUTE: "nothing to fix: the devices compute; add devices to be faster",
}


@dataclass(frozen=True, slots=True)
class StepPhases:
    """Mean seconds of one rank's full-size steps, by phase."""

    seconds: tuple[float, ...]
    """In the order of ``PHASES``."""

    @property
    def whole(self) -> float:
        """Seconds of the step."""
        return fsum(self.seconds)

    @property
    def own(self) -> float:
        """Seconds of this rank's own work, which other ranks may wait for."""
        return fsum(self.seconds[: len(OWN_PHASES)])

    def of(self, phase: str) -> float:
        """Seconds of one phase."""
        return self.seconds[PHASES.index(phase)]

    def share(self, phase: str) -> float:
        """Fraction of the step, 0 to 1."""
        return self.of(phase) / self.whole if self.whole > 0 else 0.0


def phase_rows(plan: Plan, lines: RunLines, case: CasePlan) -> list[dict[str, Any]]:
    """One entry per rank and phase; none for a rank with an unknown phase, or without samples at the end of the case."""
    sums = lines.epoch_sums.get(case.name, {})
    epochs = sorted({epoch for _, epoch in sums})
    working = working_ranks(plan, lines, case)
    by_epoch = [_steps(working, sums, [epoch]) for epoch in epochs]
    return [
        {
            "rank": rank,
            "node": plan.ranks[rank].node,
            "index": plan.ranks[rank].device_index,
            "phase": phase,
            "seconds": step.seconds[place],
            "share": step.share(phase),
            "seconds_by_epoch": [steps[rank].seconds[place] if rank in steps else None for steps in by_epoch],
        }
        for rank, step in sorted(steady_phases(plan, lines, case).items())
        for place, phase in enumerate(PHASES)
    ]


def utilization(plan: Plan, lines: RunLines, case: CasePlan) -> float | None:
    """Fraction of a step in which a device computes (forward, backward, optimizer), mean over all ranks; None: unknown.

    A rank without samples computes nothing: it counts with 0, as its device stands idle.
    """
    steps = steady_phases(plan, lines, case)
    working = working_ranks(plan, lines, case)
    if not steps or len(steps) != len(working):
        return None
    parts = [fsum(step.share(phase) for phase in ("forward", "backward", "optimizer")) for step in steps.values()]
    return fsum(parts) / len(plan.ranks)


def bottleneck(plan: Plan, lines: RunLines, case: CasePlan) -> dict[str, Any] | None:
    """The phase that costs most, its rank, and what to try; None if any rank with samples has unknown phases.

    Compared are the phases of the rank that the others wait for, because only they lengthen the step, and the mean wait of all
    ranks. A phase that slows one rank costs that rank more than the mean wait of all ranks, so it is named first.
    """
    steps = steady_phases(plan, lines, case)
    if not steps or len(steps) != len(working_ranks(plan, lines, case)):
        return None
    last = max(steps, key=lambda rank: steps[rank].own)
    shares = {phase: steps[last].share(phase) for phase in PHASES if phase not in ("forward", "backward", "wait")}
    shares["wait"] = fsum(step.share("wait") for step in steps.values()) / len(steps)
    phase = max(shares, key=lambda name: shares[name])
    if shares[phase] < MIN_BOTTLENECK_SHARE:
        phase = COMPUTE
        shares[phase] = steps[last].share("forward") + steps[last].share("backward")
    rank = None if phase in ("communication", COMPUTE) else last
    return {
        "phase": phase,
        "share": shares[phase],
        "rank": rank,
        "node": None if rank is None else plan.ranks[rank].node,
        "advice": _advice(plan, case, phase, last),
    }


def bottleneck_sentence(entry: dict[str, Any]) -> str:
    """A bottleneck as a sentence."""
    whose = "" if entry["rank"] is None else f" ({'for ' if entry['phase'] == 'wait' else ''}rank {entry['rank']}, {entry['node']})"
    name = PHASE_NAMES.get(entry["phase"], entry["phase"])
    return f"{name}{whose} takes {entry['share'] * 100:.0f} % of a step: {entry['advice']}"


def _advice(plan: Plan, case: CasePlan, phase: str, last: int) -> str:
    """What to try next, without what is in use already."""
    if phase == "wait":
        if case.policy not in ADAPTIVE_POLICIES:
            return "share the batch by measured speed (--policy hybrid)"
        whom = f"rank {last} ({plan.ranks[last].node})"
        return f"{whom} takes longer than its share should: see stragglers, or raise the batch if it is only a few samples a rank"
    factor = _larger_batch(plan)
    if phase == "communication":
        tries = [f"a larger batch (--accumulation {factor}, with as many times the epochs)"] if factor > 1 else []
        tries += ["fewer bytes (--compression bf16)"] if plan.compression == "none" else []
        tries += ["fewer exchanges (--local-steps 8)"] if plan.local_steps == 1 else []
        tries += ["fewer devices (--devices auto)"] if len(plan.ranks) > 1 else []
        return "try " + ", ".join(tries)
    if phase == "optimizer" and factor < 2:
        return "the batch is all of the data already; on GPUs the optimizer is a fused one"
    return _ADVICE[phase].format(factor=factor)


def _larger_batch(plan: Plan) -> int:
    """The accumulation to try: up to 4, as far as the data has samples; 1: the batch has no room to grow."""
    rows = plan.data.training_rows
    return 4 if rows is None else max(1, min(4, rows // max(1, plan.global_batch_size)))


def steady_phases(plan: Plan, lines: RunLines, case: CasePlan) -> dict[int, StepPhases]:
    """Phases by rank without the first epoch, which warms up, unless it is the only one."""
    sums = lines.epoch_sums.get(case.name, {})
    epochs = sorted({epoch for _, epoch in sums})
    return _steps(working_ranks(plan, lines, case), sums, epochs[1:] or epochs)


def _steps(working: Sequence[int], sums: dict[tuple[int, int], RankEpochEnded], epochs: list[int]) -> dict[int, StepPhases]:
    """Phases by working rank over all full-size steps of the given epochs in which it had samples."""
    by_rank = {
        rank: [sums[rank, epoch] for epoch in epochs if (rank, epoch) in sums and sums[rank, epoch].samples] for rank in working
    }
    waits = [_mean(mine, "full_wait_seconds") for mine in by_rank.values()]
    known = [wait for wait in waits if wait is not None]
    # Ranks that report no communication (local steps do not) have at most the least of the ranks' mean waits.
    least = min(known) if len(known) == len(waits) and known else None
    steps = {rank: _step(mine, least) for rank, mine in by_rank.items()}
    return {rank: step for rank, step in steps.items() if step is not None}


def _step(mine: list[RankEpochEnded], least_wait: float | None) -> StepPhases | None:
    """The mean full-size step of one rank; None if a phase is unknown."""
    names = ("compute", "wait", "data", "copy", "host", "backward", "optimizer")
    means = [_mean(mine, f"full_{name}_seconds") for name in names]
    if least_wait is None or any(value is None for value in means):
        return None
    counted = [(line.communication_seconds, line.full_steps) for line in mine]
    communicated_lines = [
        (seconds, steps) for seconds, steps in counted if seconds is not None and abs(seconds) < _MAX_SECONDS and steps > 0
    ]
    communicated = (
        fsum(seconds * steps for seconds, steps in communicated_lines) / sum(steps for _, steps in communicated_lines)
        if communicated_lines
        else least_wait
    )
    compute, wait, data, copy, host, backward, optimizer = (max(0.0, value) for value in means if value is not None)
    passed = max(0.0, compute - data - copy)
    own = max(0.0, passed - host)
    behind = own * min(1.0, backward / passed) if passed > 0 else 0.0
    communicated = min(max(0.0, communicated), wait)
    return StepPhases((data, copy, passed - own, own - behind, behind, communicated, wait - communicated, optimizer))


def _mean(mine: list[RankEpochEnded], name: str) -> float | None:
    """Mean over all full-size steps; None if there is none, or a value is missing or impossible."""
    values = [getattr(line, name) for line in mine]
    known = [value for value in values if value is not None and abs(value) < _MAX_SECONDS]
    steps = sum(max(0, line.full_steps) for line in mine)
    return fsum(known) / steps if steps > 0 and len(known) == len(values) else None
