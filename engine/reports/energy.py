"""Joules per sample, from the power readings that every node recorded during training. Pure.

Readings and rank lines of a node share its clock, so clocks of different machines are never compared. Emulated devices have no
power: a scripted value is no measurement.
"""

from __future__ import annotations

from math import fsum

from ..plan import CasePlan, Plan
from .figures import RunLines

MIN_POWER_READINGS = 3
"""Readings per device that a mean needs; a node records one every ten seconds."""


def joules_per_sample(plan: Plan, lines: RunLines, case: CasePlan) -> float | None:
    """Joules per sample of all devices together, first epoch left out; None if the power of any device is unknown."""
    epochs = {epoch: line for epoch, line in lines.epochs.get(case.name, {}).items() if epoch > 0}
    samples = sum(line.samples for line in epochs.values())
    joules = [_joules(plan, lines, case, rank.rank, set(epochs)) for rank in plan.ranks]
    known = [value for value in joules if value is not None]
    return fsum(known) / samples if samples > 0 and joules and len(known) == len(joules) else None


def device_hours(plan: Plan, lines: RunLines, case: CasePlan) -> float | None:
    """Hours of all devices together in the epochs of a case, the first included; None before the first has ended."""
    seconds = [line.seconds for line in lines.epochs.get(case.name, {}).values()]
    return fsum(seconds) * len(plan.ranks) / 3600 if seconds else None


def _joules(plan: Plan, lines: RunLines, case: CasePlan, rank: int, epochs: set[int]) -> float | None:
    """Joules of one rank's device: its mean power times the seconds of the given epochs."""
    place = plan.ranks[rank]
    lines_of_rank = [
        line for (owner, epoch), line in lines.epoch_sums.get(case.name, {}).items() if owner == rank and epoch in epochs
    ]
    if place.emulation is not None or len(lines_of_rank) != len(epochs):
        return None
    spans = [(line.node_time - line.seconds, line.node_time) for line in lines_of_rank if line.node_time is not None]
    readings = lines.power.get((place.node, place.device_index), ())
    watts = [power for at, power in readings if any(begin <= at <= end for begin, end in spans)]
    return fsum(watts) / len(watts) * fsum(line.seconds for line in lines_of_rank) if len(watts) >= MIN_POWER_READINGS else None
