"""What a sample cost in joules, by the watts that every node kept while it trained. Pure.

A node's clock dates its readings and its ranks' lines alike, so no clocks of different machines are compared. Emulated devices have
no power: what a script plays is no measurement.
"""

from __future__ import annotations

from math import fsum

from ..plan import CasePlan, Plan
from .figures import RunLines

LEAST = 3
"""Readings of a device from which on their mean stands for a case: a node keeps one every ten seconds."""


def joules_per_sample(plan: Plan, lines: RunLines, case: CasePlan) -> float | None:
    """Of all devices together, first epoch left out; None as soon as the power of one of them is unknown."""
    epochs = {epoch: line for epoch, line in lines.epochs.get(case.name, {}).items() if epoch > 0}
    samples = sum(line.samples for line in epochs.values())
    joules = [_joules(plan, lines, case, rank.rank, set(epochs)) for rank in plan.ranks]
    known = [value for value in joules if value is not None]
    return fsum(known) / samples if samples > 0 and joules and len(known) == len(joules) else None


def _joules(plan: Plan, lines: RunLines, case: CasePlan, rank: int, epochs: set[int]) -> float | None:
    """Of one rank's device in some epochs: its mean power times their seconds."""
    place = plan.ranks[rank]
    told = [line for (owner, epoch), line in lines.sums.get(case.name, {}).items() if owner == rank and epoch in epochs]
    if place.emulation is not None or len(told) != len(epochs):
        return None
    spans = [(line.node_time - line.seconds, line.node_time) for line in told if line.node_time is not None]
    readings = lines.power.get((place.node, place.device_index), ())
    watts = [power for at, power in readings if any(begin <= at <= end for begin, end in spans)]
    return fsum(watts) / len(watts) * fsum(line.seconds for line in told) if len(watts) >= LEAST else None
