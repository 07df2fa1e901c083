"""The figures of one case, computed from rank events: throughput, imbalance, standalone rates, balance efficiency.

docs/design/results.md defines every figure. Unknown is None, and so is whatever depends on it: a figure is whole or absent, never a
guess. The order in which events of different ranks arrive does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import fsum

from ..balancer.step_time import is_same_size
from ..events import (
    BalanceJudged,
    BaselineMeasured,
    CaseEnded,
    CaseTested,
    DeviceProbed,
    EpochEnded,
    Event,
    MetricLogged,
    PaceFixed,
    RankEpochEnded,
    ReadingsRecorded,
    SharesChanged,
    StandaloneMeasured,
    StragglerEnded,
    StragglerFound,
)
from ..plan import CasePlan, Plan


@dataclass(frozen=True, slots=True)
class RunLines:
    """The events of all ranks that figures are computed from, indexed by subject."""

    epochs: dict[str, dict[int, EpochEnded]] = field(default_factory=dict)
    """By case and epoch; rank 0's."""
    epoch_sums: dict[str, dict[tuple[int, int], RankEpochEnded]] = field(default_factory=dict)
    """By case, then by rank and epoch."""
    changes: dict[str, dict[int, SharesChanged]] = field(default_factory=dict)
    """By case and step."""
    ended: dict[str, CaseEnded] = field(default_factory=dict)
    tested: dict[str, CaseTested] = field(default_factory=dict)
    """By case; rank 0's."""
    standalone: dict[tuple[str, int], StandaloneMeasured] = field(default_factory=dict)
    """By case and rank."""
    probes: dict[tuple[str, int], DeviceProbed] = field(default_factory=dict)
    """By case and rank."""
    baselines: dict[int, BaselineMeasured] = field(default_factory=dict)
    """By rank."""
    power: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)
    """By node and device index: (node's clock in seconds, watts)."""
    balance: dict[str, BalanceJudged] = field(default_factory=dict)
    """Of a script, by case."""
    rates: dict[str, float] = field(default_factory=dict)
    """Pace of emulated devices that the first steps of a script fixed, by case."""
    metrics: dict[str, dict[str, dict[int, float | None]]] = field(default_factory=dict)
    """That a script logged: by case, by name, by epoch."""
    stragglers_found: list[StragglerFound] = field(default_factory=list)
    stragglers_ended: list[StragglerEnded] = field(default_factory=list)


def gather_lines(events: Iterable[Event]) -> RunLines:
    """Index the events; a later event replaces an earlier one about the same subject."""
    lines = RunLines()
    for event in events:
        match event:
            case EpochEnded(rank=0):
                lines.epochs.setdefault(event.case, {})[event.epoch] = event
            case RankEpochEnded():
                lines.epoch_sums.setdefault(event.case, {})[event.rank, event.epoch] = event
            case SharesChanged(rank=0):
                lines.changes.setdefault(event.case, {})[event.step] = event
            case CaseEnded(rank=0):
                lines.ended[event.case] = event
            case CaseTested(rank=0):
                lines.tested[event.case] = event
            case StandaloneMeasured():
                lines.standalone[event.case, event.rank] = event
            case BaselineMeasured():
                lines.baselines[event.rank] = event
            case DeviceProbed():
                lines.probes[event.case, event.rank] = event
            case ReadingsRecorded(node_time=float() as at):
                for device in event.devices:
                    if device.power is not None:
                        lines.power.setdefault((event.node, device.index), []).append((at, device.power))
            case BalanceJudged(rank=0):
                lines.balance[event.case] = event
            case PaceFixed(rank=0):
                lines.rates[event.case] = event.rate
            case MetricLogged(rank=0):
                lines.metrics.setdefault(event.case, {}).setdefault(event.name, {})[event.epoch] = event.value
            case StragglerFound():
                lines.stragglers_found.append(event)
            case StragglerEnded():
                lines.stragglers_ended.append(event)
    return lines


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """The figures of one case, before it is compared with others."""

    case: CasePlan
    samples_per_second: float | None
    """First epoch left out: it includes warm-up and, with adaptive policies, learning the devices."""
    samples_per_second_all: float | None
    standalone_samples_per_second: tuple[float | None, ...]
    """By rank, at the local batch sizes the case ended with; None also for a rank without samples."""
    balance_efficiency: float | None
    """Throughput over the sum of the standalone rates of the ranks with samples."""
    imbalance: float | None
    changes: int | None
    local_batch_sizes: tuple[int, ...] | None
    """At the end of the case, by rank."""
    last_epoch: EpochEnded | None


def case_figures(plan: Plan, lines: RunLines, case: CasePlan) -> CaseFigures:
    """All figures of one case of the plan."""
    epochs = [epoch for _, epoch in sorted(lines.epochs.get(case.name, {}).items())]
    ended, known_sizes = lines.ended.get(case.name), last_sizes(plan, lines, case)
    rates = tuple(
        _standalone(plan, lines, case, rank, known_sizes[rank]) if known_sizes else None for rank in range(len(plan.ranks))
    )
    working = working_ranks(plan, lines, case)
    throughput = throughput_over(epochs[1:])
    return CaseFigures(
        case=case,
        samples_per_second=throughput,
        samples_per_second_all=throughput_over(epochs),
        standalone_samples_per_second=rates,
        balance_efficiency=ratio(throughput, total(rates[rank] for rank in working)),
        imbalance=_imbalance(working, lines.epoch_sums.get(case.name, {})),
        changes=ended.changes if ended else len(lines.changes.get(case.name, {})) if epochs else None,
        local_batch_sizes=known_sizes,
        last_epoch=epochs[-1] if epochs else None,
    )


def last_sizes(plan: Plan, lines: RunLines, case: CasePlan) -> tuple[int, ...] | None:
    """The newest known local batch sizes of a case, by rank."""
    ended, epochs = lines.ended.get(case.name), lines.epochs.get(case.name, {})
    sizes = ended.local_batch_sizes if ended else epochs[max(epochs)].local_batch_sizes if epochs else ()
    return sizes if len(sizes) == len(plan.ranks) else None


def working_ranks(plan: Plan, lines: RunLines, case: CasePlan) -> tuple[int, ...]:
    """The ranks that have samples when a case ends: a rank that is left out, or tried for a step, spoils no figure."""
    sizes = last_sizes(plan, lines, case)
    return tuple(rank.rank for rank in plan.ranks if sizes is None or sizes[rank.rank])


def best_known_rates(plan: Plan, lines: RunLines) -> tuple[float | None, ...]:
    """The largest standalone rate of each rank in any case: what a device that is left out could do."""
    rates: list[float | None] = []
    for rank in plan.ranks:
        known = [line.samples_per_second for (_, owner), line in lines.standalone.items() if owner == rank.rank]
        rates.append(max(known, default=None))
    return tuple(rates)


def throughput_over(epochs: Iterable[EpochEnded]) -> float | None:
    """Samples per second over epochs together; their seconds exclude evaluation and checkpoints."""
    known = list(epochs)
    return ratio(sum(epoch.samples for epoch in known), fsum(epoch.seconds for epoch in known))


def ratio(value: float | None, base: float | None) -> float | None:
    """Value over base; None if either is None or the base is not above zero."""
    return None if value is None or base is None or base <= 0 else value / base


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None if any part is None, or there is none."""
    known = list(values)
    return None if not known or None in known else fsum(value for value in known if value is not None)


def _standalone(plan: Plan, lines: RunLines, case: CasePlan, rank: int, size: int) -> float | None:
    """A rank's standalone rate at a local batch size: that of the nearest size in any case that serves for it."""
    order = [other.name for other in plan.cases]
    is_own_size = plan.script is not None  # alone a script trains the batch that it chooses
    near = [
        (abs(line.local_batch_size - size), name != case.name, order.index(name), line.samples_per_second)
        for (name, measured_rank), line in lines.standalone.items()
        if measured_rank == rank and name in order and size and (is_own_size or is_same_size(line.local_batch_size, size))
    ]
    return min(near)[-1] if near else None


def _imbalance(working: Sequence[int], sums: dict[tuple[int, int], RankEpochEnded]) -> float | None:
    """(max - min) / mean of the working ranks' mean compute seconds; full-size steps only, first epoch left out."""
    if not sums:
        return None
    first = min(epoch for _, epoch in sums)
    means: list[float | None] = []
    for rank in working:
        mine = [line for (owner, epoch), line in sums.items() if owner == rank and epoch > first and line.samples]
        means.append(ratio(fsum(line.full_compute_seconds for line in mine), sum(line.full_steps for line in mine)))
    mean = ratio(total(means), len(means))
    known = [value for value in means if value is not None]
    return ratio(max(known) - min(known), mean) if mean is not None else None
