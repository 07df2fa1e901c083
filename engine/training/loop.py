"""The training loop of one case: its epochs, the shares of its policy, and the events that every rank logs."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch

from ..balancer.policies import Memory, Observation, Problem, decide, sizes_for, start
from ..balancer.step_phases import StepTimes
from ..balancer.stragglers import StragglerState, detect_stragglers, initial_state
from ..events import CaseEnded, CaseStarted, EpochEnded, RankEpochEnded, SharesChanged
from ..workloads import Workload
from .data import Split
from .group.process_group import Group
from .rank_log import LoggedStep, RankLog, StepLog
from .shares.sampler import SamplerState
from .shares.step_stats import RankReport
from .trainer import Trainer

_EVALUATION_BATCH = 256


@dataclass(slots=True, kw_only=True)
class Case:
    """One case on one rank."""

    workload: Workload
    problem: Problem
    trainer: Trainer
    validation: Split
    group: Group
    log: RankLog
    seed: int
    epochs: int
    _stragglers: StragglerState = field(init=False)
    """Straggler detection, on rank 0 only."""

    def train(self) -> tuple[Memory, int]:
        """Train all epochs. Return the balancer's memory and the number of steps taken."""
        memory = start(self.problem)
        self._stragglers = initial_state(self.group.size)
        if self.group.rank == 0:
            self.log.write(CaseStarted(policy=self.problem.policy, local_batch_sizes=memory.local_batch_sizes))
        steps = 0
        for epoch in range(self.epochs):
            memory, steps = self._train_epoch(epoch, memory, steps)
        if self.group.rank == 0:
            self.log.write(CaseEnded(local_batch_sizes=memory.local_batch_sizes, changes=memory.changes))
        return memory, steps

    def _train_epoch(self, epoch: int, memory: Memory, step: int) -> tuple[Memory, int]:
        trainer, samples = self.trainer, len(self.trainer.data)
        trainer.reset()
        recorder = _EpochRecorder(self, epoch)
        state = SamplerState(samples, self.seed, epoch)
        while state.epoch == epoch:
            size = state.next_size(self.problem.global_batch_size)
            recorder.begin_step(step, size)
            sizes = sizes_for(self.problem, memory, size)
            report = trainer.step(step, state, sizes)
            state = state.advance(size)
            if state.epoch != epoch:
                trainer.timer.synchronize()  # a GPU runs behind its host: an epoch ends with the device's last gradient
            recorder.mark_last_gradient()
            before, memory = memory, self._rebalance(memory, report, step)
            step += 1
            recorder.end_step(report, is_change=memory.changes != before.changes)
        recorder.close()
        trainer.step_stats.check_pending()
        self._evaluate(epoch, samples, recorder.seconds, memory)
        return memory, step

    def _rebalance(self, memory: Memory, report: RankReport | None, step: int) -> Memory:
        """Return the memory after a full step; smaller last steps are ignored. Every rank decides the same from the same report."""
        if report is None or report.size != self.problem.global_batch_size:
            return memory
        if self.group.rank == 0:
            self._stragglers, events = detect_stragglers(self.problem.profile, self._stragglers, report.step, report.work)
            for event in events:
                self.log.write(event)
        observed = [Observation(seconds, samples) for seconds, samples in zip(report.seconds, report.samples, strict=True)]
        decision = decide(self.problem, memory, observed)
        if decision.is_change and self.group.rank == 0:
            self.log.write(
                SharesChanged(
                    step=step + 1,
                    before=memory.local_batch_sizes,
                    after=decision.local_batch_sizes,
                    reason=decision.reason,
                    predicted_before=decision.predicted_before,
                    predicted_after=decision.predicted_after,
                )
            )
        return decision.memory

    def _evaluate(self, epoch: int, samples: int, seconds: float, memory: Memory) -> None:
        """Evaluate an equal part of the validation data per rank, without pacing; sums over ranks are exact. Collective."""
        trainer, count = self.trainer, len(self.validation)
        model, task = trainer.replica.model, trainer.task
        rank, world = self.group.rank, self.group.size
        loss, metric = (torch.zeros((), dtype=torch.float64, device=trainer.device) for _ in range(2))
        trainer.pool_statistics(self.group)
        first, last = count * rank // world, count * (rank + 1) // world
        model.eval()
        with torch.no_grad():
            for begin in range(first, last, _EVALUATION_BATCH):
                x, y = self.validation.load_rows(np.arange(begin, min(begin + _EVALUATION_BATCH, last)), trainer.device)
                output = model(x)
                loss += task.loss_sum(output, y)
                metric += task.metric_sum(output, y)
        model.train()
        sums = self.group.exact_sum([float(trainer.loss_sum), float(loss), float(metric)])
        if rank == 0:
            self.log.write(
                EpochEnded(
                    epoch=epoch,
                    epochs=self.epochs,
                    samples=samples,
                    seconds=seconds,
                    training_loss=sums[0] / trainer.data.total_weight(),
                    loss=sums[1] / self.validation.total_weight(),
                    metric=sums[2] / self.validation.total_weight(),
                    metric_name=self.workload.metric,
                    local_batch_sizes=memory.local_batch_sizes,
                )
            )


@dataclass(slots=True)
class _StepSums:
    """Number of some steps, and the sums of their times."""

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


class _EpochRecorder:
    """Records one rank's epoch: logs its steps and their sums."""

    def __init__(self, case: Case, epoch: int) -> None:
        self._case, self._epoch, self._timer = case, epoch, case.trainer.timer
        self._step_log = StepLog(case.log)
        self._unmeasured: deque[tuple[int, int, float]] = deque()
        """(step, size, step seconds) of steps whose compute seconds are not measured yet."""
        self._start = self._step_start = time.perf_counter()
        self._step = self._size = self._samples = 0
        self._full_steps = _StepSums()
        """Of the full-size steps."""
        self._least_waits: list[float] = []
        self._first_step = -1
        self.seconds = 0.0
        """From the first step to the last gradient."""

    def begin_step(self, step: int, size: int) -> None:
        self._step, self._size, self._step_start = step, size, time.perf_counter()
        self._first_step = step if self._first_step < 0 else self._first_step

    def mark_last_gradient(self) -> None:
        self.seconds = time.perf_counter() - self._start

    def end_step(self, report: RankReport | None, *, is_change: bool) -> None:
        self._unmeasured.append((self._step, self._size, time.perf_counter() - self._step_start))
        self._log_measured_steps(report, is_change=is_change)
        self._record_least_wait(report)

    def _record_least_wait(self, report: RankReport | None) -> None:
        """Keep the least wait of a step: the last rank waits for communication only. Waits come one step late, a GPU's two."""
        if report is None or self._case.trainer.local_sgd is not None:  # local SGD waits for an average only every few steps
            return
        first_reported = self._first_step + (2 if self._case.trainer.step_stats.reads_one_step_late else 1)
        if report.step >= first_reported and all(work.seconds > 0 for work in report.work):
            self._least_waits.append(min(work.wait_seconds for work in report.work))

    def close(self) -> None:
        """Log the remaining steps and the sums of the epoch."""
        self._step_log.flush(self._timer.utilization(), self._timer.memory_used())
        self._case.log.write(
            RankEpochEnded(
                epoch=self._epoch,
                samples=self._samples,
                seconds=self.seconds,
                full_steps=self._full_steps.steps,
                full_compute_seconds=self._full_steps.compute_seconds,
                full_wait_seconds=self._full_steps.wait_seconds,
                full_data_seconds=self._full_steps.data_seconds,
                full_copy_seconds=self._full_steps.copy_seconds,
                full_host_seconds=self._full_steps.host_seconds,
                full_backward_seconds=self._full_steps.backward_seconds,
                full_optimizer_seconds=self._full_steps.optimizer_seconds,
                communication_seconds=sum(self._least_waits) / len(self._least_waits) if self._least_waits else None,
            )
        )

    def _log_measured_steps(self, report: RankReport | None, *, is_change: bool) -> None:
        for times in self._timer.take_measured():
            step, size, seconds = self._unmeasured.popleft()
            self._samples += times.samples
            if size == self._case.problem.global_batch_size:
                self._full_steps.add(times)
            self._step_log.add(
                LoggedStep(
                    epoch=self._epoch,
                    step=step,
                    size=size,
                    times=times,
                    step_seconds=seconds,
                    loss=report.loss if report is not None else None,
                ),
                is_change=is_change,
                utilization=self._timer.utilization(),
                memory_used=self._timer.memory_used(),
            )
