"""The figures of one case, computed from what its ranks wrote: throughput, imbalance, standalone rates, balance efficiency.

Every definition is that of docs/design/results.md. Unknown is None and spreads to whatever is computed from it: a figure is whole
or absent, never a guess. The order in which lines of different ranks arrive changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import fsum

from ..events import (
    CaseEnded,
    DeviceProbed,
    EpochEnded,
    Event,
    RankEpochEnded,
    ReadingsRecorded,
    SharesChanged,
    StandaloneMeasured,
    StragglerEnded,
    StragglerFound,
)
from ..plan import CasePlan, Plan

SIZE_TOLERANCE = 0.05
"""A standalone rate holds for local batch sizes within this fraction of the one it was measured at."""


@dataclass(frozen=True, slots=True)
class RunLines:
    """The lines of all ranks that figures come from, each found by what it is about."""

    epochs: dict[str, dict[int, EpochEnded]] = field(default_factory=dict)
    """By case and epoch; rank 0's."""
    sums: dict[str, dict[tuple[int, int], RankEpochEnded]] = field(default_factory=dict)
    """By case, then by rank and epoch."""
    changes: dict[str, dict[int, SharesChanged]] = field(default_factory=dict)
    """By case and step."""
    ended: dict[str, CaseEnded] = field(default_factory=dict)
    standalone: dict[tuple[str, int], StandaloneMeasured] = field(default_factory=dict)
    """By case and rank."""
    probes: dict[tuple[str, int], DeviceProbed] = field(default_factory=dict)
    """By case and rank."""
    power: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)
    """By node and device index: (that node's clock, watts)."""
    found: list[StragglerFound] = field(default_factory=list)
    recovered: list[StragglerEnded] = field(default_factory=list)


def gather(events: Iterable[Event]) -> RunLines:
    """Sort out the lines; of two about the same thing the later one counts."""
    lines = RunLines()
    for event in events:
        match event:
            case EpochEnded(rank=0):
                lines.epochs.setdefault(event.case, {})[event.epoch] = event
            case RankEpochEnded():
                lines.sums.setdefault(event.case, {})[event.rank, event.epoch] = event
            case SharesChanged(rank=0):
                lines.changes.setdefault(event.case, {})[event.step] = event
            case CaseEnded(rank=0):
                lines.ended[event.case] = event
            case StandaloneMeasured():
                lines.standalone[event.case, event.rank] = event
            case DeviceProbed():
                lines.probes[event.case, event.rank] = event
            case ReadingsRecorded(node_time=float() as at):
                for device in event.devices:
                    if device.power is not None:
                        lines.power.setdefault((event.node, device.index), []).append((at, device.power))
            case StragglerFound():
                lines.found.append(event)
            case StragglerEnded():
                lines.recovered.append(event)
    return lines


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """What one case is worth, before it is compared with others."""

    case: CasePlan
    samples_per_second: float | None
    """First epoch left out: it pays for warming up and, in adaptive policies, for learning the devices."""
    samples_per_second_all: float | None
    standalone_samples_per_second: tuple[float | None, ...]
    """By rank, at the local batch sizes the case ended with."""
    balance_efficiency: float | None
    imbalance: float | None
    changes: int | None
    local_batch_sizes: tuple[int, ...] | None
    """At the end, by rank."""
    last_epoch: EpochEnded | None


def case_figures(plan: Plan, lines: RunLines, case: CasePlan) -> CaseFigures:
    """All figures of one case of the plan."""
    epochs = [epoch for _, epoch in sorted(lines.epochs.get(case.name, {}).items())]
    ended = lines.ended.get(case.name)
    sizes = ended.local_batch_sizes if ended else epochs[-1].local_batch_sizes if epochs else ()
    known_sizes = sizes if len(sizes) == len(plan.ranks) else None
    rates = tuple(
        _standalone(plan, lines, case, rank, known_sizes[rank]) if known_sizes else None for rank in range(len(plan.ranks))
    )
    throughput = rate(epochs[1:])
    return CaseFigures(
        case=case,
        samples_per_second=throughput,
        samples_per_second_all=rate(epochs),
        standalone_samples_per_second=rates,
        balance_efficiency=ratio(throughput, total(rates)),
        imbalance=_imbalance(plan, lines.sums.get(case.name, {})),
        changes=ended.changes if ended else len(lines.changes.get(case.name, {})) if epochs else None,
        local_batch_sizes=known_sizes,
        last_epoch=epochs[-1] if epochs else None,
    )


def rate(epochs: Iterable[EpochEnded]) -> float | None:
    """Samples per second over some epochs together: evaluation and checkpoints stand outside their seconds."""
    known = list(epochs)
    return ratio(sum(epoch.samples for epoch in known), fsum(epoch.seconds for epoch in known))


def ratio(value: float | None, base: float | None) -> float | None:
    """A quotient, unknown where either is unknown or the base is not above zero."""
    return None if value is None or base is None or base <= 0 else value / base


def total(values: Iterable[float | None]) -> float | None:
    """A sum, unknown as soon as one of its parts is."""
    known = list(values)
    return None if not known or None in known else fsum(value for value in known if value is not None)


def _standalone(plan: Plan, lines: RunLines, case: CasePlan, rank: int, size: int) -> float | None:
    """The rate of a rank alone at a local batch size: the nearest size measured, in this case or another, within 5 %."""
    order = [other.name for other in plan.cases]
    near = [
        (abs(line.local_batch_size - size), name != case.name, order.index(name), line.samples_per_second)
        for (name, measured_rank), line in lines.standalone.items()
        if measured_rank == rank and name in order and abs(line.local_batch_size - size) <= SIZE_TOLERANCE * size
    ]
    return min(near)[-1] if near else None


def _imbalance(plan: Plan, sums: dict[tuple[int, int], RankEpochEnded]) -> float | None:
    """(max - min) / mean of the ranks' mean compute seconds; full-size steps only, first epoch left out."""
    if not sums:
        return None
    first = min(epoch for _, epoch in sums)
    means: list[float | None] = []
    for rank in range(len(plan.ranks)):
        mine = [line for (owner, epoch), line in sums.items() if owner == rank and epoch > first]
        means.append(ratio(fsum(line.full_compute_seconds for line in mine), sum(line.full_steps for line in mine)))
    mean = ratio(total(means), len(means))
    known = [value for value in means if value is not None]
    return ratio(max(known) - min(known), mean) if mean is not None else None
