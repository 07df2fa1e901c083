"""Which part of a rank's work grew: the cause of a slowdown by its own stamps."""

from __future__ import annotations

from collections.abc import Sequence

from .step_phases import StepWork

PARTS = ("compute", "data", "host-to-device", "host")
"""What a rank's own work can be spent on; ``network`` is nobody's own."""


def parts_of(work: StepWork) -> tuple[float, ...]:
    """Seconds of each part, in the order of PARTS."""
    return work.model_seconds, work.data_seconds, work.copy_seconds, work.host_seconds


def find_cause(slow: Sequence[StepWork], expected: Sequence[tuple[float, ...]]) -> tuple[str, float, float]:
    """The part that grew most over some slow steps, its expected and its measured seconds. All are medians."""
    best = (PARTS[0], 0.0, 0.0)
    for index, name in enumerate(PARTS):
        ought = middle([parts[index] for parts in expected])
        took = middle([parts_of(work)[index] for work in slow])
        if index == 0 or took - ought > best[2] - best[1]:
            best = (name, ought, took)
    return best


def middle(values: Sequence[float]) -> float:
    """The lower median: always one of the values, so that nothing is rounded."""
    return sorted(values)[(len(values) - 1) // 2]
