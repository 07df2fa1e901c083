"""Which part of a rank's own work grew: the cause of a slowdown, from the rank's own time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from ..states import WORK_CAUSES, WorkCause
from .step_phases import StepWork


def parts_of(work: StepWork) -> tuple[float, ...]:
    """Return the seconds of each part, in the order of WORK_CAUSES."""
    return work.model_seconds, work.data_seconds, work.copy_seconds, work.host_seconds


def find_cause(slow: Sequence[StepWork], expected: Sequence[tuple[float, ...]]) -> tuple[WorkCause, float, float]:
    """Return the part that grew most over some slow steps, its expected and its measured seconds, both medians.

    ``median_low`` is always one of the values, so nothing is rounded.
    """
    cause, cause_expected, cause_measured = WORK_CAUSES[0], 0.0, 0.0
    for index, name in enumerate(WORK_CAUSES):
        expected_seconds = median_low([parts[index] for parts in expected])
        measured_seconds = median_low([parts_of(work)[index] for work in slow])
        if index == 0 or measured_seconds - expected_seconds > cause_measured - cause_expected:
            cause, cause_expected, cause_measured = name, expected_seconds, measured_seconds
    return cause, cause_expected, cause_measured
