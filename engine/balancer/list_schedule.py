"""List scheduling of independent trials on unlike devices: a trial goes to the device that would finish it first. Pure.

Source: R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17, 1969, with seconds by device as in
O. H. Ibarra and C. E. Kim, "Heuristic algorithms for scheduling independent tasks on nonidentical processors", J. ACM 24, 1977.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceQueue:
    """One device: how long a unit of work takes it, and when it is free."""

    seconds_per_work: float
    free_at: float = 0.0


def schedule(works: Sequence[float], devices: Sequence[DeviceQueue]) -> list[tuple[int, float, float]]:
    """Device, start and end of each trial. Longer trials are placed first; of alike ones, and of alike devices, the earlier."""
    free = [device.free_at for device in devices]
    placed: list[tuple[int, float, float]] = [(0, 0.0, 0.0)] * len(works)
    for trial in sorted(range(len(works)), key=lambda trial: -works[trial]):
        ends = [free[index] + works[trial] * device.seconds_per_work for index, device in enumerate(devices)]
        index = min(range(len(devices)), key=lambda index: ends[index])
        placed[trial] = index, free[index], ends[index]
        free[index] = ends[index]
    return placed


def makespan(works: Sequence[float], devices: Sequence[DeviceQueue]) -> float:
    """Seconds until the last trial ends; 0 without trials."""
    return max((end for _, _, end in schedule(works, devices)), default=0.0)


def next_trial(own: int, works: Sequence[float], devices: Sequence[DeviceQueue]) -> int | None:
    """The trial that the free device ``own`` takes now; None: others finish all that is left sooner."""
    mine = [(start, trial) for trial, (device, start, _) in enumerate(schedule(works, devices)) if device == own]
    return min(mine)[1] if mine else None
