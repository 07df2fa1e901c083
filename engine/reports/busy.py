"""Whether emulated devices kept their declared speeds; where they did not, the machine was busy and the figures say so.

Declared speeds reach only the pacing, so this compares the emulation with itself: a check of the measurement, not of a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from ..plan import Plan, RankPlan
from .figures import CaseFigures, RunLines

LIMIT = 0.05
"""Deviation from the declared share of the total speed beyond which figures carry a warning."""


def busy_warnings(plan: Plan, lines: RunLines, figures: list[CaseFigures]) -> list[str]:
    """One sentence for each measurement whose ratios differ from the declared ones by more than 5 %, naming the devices."""
    measurements: dict[str, dict[int, float]] = {}
    for (case, rank), probe in sorted(lines.probes.items()):
        if probe.seconds_per_sample > 0:
            name = f"the probe of {case}" if case else "the probe"
            measurements.setdefault(name, {})[rank] = 1 / probe.seconds_per_sample
    for one in figures:
        rates = enumerate(one.standalone_samples_per_second)
        measurements[f"the standalone rates of {one.case.name}"] = {rank: rate for rank, rate in rates if rate is not None}
    deviants: dict[str, list[str]] = {}
    for name, rates_by_rank in measurements.items():
        if deviant := _deviant(plan, rates_by_rank):
            deviants.setdefault(deviant, []).append(name)  # cases share measurements: say the same thing once
    return [f"machine was busy in {', '.join(names)}: {deviant}" for deviant, names in deviants.items()]


def _deviant(plan: Plan, rates: Mapping[int, float]) -> str:
    """The devices that stray too far, in words; empty where none does or where not all were measured."""
    declared = {rank.rank: rank.emulation.speed for rank in plan.ranks if rank.emulation and not rank.emulation.faults}
    if not declared or not declared.keys() <= rates.keys():
        return ""
    scale = fsum(declared.values()) / fsum(rates[rank] for rank in declared)
    strays = {rank: rates[rank] * scale / speed - 1 for rank, speed in declared.items()}
    words = [
        f"{device(plan.ranks[rank])} {abs(stray):.0%} {'faster' if stray > 0 else 'slower'}"
        for rank, stray in strays.items()
        if abs(stray) > LIMIT
    ]
    return f"{', '.join(words)} than its declared share" if words else ""


def device(rank: RankPlan) -> str:
    """What a person calls the device of a rank."""
    return f"{rank.node} {rank.device_name}"
