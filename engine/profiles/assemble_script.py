"""Assembles the profile of a script from the steps of a run that measured it. Pure.

A script cannot be timed at sizes of our choice: its ranks were watched at equal shares, and then at those that the balancer tried.
What a step waits at least is its exchange, which is taken as the sum of one bucket that no backward hides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from ..events import CaseStarted, Event, RankFailed, StepsTaken
from ..plan import Plan
from .profile import AllReduceProfile, DeviceProfile, GradientProfile, Profile

SKIPPED_STEPS = 5
"""First steps, which are left out: memory is allocated, and the pace of emulated devices is not fixed before the third."""
LINE_RATIO = 1.2
"""Ratio of the largest to the smallest size from which a line has a fixed part; below it noise would decide."""
NOMINAL_BYTES = 1 << 20
"""Of the one bucket: the bytes of a script's gradient are not known, only the seconds of its exchange are."""


def assemble_script(plan: Plan, events: Iterable[Event], measured: float) -> Profile:
    """Return the profile of the devices of a plan; a device that was not seen training has an ``error``."""
    steps: dict[int, list[StepsTaken]] = defaultdict(list)
    failed: dict[int, str] = {}
    batch: int | None = None
    for event in events:
        if isinstance(event, StepsTaken) and event.step - event.steps + 1 >= SKIPPED_STEPS and event.steps > 0:
            steps[event.rank].append(event)
        elif isinstance(event, CaseStarted) and event.rank == 0:
            batch = sum(event.local_batch_sizes) or None
        elif isinstance(event, RankFailed) and not event.is_collateral:
            failed[event.rank] = event.reason
    devices = []
    for rank in plan.ranks:
        taken = [one for one in steps[rank.rank] if one.local_batch_size > 0 and one.compute_seconds > 0]
        sizes, seconds = _medians(taken)
        line = _line(sizes, seconds)
        devices.append(
            DeviceProfile(
                node=rank.node,
                index=rank.device_index,
                name=rank.device_name,
                kind=rank.device_kind,
                memory=rank.memory,
                sizes=sizes,
                seconds=seconds,
                fixed_seconds=line and line[0],
                seconds_per_sample=line and line[1],
                error="" if line else failed.get(rank.rank) or f"it trained no {SKIPPED_STEPS} batches whose size could be seen",
            )
        )
    waits = [median([one.wait_seconds for one in steps[rank.rank]]) for rank in plan.ranks if steps[rank.rank]]
    exposed = max(min(waits, default=0.0), 0.0) if len(waits) > 1 else 0.0
    optimizer = median([one.optimizer_seconds for one in steps[0]]) if steps[0] else 0.0
    return Profile(
        workload=plan.workload,
        devices=tuple(devices),
        all_reduce=AllReduceProfile(len(plan.ranks), 0.0, NOMINAL_BYTES / exposed) if exposed > 0 else None,
        gradient=GradientProfile((NOMINAL_BYTES,), (1.0,), 1 / 3, max(optimizer, 0.0)) if exposed > 0 else None,
        is_network_emulated=plan.is_network_emulated,
        measured=measured,
        global_batch_size=batch,
    )


def _medians(taken: Sequence[StepsTaken]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Local batch sizes, ascending, and the median compute seconds of each."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for one in taken:
        by_size[one.local_batch_size].append(one.compute_seconds)
    return tuple(sorted(by_size)), tuple(median(by_size[size]) for size in sorted(by_size))


def _line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float] | None:
    """Fixed seconds and seconds a sample: least squares over relative errors, or through the origin; None without a size."""
    if not sizes:
        return None
    slope = median(second / size for size, second in zip(sizes, seconds, strict=True))
    if sizes[-1] < LINE_RATIO * sizes[0]:
        return 0.0, slope
    weights = [1 / second**2 for second in seconds]
    total = sum(weights)
    mean_size = sum(weight * size for weight, size in zip(weights, sizes, strict=True)) / total
    mean_seconds = sum(weight * second for weight, second in zip(weights, seconds, strict=True)) / total
    spread = sum(weight * (size - mean_size) ** 2 for weight, size in zip(weights, sizes, strict=True))
    joint = sum(
        weight * (size - mean_size) * (second - mean_seconds) for weight, size, second in zip(weights, sizes, seconds, strict=True)
    )
    per_sample = joint / spread
    fixed = mean_seconds - per_sample * mean_size
    return (fixed, per_sample) if per_sample > 0 and fixed >= 0 else (0.0, slope)
