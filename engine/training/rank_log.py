"""The event log of one rank: writes whole, flushed lines to ranks/<rank>.jsonl, with steps folded into summaries and epochs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..balancer.step_phases import StepTimes
from ..errors import StorageFailed
from ..events import RankEpochEnded, RankEvent, RankFailed, StepsTaken
from ..wire import encode

LINE_INTERVAL_S = 0.25
"""Least seconds between two summaries: at most four lines a second."""
SECONDS_DIGITS, TIME_DIGITS = 6, 4
"""Decimals of step times and of the clock: random digits beyond them were a tenth of every link, run directory and recording."""
STEPS_AROUND_CHANGE = 3
"""Steps after a change of shares that each get their own line, as does the step before it."""


class RankLog:
    """Appends events to the file of one rank. No other process writes to it. Raises StorageFailed where it cannot be opened."""

    def __init__(self, path: Path, rank: int, process: int | None = None) -> None:
        """``process``: number of the process, where the first one on the device of this rank is gone."""
        self.case = ""
        """Name of the case of the following lines."""
        self._path, self._rank, self._process = path, rank, process
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise self._storage_error(error) from None

    def write(self, event: RankEvent) -> None:
        """Append one event with rank, case and time. Raises StorageFailed on a full disk and leaves no partial line."""
        stamped = dataclasses.replace(
            event, rank=self._rank, process=self._process, case=self.case, node_time=round(time.time(), TIME_DIGITS)
        )
        line = encode(stamped).encode() + b"\n"
        before = os.fstat(self._handle).st_size
        try:
            written = os.write(self._handle, line)
            while written < len(line):  # a partial write: the next call raises the reason
                written += os.write(self._handle, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # the first error is the one to report
                os.ftruncate(self._handle, before)
            raise self._storage_error(error) from None

    def write_failure(self, reason: str, *, is_collateral: bool) -> None:
        """Write the failure as the last line; dropped where it cannot be written, as standard error has it already."""
        with contextlib.suppress(StorageFailed):
            self.write(RankFailed(reason=reason, is_collateral=is_collateral))

    def _storage_error(self, error: OSError) -> StorageFailed:
        return StorageFailed(f"rank {self._rank} cannot write {self._path}: {error.strerror}", hint="free some space there")


@dataclasses.dataclass(frozen=True, slots=True)
class LoggedStep:
    """One measured step of one rank."""

    epoch: int
    step: int
    size: int
    """Samples of all ranks together."""
    times: StepTimes
    """Of this rank."""
    step_seconds: float
    loss: float | None


class StepLog:
    """Folds steps into summary lines; steps around a change of shares get their own lines."""

    def __init__(self, log: RankLog) -> None:
        self._log = log
        self._steps: list[LoggedStep] = []
        self._last_line = 0.0
        self._single_lines_left = 0

    def add(self, step: LoggedStep, *, is_change: bool, utilization: float | None, memory_used: int | None) -> None:
        """Add one step; ``is_change``: the balancer changed the shares after it."""
        if is_change:
            self.flush(utilization, memory_used)
            self._single_lines_left = STEPS_AROUND_CHANGE + 1
        if self._steps and self._steps[-1].times.samples != step.times.samples:
            self.flush(utilization, memory_used)  # a summary covers one local batch size
        self._steps.append(step)
        if self._single_lines_left > 0 or time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self.flush(utilization, memory_used)
        self._single_lines_left = max(0, self._single_lines_left - 1)

    def flush(self, utilization: float | None = None, memory_used: int | None = None) -> None:
        """Write the steps not written yet."""
        if not self._steps:
            return
        steps, self._steps, self._last_line = self._steps, [], time.monotonic()
        last, count = steps[-1], len(steps)

        def mean(seconds: Iterable[float]) -> float:
            return round(sum(seconds) / count, SECONDS_DIGITS)

        self._log.write(
            StepsTaken(
                epoch=last.epoch,
                step=last.step,
                steps=count,
                local_batch_size=last.times.samples,
                compute_seconds=mean(step.times.compute_seconds for step in steps),
                wait_seconds=mean(step.times.wait_seconds for step in steps),
                step_seconds=mean(step.step_seconds for step in steps),
                data_seconds=mean(step.times.data_seconds for step in steps),
                copy_seconds=mean(step.times.copy_seconds for step in steps),
                host_seconds=mean(step.times.host_seconds for step in steps),
                backward_seconds=mean(step.times.backward_seconds for step in steps),
                optimizer_seconds=mean(step.times.optimizer_seconds for step in steps),
                samples=sum(step.times.samples for step in steps),
                loss=last.loss,
                utilization=utilization,
                memory_used=memory_used,
            )
        )


@dataclasses.dataclass(slots=True)
class EpochSums:
    """Sums of one rank's full-size steps in an epoch."""

    steps: int = 0
    compute_seconds: float = 0.0
    wait_seconds: float = 0.0
    data_seconds: float = 0.0
    copy_seconds: float = 0.0
    host_seconds: float = 0.0
    backward_seconds: float = 0.0
    optimizer_seconds: float = 0.0

    def add(self, times: StepTimes) -> None:
        """Add one step."""
        self.steps += 1
        self.compute_seconds += times.compute_seconds
        self.wait_seconds += times.wait_seconds
        self.data_seconds += times.data_seconds
        self.copy_seconds += times.copy_seconds
        self.host_seconds += times.host_seconds
        self.backward_seconds += times.backward_seconds
        self.optimizer_seconds += times.optimizer_seconds

    def event(self, epoch: int, samples: int, seconds: float, least_waits: Sequence[float]) -> RankEpochEnded:
        """The end of the epoch for this rank. ``least_waits``: of any rank, step by step, seconds."""
        return RankEpochEnded(
            epoch=epoch,
            samples=samples,
            seconds=seconds,
            full_steps=self.steps,
            full_compute_seconds=self.compute_seconds,
            full_wait_seconds=self.wait_seconds,
            full_data_seconds=self.data_seconds,
            full_copy_seconds=self.copy_seconds,
            full_host_seconds=self.host_seconds,
            full_backward_seconds=self.backward_seconds,
            full_optimizer_seconds=self.optimizer_seconds,
            communication_seconds=sum(least_waits) / len(least_waits) if least_waits else None,
        )
