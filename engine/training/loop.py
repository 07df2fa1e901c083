"""The training loop of one case: its epochs, the shares of its policy, and the events that every rank logs."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from ..balancer.policies import Decision, Memory, Problem
from ..balancer.stragglers import StragglerState, detect_stragglers, initial_state
from ..events import CaseEnded, CaseStarted, CaseTested, EpochEnded, RankEvent, SharesChanged, StepSkipped
from ..workloads import Workload
from .checkpoints.writer import Checkpointer
from .data import Split
from .evaluation import evaluate
from .group.peer_failure import is_collateral
from .group.process_group import Group
from .group.reform import PlannedChange
from .guard import Guard
from .rank_log import EpochSums, LoggedStep, RankLog, StepLog
from .recovery.members import Members
from .shares.agreed_shares import AgreedShares, shares_changed
from .shares.sampler import SamplerState
from .shares.step_stats import RankReport
from .trainer import Trainer


@dataclass(slots=True, kw_only=True)
class Case:
    """One case on one rank."""

    workload: Workload
    problem: Problem
    trainer: Trainer
    validation: Split
    test: Split | None = None
    """Evaluated once, after the last epoch; None: the data have no such part."""
    group: Group
    log: RankLog
    guard: Guard
    """Catches failures of timing, balancing, alerts, logging and checkpoints."""
    seed: int
    epochs: int
    checkpointer: Checkpointer | None = None
    """Of a rank that writes checkpoints."""
    place: SamplerState | None = None
    """Where a run that is resumed goes on in the data; None: at the beginning."""
    first_step: int = 0
    """Steps taken before, by the run that is resumed or the group that was joined."""
    first_epoch: int | None = None
    """Epochs evaluated before; None: those before ``place``."""
    members: Members | None = None
    """How the case goes on when ranks are lost; None: it ends."""
    _state: SamplerState = field(init=False)
    """Where the next step is."""
    _steps: int = 0
    """Steps taken."""
    _evaluated: int = 0
    """Epochs evaluated."""
    _recorder: _EpochRecorder | None = None
    """Of the epoch that is not evaluated yet."""
    _is_epoch_whole: bool = True
    """Whether this rank's sums of the epoch are of all its steps."""
    _shares: AgreedShares = field(init=False)
    _stragglers: StragglerState = field(init=False)
    """Straggler detection, on rank 0 only."""
    _void_until: int = -1
    """Newest step of those that were void."""

    def train(self) -> tuple[Memory, int]:
        """Train all epochs. Return the balancer's memory and the number of steps taken."""
        self._evaluated = self.first_epoch if self.first_epoch is not None else 0 if self.place is None else self.place.epoch
        self._state = self.place or SamplerState(len(self.trainer.data), self.seed, 0)
        self._is_epoch_whole = self._state.offset == 0
        self._steps = self.first_step
        self._shares = AgreedShares(self.problem, self.guard)
        self._stragglers = initial_state(self.group.size)
        if self.group.rank == 0:
            self.guard.write(CaseStarted(policy=self.problem.policy, local_batch_sizes=self._shares.memory.local_batch_sizes))
        while True:
            try:
                self._train_epochs()
                break
            except PlannedChange:
                assert self.members is not None
                self._go_on(self.members, is_planned=True)
            except Exception as error:
                if self.members is None or not is_collateral(error):
                    raise
                self._go_on(self.members)
        memory = self._shares.memory
        return memory, self._steps

    def _train_epochs(self) -> None:
        """Train and evaluate what is left, and leave the group where it may form again."""
        while self._evaluated < self.epochs:
            self._train_epoch(self._evaluated)
        self._evaluate_test()
        memory = self._shares.memory
        if self.group.rank == 0:
            self.guard.write(CaseEnded(local_batch_sizes=self._by_device(memory.local_batch_sizes), changes=memory.changes))
        if self.members is not None:
            self.group.leave()

    def _go_on(self, members: Members, *, is_planned: bool = False) -> None:
        """Go on in the next group, from the state of the member that is furthest; ``is_planned``: all stand at this step."""
        began = time.perf_counter()
        before, steps = self._by_device(self._shares.memory.local_batch_sizes), self._steps
        places = (self._steps, self._evaluated, self._state.epoch, self._state.offset)
        self.trainer, self.problem, place = members.go_on(self.trainer, places, is_planned=is_planned)
        assert members.group is not None
        self.group = members.group
        self._steps, self._evaluated, epoch, offset = place
        self._state = SamplerState(self._state.samples, self.seed, epoch, offset)
        self._shares = AgreedShares(self.problem, self.guard)
        self._stragglers = initial_state(self.group.size)
        self._void_until = -1
        self._is_epoch_whole = False
        self.checkpointer = members.checkpointer
        seconds = time.perf_counter() - began
        self.guard.write(members.event(self._steps, max(0, steps - self._steps), seconds))
        after = self._by_device(self._shares.memory.local_batch_sizes)
        if self.group.rank == 0 and before != after:
            self.guard.write(SharesChanged(step=self._steps, before=before, after=after, reason=members.reason))

    def _by_device(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes in the order of the plan's ranks, 0 for those that are lost."""
        return sizes if self.members is None else self.members.by_device(sizes)

    def _train_epoch(self, epoch: int) -> None:
        trainer, samples = self.trainer, len(self.trainer.data)
        if self._recorder is None or self._recorder.epoch != epoch:
            trainer.reset()
            self._recorder = _EpochRecorder(self, epoch)
        recorder = self._recorder
        state, step = self._state, self._steps
        if self.place is not None and self.place.epoch == epoch and self.first_epoch is None:
            samples -= self.place.offset
        begun: deque[tuple[int, SamplerState]] = deque(maxlen=3)
        while True:
            if state.epoch != epoch:
                state = self._rewind(trainer.step_stats.check_pending(), state, begun, step - 1)
                if state.epoch != epoch:
                    break
            begun.append((step, state))
            size = state.next_size(self.problem.global_batch_size)
            self.guard.attempt("logging", recorder.begin_step, step, size, otherwise=None)
            sizes = self._shares.sizes_for(step, size)
            trainer.replica.is_undecided = self._shares.is_undecided
            trainer.replica.is_pausing = self.members is not None and self.members.regroup.is_pausing
            report = trainer.step(step, state, sizes)
            state = self._rewind(report, state.advance(size), begun, step)
            self._state, self._steps = state, step + 1
            if state.epoch != epoch:
                trainer.timer.synchronize()  # a GPU runs behind its host: an epoch ends with the device's last gradient
            self.guard.attempt("logging", recorder.mark_last_gradient, otherwise=None)
            is_change = self._rebalance(report, step)
            step += 1
            own = 0 if report is not None and report.is_void else sizes[self.group.rank]
            self.guard.attempt("logging", recorder.end_step, own, report, is_change, otherwise=None)
            if self.checkpointer is not None and trainer.local_sgd is None and self.checkpointer.is_due(step):
                self._save(state, step)
            if report is not None and report.is_pausing:
                raise PlannedChange
        self.guard.attempt("logging", recorder.close, otherwise=None)
        score = self._evaluate(epoch, samples, recorder.seconds)
        self._evaluated, self._recorder, self._is_epoch_whole = epoch + 1, None, True
        if self.checkpointer is not None:
            self._save(state, step, score)

    def _save(self, place: SamplerState, step: int, score: float | None = None) -> None:
        """Write a checkpoint beside training. A failure is reported and does not end the run."""
        assert self.checkpointer is not None
        state = {**self.trainer.state(), "place": asdict(place), "workload": self.workload.name}
        save = partial(self.checkpointer.save, state, case=self.log.case, epoch=place.epoch, step=step, score=score)
        self.guard.attempt("checkpoints", save, otherwise=None)

    def _rewind(
        self, report: RankReport | None, state: SamplerState, begun: deque[tuple[int, SamplerState]], step: int
    ) -> SamplerState:
        """Return where the training goes on: with the first void step again, in the same order, if the report is of one."""
        if report is None or not report.is_void or report.step <= self._void_until:
            return state
        self._void_until = step  # a GPU has begun another step with these shares before the report arrived
        self.trainer.take_back(report.step)
        if self.checkpointer is not None:
            self.checkpointer.withdraw(report.step)
        self._rest(report)
        return dict(begun).get(report.step, state)

    def _rebalance(self, report: RankReport | None, step: int) -> bool:
        """Decide the shares after a full step; return whether they changed. Smaller last steps are ignored."""
        if (error := self.trainer.replica.fill_error) is not None:
            self.trainer.replica.fill_error = None
            self.guard.report("timing", error)
        if report is not None and report.skipped and self.group.rank == 0:
            self.guard.write(StepSkipped(step=report.step, reason=report.skipped))
        if report is None or report.is_void or report.step <= self._void_until:
            return False
        if report.undecided and not self._shares.is_resting:
            return self._rest(report)
        if report.size != self.problem.global_batch_size:
            return False
        if self.group.rank == 0:
            self._detect_stragglers(report)
        before = self._shares.memory
        decision = self._shares.decide(report)
        if self._must_agree_at_once() and self.group.exact_sum([float(self._shares.is_undecided)])[0] > 0.0:
            self._shares.memory = before
            self._shares.agree(step + 1)
            return False
        if decision is None or not decision.is_change:
            return False
        self._log_change(decision, before, step + 1)
        return True

    def _must_agree_at_once(self) -> bool:
        """Whether no slot compares the shares of every step: with local SGD, whose reports are rare enough for a collective."""
        return self.trainer.local_sgd is not None and not self._shares.is_resting

    def _rest(self, report: RankReport) -> bool:
        """Return to the shares that all ranks know, because a rank could not decide; return whether they changed."""
        before, after = self._shares.agree(report.step)
        if before != after and self.group.rank == 0:
            ranks = " and ".join(map(str, report.undecided))
            reason = f"rank {ranks} could not decide: the last shares stay"
            self.guard.write(SharesChanged(step=report.step + 1, before=before, after=after, reason=reason))
        return before != after

    def _detect_stragglers(self, report: RankReport) -> None:
        nothing: tuple[StragglerState, tuple[RankEvent, ...]] = initial_state(self.group.size), ()
        self._stragglers, events = self.guard.attempt(
            "alerts", detect_stragglers, self.problem.profile, self._stragglers, report.step, report.work, otherwise=nothing
        )
        for event in events:
            self.guard.write(event if self.members is None else self.members.renamed(event))

    def _log_change(self, decision: Decision, before: Memory, step: int) -> None:
        if self.group.rank == 0:
            change = shares_changed(step, before, decision)
            self.guard.write(replace(change, before=self._by_device(change.before), after=self._by_device(change.after)))

    def _evaluate(self, epoch: int, samples: int, seconds: float) -> float:
        """Evaluate the validation data, without pacing. Collective. Return a score, higher is better."""
        trainer = self.trainer
        trainer.pool_statistics(self.group)
        quality = evaluate(trainer.replica.model, trainer.task, self.validation, self.group)
        (training_loss,) = self.group.exact_sum([float(trainer.loss_sum)])
        is_whole = self._is_epoch_whole and samples == len(trainer.data)  # others have the other part of the sum
        trained = trainer.data.total_weight() if is_whole else 0
        if self.group.rank == 0:
            self.guard.write(
                EpochEnded(
                    epoch=epoch,
                    epochs=self.epochs,
                    samples=samples,
                    seconds=seconds,
                    training_loss=training_loss / trained if trained else None,
                    loss=quality.loss,
                    metric=quality.metric,
                    metric_name=self.workload.metric,
                    mae=quality.mae,
                    r2=quality.r2,
                    gain=quality.gain,
                    gain_error=quality.gain_error,
                    local_batch_sizes=self._by_device(self._shares.memory.local_batch_sizes),
                )
            )
        return quality.metric if self.workload.task == "classification" else -quality.loss

    def _evaluate_test(self) -> None:
        """Evaluate the final model on the test part, where there is one. Collective."""
        if self.test is None:
            return
        quality = evaluate(self.trainer.replica.model, self.trainer.task, self.test, self.group)
        if self.group.rank == 0:
            self.guard.write(
                CaseTested(
                    samples=quality.samples,
                    loss=quality.loss,
                    metric=quality.metric,
                    metric_name=self.workload.metric,
                    mae=quality.mae,
                    r2=quality.r2,
                    gain=quality.gain,
                    gain_error=quality.gain_error,
                )
            )


class _EpochRecorder:
    """Records one rank's epoch: logs its steps and their sums."""

    def __init__(self, case: Case, epoch: int) -> None:
        self._case, self.epoch, self._timer, self._guard = case, epoch, case.trainer.timer, case.guard
        self._step_log = StepLog(case.log)
        self._unmeasured: deque[tuple[int, int, float]] = deque()
        """(step, size, step seconds) of steps whose compute seconds are not measured yet."""
        self._start = self._step_start = time.perf_counter()
        self._step = self._size = self._samples = 0
        self._full_steps = EpochSums()
        """Of the full-size steps."""
        self._least_waits: list[float] = []
        self._first_step = -1
        self._is_closed = False
        self.seconds = 0.0
        """From the first step to the last gradient."""

    def begin_step(self, step: int, size: int) -> None:
        self._step, self._size, self._step_start = step, size, time.perf_counter()
        self._first_step = step if self._first_step < 0 else self._first_step

    def mark_last_gradient(self) -> None:
        self.seconds = time.perf_counter() - self._start

    def end_step(self, samples: int, report: RankReport | None, is_change: bool) -> None:
        """Log what is measured by now. ``samples``: of this rank in the step."""
        self._samples += samples
        self._unmeasured.append((self._step, self._size, time.perf_counter() - self._step_start))
        self._guard.attempt("logging", self._log_measured_steps, report, is_change, otherwise=None)
        self._guard.attempt("logging", self._record_least_wait, report, otherwise=None)

    def _record_least_wait(self, report: RankReport | None) -> None:
        """Keep the least wait of a step: the last rank waits for communication only. Waits come one step late, a GPU's two."""
        if report is None or self._case.trainer.local_sgd is not None:  # local SGD waits for an average only every few steps
            return
        first_reported = self._first_step + (2 if self._case.trainer.step_stats.reads_one_step_late else 1)
        if report.step >= first_reported and all(work.seconds > 0 for work in report.work):
            self._least_waits.append(min(work.wait_seconds for work in report.work))

    def close(self) -> None:
        """Log the remaining steps and the sums of the epoch, once."""
        if self._is_closed:
            return
        self._is_closed = True
        self._guard.attempt("logging", self._step_log.flush, self._timer.utilization(), self._timer.memory_used(), otherwise=None)
        self._guard.write(self._full_steps.event(self.epoch, self._samples, self.seconds, self._least_waits))

    def _log_measured_steps(self, report: RankReport | None, is_change: bool) -> None:
        for times in self._timer.take_measured():
            step, size, seconds = self._unmeasured.popleft()
            while step < times.step and self._unmeasured:  # a step whose timer failed has no times
                step, size, seconds = self._unmeasured.popleft()
            if step != times.step:
                return
            if size == self._case.problem.global_batch_size and times.samples:  # a rank that is left out works for no figure
                self._full_steps.add(times)
            self._step_log.add(
                LoggedStep(
                    epoch=self.epoch,
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
