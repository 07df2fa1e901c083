"""Which part of a rank's own work grew: the cause of a slowdown, from the rank's own time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from .step_phases import StepWork

PARTS = ("compute", "data", "host-to-device", "host")
"""Causes by the part of a rank's own work they lie in; ``compute`` is forward and backward. ``network`` belongs to no rank."""


def parts_of(work: StepWork) -> tuple[float, ...]:
    """Return the seconds of each part, in the order of PARTS."""
    return work.model_seconds, work.data_seconds, work.copy_seconds, work.host_seconds


def find_cause(slow: Sequence[StepWork], expected: Sequence[tuple[float, ...]]) -> tuple[str, float, float]:
    """Return the part that grew most over some slow steps, its expected and its measured seconds, both medians.

    ``median_low`` is always one of the values, so nothing is rounded.
    """
    cause, cause_expected, cause_measured = PARTS[0], 0.0, 0.0
    for index, name in enumerate(PARTS):
        expected_seconds = median_low([parts[index] for parts in expected])
        measured_seconds = median_low([parts_of(work)[index] for work in slow])
        if index == 0 or measured_seconds - expected_seconds > cause_measured - cause_expected:
            cause, cause_expected, cause_measured = name, expected_seconds, measured_seconds
    return cause, cause_expected, cause_measured
