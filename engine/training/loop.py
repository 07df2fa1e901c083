"""One case: the model fresh from the seed, its epochs, the shares its policy gives, and what every rank writes down about it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch

from ..balancer.policies import Memory, Observation, Problem, decide, sizes_for, start
from ..balancer.step_phases import StepTimes
from ..balancer.stragglers import Watch, start_watch, watch
from ..events import CaseEnded, CaseStarted, EpochEnded, RankEpochEnded, SharesChanged
from ..workloads import Workload
from .data import Split
from .group import Group
from .rank_log import LoggedStep, RankLog, StepLog
from .shares.sampler import SamplerState
from .shares.step_stats import RankReport
from .trainer import Trainer

_EVALUATION_BATCH = 256


@dataclass(slots=True)
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
    _watch: Watch = field(init=False)
    """Of rank 0: who is a straggler."""

    def train(self) -> tuple[Memory, int]:
        """All epochs. Returns what the balancer remembers and how many steps were taken."""
        memory = start(self.problem)
        self._watch = start_watch(self.group.size)
        if self.group.rank == 0:
            self.log.write(CaseStarted(policy=self.problem.policy, local_batch_sizes=memory.local_batch_sizes))
        taken = 0
        for epoch in range(self.epochs):
            memory, taken = self._epoch(epoch, memory, taken)
        if self.group.rank == 0:
            self.log.write(CaseEnded(local_batch_sizes=memory.local_batch_sizes, changes=memory.changes))
        return memory, taken

    def _epoch(self, epoch: int, memory: Memory, taken: int) -> tuple[Memory, int]:
        trainer, samples = self.trainer, len(self.trainer.data)
        trainer.reset()
        book = _EpochBook(self, epoch)
        state = SamplerState(samples, self.seed, epoch)
        while state.epoch == epoch:
            size = state.next_size(self.problem.global_batch_size)
            book.step_begins(taken, size)
            sizes = sizes_for(self.problem, memory, size)
            report = trainer.step(taken, state, sizes)
            state = state.next(size)
            if state.epoch != epoch:
                trainer.timer.settle()  # the host of a GPU is ahead of it: an epoch ends with the device's last gradient
            book.last_gradient()
            before, memory = memory, self._balanced(memory, report, taken)
            taken += 1
            book.step_ends(report, is_change=memory.changes != before.changes)
        book.close()
        trainer.step_stats.settle()
        self._evaluate(epoch, samples, book.seconds, memory)
        return memory, taken

    def _balanced(self, memory: Memory, report: RankReport | None, step: int) -> Memory:
        """Every rank decides for itself, alike, from what all ranks told. The small last step of an epoch teaches nothing new."""
        if report is None or report.size != self.problem.global_batch_size:
            return memory
        if self.group.rank == 0:
            self._watch, told = watch(self.problem.profile, self._watch, report.step, report.work)
            for event in told:
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
        """Each rank judges an equal part of the validation data, unpaced; sums are exact over all ranks."""
        trainer, count = self.trainer, len(self.validation)
        model, task = trainer.replica.model, trainer.task
        rank, world = self.group.rank, self.group.size
        loss, metric = (torch.zeros((), dtype=torch.float64, device=trainer.device) for _ in range(2))
        trainer.pool_statistics(self.group)
        first, last = count * rank // world, count * (rank + 1) // world
        model.eval()
        with torch.no_grad():
            for begin in range(first, last, _EVALUATION_BATCH):
                x, y = self.validation.take(np.arange(begin, min(begin + _EVALUATION_BATCH, last)), trainer.device)
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
                    training_loss=sums[0] / trainer.data.weigh(),
                    loss=sums[1] / self.validation.weigh(),
                    metric=sums[2] / self.validation.weigh(),
                    metric_name=self.workload.metric,
                    local_batch_sizes=memory.local_batch_sizes,
                )
            )


class _EpochBook:
    """Adds up one rank's epoch and tells its steps."""

    def __init__(self, case: Case, epoch: int) -> None:
        self._case, self._epoch, self._timer = case, epoch, case.trainer.timer
        self._lines = StepLog(case.log)
        self._open: deque[tuple[int, int, float]] = deque()
        """(step, size, seconds) of steps whose compute seconds are not known yet."""
        self._start = self._step_start = self._now = time.perf_counter()
        self._step = self._size = self._samples = self._full_steps = 0
        self._full = [0.0] * 7
        """Compute, wait, data, copy, host, backward and optimizer seconds of the full steps."""
        self._least_waits: list[float] = []
        self._first = -1
        self.seconds = 0.0
        """From the first step to the last gradient."""

    def step_begins(self, step: int, size: int) -> None:
        self._step, self._size, self._step_start = step, size, time.perf_counter()
        self._first = step if self._first < 0 else self._first

    def last_gradient(self) -> None:
        self.seconds = time.perf_counter() - self._start

    def step_ends(self, report: RankReport | None, *, is_change: bool) -> None:
        self._open.append((self._step, self._size, time.perf_counter() - self._step_start))
        self._tell(report, is_change=is_change)
        self._listen(report)

    def _listen(self, report: RankReport | None) -> None:
        """Whoever comes last in a step waits for the wire alone. Waits are told a step late, a GPU's later still, and once."""
        if report is None or self._case.trainer.local_sgd is not None:  # local steps wait for an average now and then
            return
        first_told = self._first + (2 if self._case.trainer.step_stats.is_late else 1)
        if report.step >= first_told and all(work.seconds > 0 for work in report.work):
            self._least_waits.append(min(work.wait_seconds for work in report.work))

    def close(self) -> None:
        """Write what is still to be told, and the sums."""
        self._lines.flush(self._timer.utilization(), self._timer.memory_used())
        self._case.log.write(
            RankEpochEnded(
                epoch=self._epoch,
                samples=self._samples,
                seconds=self.seconds,
                full_steps=self._full_steps,
                full_compute_seconds=self._full[0],
                full_wait_seconds=self._full[1],
                full_data_seconds=self._full[2],
                full_copy_seconds=self._full[3],
                full_host_seconds=self._full[4],
                full_backward_seconds=self._full[5],
                full_optimizer_seconds=self._full[6],
                communication_seconds=sum(self._least_waits) / len(self._least_waits) if self._least_waits else None,
            )
        )

    def _tell(self, report: RankReport | None, *, is_change: bool) -> None:
        for times in self._timer.take():
            step, size, seconds = self._open.popleft()
            self._samples += times.samples
            if size == self._case.problem.global_batch_size:
                self._full_steps += 1
                self._full = [total + part for total, part in zip(self._full, _parts(times), strict=True)]
            self._lines.add(
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


def _parts(times: StepTimes) -> tuple[float, ...]:
    """What an epoch adds up, in the order of its sums."""
    own = (times.compute_seconds, times.wait_seconds, times.data_seconds, times.copy_seconds, times.host_seconds)
    return (*own, times.backward_seconds, times.optimizer_seconds)
