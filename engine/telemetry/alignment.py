"""Which moment of a second recording corresponds to one of the first: the same second since its run began, or the same step."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

from ..store.state import State
from .recording import Recording

Alignment = Literal["time", "step"]
_STEPS = b'{"kind":"StepsTaken"'
_RANK = re.compile(rb'"rank":[1-9]')
"""Of a line of another rank than 0, whose number is the default and not written."""
_CASE, _STEP, _AT = re.compile(rb'"case":"([^"]*)"'), re.compile(rb'"step":(\d+)'), re.compile(rb'"at":([0-9.eE+-]+)')


@dataclass(frozen=True, slots=True)
class RunTimes:
    """When the run of a recording began and took its steps."""

    start: float
    """Second of the stream at which its first run was planned; 0: it has none."""
    steps: tuple[tuple[int, int, float], ...] = ()
    """Index of the case, step, second of the stream; in their order."""

    def step_at(self, case: int, step: int) -> float | None:
        """When a step of a case was taken, or the first one after it; of a case that ended before, its last. None: no steps."""
        if not self.steps:
            return None
        index = bisect_left(self.steps, (case, step, 0.0))
        is_within = index < len(self.steps) and self.steps[index][0] == case
        return self.steps[index if is_within else max(0, index - 1)][2]


def read_run_times(recording: Recording) -> RunTimes:
    """Look for the first run and the steps of rank 0. Nearly no line is decoded: an hour takes a second or two."""
    cases: list[bytes] = []
    steps = []
    for _, line in recording.read_lines():
        if not line.startswith(_STEPS) or _RANK.search(line) or (at := _AT.search(line)) is None:
            continue
        case, step = _CASE.search(line), _STEP.search(line)
        name = case[1] if case is not None else b""
        if name not in cases:
            cases.append(name)
        steps.append((cases.index(name), int(step[1]) if step is not None else 0, float(at[1])))
    return RunTimes(recording.first_run_at() or 0.0, tuple(sorted(steps)))


def corresponding_moment(alignment: Alignment, at: float, state: State, first: RunTimes, second: RunTimes) -> float:
    """The second of the second recording's stream that belongs beside the first one's. ``at``, ``state``: of the first.

    By step where the first one's run has taken any; else, and before, by the seconds since each run began.
    """
    run = state.run
    if alignment == "step" and run is not None and run.current is not None and run.current.step is not None:
        moment = second.step_at(run.case, run.current.step)
        if moment is not None:
            return moment
    return max(0.0, second.start + at - first.start)
