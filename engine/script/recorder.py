"""Records what a script does as the events that our own trainer writes: epochs, steps, shares, stragglers, metrics.

A script that runs without Paceline is not recorded.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from ..balancer.policies import Decision, Memory
from ..balancer.step_phases import StepWork
from ..balancer.step_time import StepTime
from ..balancer.stragglers import StragglerState, detect_stragglers, initial_state
from ..events import (
    BalanceJudged,
    CaseEnded,
    CaseStarted,
    EpochEnded,
    MetricLogged,
    PaceFixed,
)
from ..states import Policy
from ..training.guard import Guard
from ..training.rank_log import EpochSums, LoggedStep, RankLog, StepLog
from ..training.shares.agreed_shares import shares_changed
from .judge import Judge
from .timing import ScriptTimer

MIN_FITTED_STEPS = 5
"""Steps whose median is a rank's healthy speed: without a profile, stragglers are detected after them only."""


class StopScript(BaseException):
    """The script has taken the steps for which it is measured. No ``Exception``, so that it passes what a script catches."""


class ScriptRecorder:
    """Keeps nothing: a script outside Paceline. Its subclass writes the rank's file."""

    def begin_at(self, epoch: int) -> None:
        """The epochs before were trained by the run that this one goes on from."""

    def begin_step(self, step: int) -> None:
        """A step begins."""

    def end_step(self, timer: ScriptTimer) -> None:
        """The optimizer has stepped."""

    def report(self, step: int, size: int, works: Sequence[StepWork], loss: float | None) -> None:
        """The work of all ranks in one step of ``size`` samples has arrived."""

    def shares_changed(self, step: int, decision: Decision, before: Memory) -> None:
        """The balancer's decision holds from now on."""

    def judged(self, judge: Judge, loss: str | None, door: str | None = None) -> None:
        """It is known whether the script can be balanced."""

    def begin_epochs(self, policy: Policy, sizes: tuple[int, ...]) -> None:
        """The training loader is known."""

    def end_epoch(self, timer: ScriptTimer, sizes: tuple[int, ...]) -> None:
        """The training loader is exhausted."""

    def log(self, name: str, value: float) -> None:
        """The script logged a value."""

    def pace_fixed(self, rate: float) -> None:
        """The pace of emulated devices is known."""

    def close(self, timer: ScriptTimer, sizes: tuple[int, ...]) -> None:
        """The script has ended."""


class RankRecorder(ScriptRecorder):
    """Writes the file of one rank, inside the guard: nothing here can end a training."""

    def __init__(self, log: RankLog, rank: int, world: int, door: str) -> None:
        self._log, self._guard, self._rank, self._world, self._door = log, Guard(log), rank, world, door
        self._steps = StepLog(log)
        self._unmeasured: deque[tuple[int, float]] = deque()
        self._reports: dict[int, tuple[int, float | None]] = {}
        self._epoch = 0
        self._epochs_begun = False
        self._started = self._step_started = time.perf_counter()
        self._last_gradient = self._started
        self._is_epoch_open = False
        self._step = 0
        self._full_size = 0
        self._sums = EpochSums()
        self._samples = 0
        self._global_samples = 0
        self._waits: list[float] = []
        self._losses: list[tuple[float, int]] = []
        self._stragglers: StragglerState = initial_state(world)
        self._first_works: list[tuple[StepWork, ...]] = []
        self._healthy: tuple[StepTime, ...] | None = None
        self._is_changed = False
        self._changes = 0
        self._reported: tuple[str, str | None] | None = None

    def begin_epochs(self, policy: Policy, sizes: tuple[int, ...]) -> None:
        """Write the start of the case."""
        self._full_size = sum(sizes)
        if self._rank == 0 and not self._epochs_begun:
            self._guard.write(CaseStarted(policy=policy, local_batch_sizes=sizes))
        self._epochs_begun = True

    def begin_at(self, epoch: int) -> None:
        """Count epochs from this one."""
        self._epoch = epoch

    def begin_step(self, step: int) -> None:
        """Start the clock of a step, and of an epoch with its first one."""
        self._step, self._step_started = step, time.perf_counter()
        if not self._is_epoch_open:
            self._is_epoch_open, self._started = True, self._step_started

    def report(self, step: int, size: int, works: Sequence[StepWork], loss: float | None) -> None:
        """Keep the sizes and loss of a step, and look for stragglers. ``works``: empty where their seconds mean nothing yet."""
        self._last_gradient = time.perf_counter()
        self._reports[step] = (size, loss)
        self._global_samples += size
        if loss is not None:
            self._losses.append((loss, size))
        if len(self._reports) > 64:
            self._reports.pop(next(iter(self._reports)))
        waits = [work.wait_seconds for work in works if work.seconds > 0]
        if step > 1 and works and len(waits) == len(works):
            self._waits.append(min(waits))
        if self._rank == 0 and works and size == self._full_size:
            self._guard.attempt("alerts", self._watch, step, tuple(works), otherwise=None)

    def _watch(self, step: int, works: tuple[StepWork, ...]) -> None:
        if self._healthy is None:
            self._first_works.append(works)
            if len(self._first_works) < MIN_FITTED_STEPS:
                return
            rates = []
            for rank in range(self._world):
                per_sample = sorted(one[rank].seconds / one[rank].samples for one in self._first_works if one[rank].samples > 0)
                rates.append(StepTime(0.0, per_sample[len(per_sample) // 2] if per_sample else 1.0))
            self._healthy = tuple(rates)
        self._stragglers, events = detect_stragglers(self._healthy, self._stragglers, step, works)
        for event in events:
            self._guard.write(event)

    def shares_changed(self, step: int, decision: Decision, before: Memory) -> None:
        """Write the change."""
        self._is_changed = True
        self._changes += 1
        if self._rank == 0:
            self._guard.write(shares_changed(step, before, decision))

    def judged(self, judge: Judge, loss: str | None, door: str | None = None) -> None:
        """Write the verdict; a script that runs as it is also says so in its output."""
        self._door = door or self._door
        reason = judge.reason if judge.state == "as-is" else None
        if self._rank != 0 or self._reported == (judge.state, reason):
            return
        self._reported = (judge.state, reason)
        self._guard.write(BalanceJudged(state=judge.state, door=self._door, loss=loss, reason=reason))
        if reason is not None:
            print(f"paceline: not balanced, the script runs as it is: {reason}", flush=True)

    def end_step(self, timer: ScriptTimer) -> None:
        """Write what is measured by now."""
        self._unmeasured.append((self._step, time.perf_counter() - self._step_started))
        self._guard.attempt("logging", self._log_measured, timer, otherwise=None)

    def _log_measured(self, timer: ScriptTimer) -> None:
        for times in timer.take_measured():
            seconds = 0.0
            while self._unmeasured:
                step, seconds = self._unmeasured.popleft()
                if step == times.step:
                    break
            size, loss = self._reports.get(times.step, (0, None))
            self._samples += times.samples
            if size == self._full_size and times.samples:
                self._sums.add(times)
            self._steps.add(
                LoggedStep(epoch=self._epoch, step=times.step, size=size, times=times, step_seconds=seconds, loss=loss),
                is_change=self._is_changed,
                utilization=timer.utilization(),
                memory_used=timer.memory_used(),
            )
            self._is_changed = False

    def end_epoch(self, timer: ScriptTimer, sizes: tuple[int, ...]) -> None:
        """Write the sums of an epoch; rank 0 also its end."""
        if not self._is_epoch_open:
            return
        self._is_epoch_open = False
        timer.synchronize()
        self._guard.attempt("logging", self._log_measured, timer, otherwise=None)
        seconds = max(self._last_gradient - self._started, 0.0)
        self._guard.attempt("logging", self._steps.flush, timer.utilization(), timer.memory_used(), otherwise=None)
        self._guard.write(self._sums.event(self._epoch, self._samples, seconds, self._waits))
        if self._rank == 0:
            weight = sum(size for _, size in self._losses)
            self._guard.write(
                EpochEnded(
                    epoch=self._epoch,
                    samples=self._global_samples,
                    seconds=seconds,
                    training_loss=sum(loss * size for loss, size in self._losses) / weight if weight else None,
                    local_batch_sizes=sizes,
                )
            )
        self._epoch += 1
        self._sums, self._waits, self._losses = EpochSums(), [], []
        self._samples = self._global_samples = 0

    def log(self, name: str, value: float) -> None:
        """Write a value of the newest epoch, which may still run or just have ended."""
        epoch = self._epoch if self._is_epoch_open else max(0, self._epoch - 1)
        if self._rank == 0:
            self._guard.write(MetricLogged(name=name, epoch=epoch, value=value if math.isfinite(value) else None))

    def pace_fixed(self, rate: float) -> None:
        """Write the pace."""
        if self._rank == 0:
            self._guard.write(PaceFixed(rate=rate))

    def close(self, timer: ScriptTimer, sizes: tuple[int, ...]) -> None:
        """End a last epoch that was broken off, and the case."""
        self.end_epoch(timer, sizes)
        if self._rank == 0 and self._epochs_begun:
            self._guard.write(CaseEnded(local_batch_sizes=sizes, changes=self._changes))
