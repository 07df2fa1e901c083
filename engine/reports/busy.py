"""Warns if emulated devices missed their declared speeds, because then the machine was busy and the figures are disturbed.

Declared speeds reach only the pacing, so this compares the emulation with itself: it checks the measurement, not a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from ..plan import Plan, RankPlan
from .figures import CaseFigures, RunLines

MAX_SPEED_DEVIATION = 0.05
"""Relative deviation from the declared share of the total speed that raises a warning."""


def busy_warnings(plan: Plan, lines: RunLines, figures: list[CaseFigures]) -> list[str]:
    """One sentence per measurement whose ratios deviate from the declared ones by more than 5 %, with the devices."""
    measurements: dict[str, dict[int, float]] = {}
    for (case, rank), probe in sorted(lines.probes.items()):
        if probe.seconds_per_sample > 0:
            name = f"the probe of {case}" if case else "the probe"
            measurements.setdefault(name, {})[rank] = 1 / probe.seconds_per_sample
    for one in figures:
        rates = enumerate(one.standalone_samples_per_second)
        measurements[f"the standalone rates of {one.case.name}"] = {
            rank: _without_fixed(plan, rank, rate, (one.local_batch_sizes or ())[rank]) for rank, rate in rates if rate is not None
        }
    deviants: dict[str, list[str]] = {}
    for name, rates_by_rank in measurements.items():
        if deviant := _deviating_devices(plan, rates_by_rank):
            deviants.setdefault(deviant, []).append(name)  # cases share measurements, so equal warnings are merged
    return [f"machine was busy in {', '.join(names)}: {deviant}" for deviant, names in deviants.items()]


def _without_fixed(plan: Plan, rank: int, rate: float, size: int) -> float:
    """A standalone rate as it would be without the declared fixed cost of its micro-batch, which is no part of a speed."""
    emulation = plan.ranks[rank].emulation
    fixed = 0.0 if emulation is None else emulation.fixed
    return size / (size / rate - fixed) if 0 < fixed < size / rate else rate


def _deviating_devices(plan: Plan, rates: Mapping[int, float]) -> str:
    """The devices that deviate too far, as text; empty if none does or not all were measured."""
    declared = {rank.rank: rank.emulation.speed for rank in plan.ranks if rank.emulation and not rank.emulation.faults}
    if not declared or not declared.keys() <= rates.keys():
        return ""
    scale = fsum(declared.values()) / fsum(rates[rank] for rank in declared)
    deviations = {rank: rates[rank] * scale / speed - 1 for rank, speed in declared.items()}
    words = [
        f"{device_label(plan.ranks[rank])} {abs(stray):.0%} {'faster' if stray > 0 else 'slower'}"
        for rank, stray in deviations.items()
        if abs(stray) > MAX_SPEED_DEVIATION
    ]
    return f"{', '.join(words)} than its declared share" if words else ""


def device_label(rank: RankPlan) -> str:
    """Node and device name of a rank."""
    return f"{rank.node} {rank.device_name}"
