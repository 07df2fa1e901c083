"""Narrates a session: one sentence per event, and a progress bar where the terminal can redraw a line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from paceline.engine.events import (
    AllReduceProfiled,
    BalanceJudged,
    BaselineMeasured,
    Captioned,
    CaseStarted,
    CaseTested,
    DeviceProbed,
    DeviceProfiled,
    DriftFound,
    EpochEnded,
    Event,
    GradientProfiled,
    GroupReformed,
    LinkProfiled,
    MemberRested,
    MembersWaited,
    MetricLogged,
    MonitoringFailed,
    NodeConnected,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeWarned,
    PaceFixed,
    PeerLost,
    PeerSilent,
    ProfilingAdvanced,
    Progress,
    RankFailed,
    RankJoined,
    RunEnded,
    RunPlanned,
    RunQueued,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepSkipped,
    StepTimesProfiled,
    StragglerEnded,
    StragglerFound,
    StrangersRefused,
    SystemProfiled,
    Ticked,
    Warned,
)
from paceline.engine.store.profiles import drift_sentence
from paceline.engine.store.reduce import reduce
from paceline.engine.store.selectors import phase_seconds_left, progress
from paceline.engine.store.silence import reformed_text, silence_text
from paceline.engine.store.state import NodeState, RunState, State
from paceline.engine.store.straggler_alerts import describe

from ..terminal.format import count, duration, sanitize

BAR_CELLS = 24
PARTS = 10
"""Progress reports of one phase where no bar is drawn."""
PLAIN_PARTS = 4
"""The same for a screen reader."""


class Narrator:
    """Subscribes to the events of a session and writes a sentence for each that concerns a waiting person."""

    def __init__(
        self,
        stream: TextIO,
        subscribe: Callable[[Callable[[Event], None]], object] | None = None,
        is_plain: bool = False,
        *,
        is_quiet: bool = False,
        is_terse: bool = False,
    ) -> None:
        """``is_plain``: sentences only, no line that is redrawn, as for a screen reader. ``is_quiet``: no event is printed.
        ``is_terse``: connected nodes are not printed."""
        self._stream = stream
        self._has_bar = stream.isatty() and os.environ.get("TERM") != "dumb" and not is_plain
        self._is_open = True
        """Whether the stream still takes text."""
        self._bar = ""
        self._parts = PLAIN_PARTS if is_plain else PARTS
        self._phase, self._reported_parts = "", 0
        """The current phase, and the parts of it that were reported."""
        self._run_id, self._reported_run_parts = "", 0
        """The current run, and the parts of its steps that were reported."""
        self._state = State()
        self._lost: dict[str, str] = {}
        """Last reported reason of each lost node."""
        self._is_quiet, self._is_terse = is_quiet, is_terse
        if subscribe is not None:
            self.listen(subscribe)

    def listen(self, subscribe: Callable[[Callable[[Event], None]], object]) -> None:
        """Tell the events of a session from now on."""
        if not self._is_quiet:
            subscribe(self._on_event)

    def print_line(self, sentence: str) -> None:
        """Write one line with the time; a progress bar stays below it."""
        self._write(f"{self._eraser()}{time.strftime('%H:%M:%S')}  {sanitize(sentence)}\n{self._bar}")

    def close(self) -> None:
        """Erase the progress bar."""
        self._write(self._eraser())
        self._bar = ""

    def _on_event(self, event: Event) -> None:
        before, self._state = self._state.nodes, reduce(self._state, event)
        run = self._state.runs.get(event.run_id)
        if isinstance(event, Ticked):
            self._report_stale_nodes(before)
            self._tick()
        elif isinstance(event, NodeReported):
            if (node := before.get(event.node)) is not None and node.state == "stale":
                self.print_line(f"{event.node} responds again")
        elif (sentence := self._sentence(event, run)) is not None:
            self.print_line(sentence)
            if isinstance(event, RunEnded) and self._has_bar:
                self._write("\a")

    def _report_stale_nodes(self, before: Mapping[str, NodeState]) -> None:
        """Report nodes that have become stale: no event says so."""
        if self._state.nodes is before:
            return
        for name, node in self._state.nodes.items():
            if node.state == "stale" and before[name].state != "stale" and node.at is not None:
                self.print_line(f"{name}: no response for {self._state.at - node.at:.0f} s; its runs go on")

    def _sentence(self, event: Event, run: RunState | None) -> str | None:  # noqa: C901 - one flat match
        match event:
            case NodeConnected():
                self._lost.pop(event.node, None)
                if self._is_terse:
                    return None
                return f"{event.node} connected ({event.system or 'unknown system'}, Python {event.python or 'unknown'})"
            case NodeLost() if self._lost.get(event.node) == event.reason:
                return None  # another attempt failed for the same reason
            case NodeLost():
                self._lost[event.node] = event.reason
                return f"{event.node} lost: {event.reason}" + (f" ({event.hint})" if event.hint else "")
            case NodeDenied():
                return f"{event.node} refused: {event.reason}" + (f" ({event.hint})" if event.hint else "")
            case NodeWarned():
                return f"{event.node}: {event.reason}" + (f" ({event.hint})" if event.hint else "")
            case Progress():
                return self._phase_sentence(event)
            case Captioned(text=text) if text:
                return f">> {text}"
            case Warned():
                return self._phase_sentence(Progress(phase=event.reason))
            case RunPlanned():
                emulated = (", emulated" if event.is_emulated else "") + (" (network too)" if event.is_network_emulated else "")
                devices = count(len(event.ranks), "device")
                if event.cases == ("profiling",):
                    return f"run {event.run_id}: profiling {devices}{emulated} with {event.workload}"
                rates = zip(event.cases, event.predicted, strict=False)
                predicted = ", ".join(f"{case} {rate:,.0f} samples/s" for case, rate in rates if rate is not None)
                size = f", global batch {event.global_batch_size}, {event.epochs} epochs" if event.global_batch_size else ""
                return (
                    f"run {event.run_id}: {event.workload} on {devices}{emulated}{size}, {' then '.join(event.cases)}; "
                    f"data: {event.source}" + (f"; predicted before launch: {predicted}" if predicted else "")
                )
            case ProfilingAdvanced() if event.phase:
                left = "" if event.seconds_left is None else f", about {duration(event.seconds_left)} left"
                which = f", part {event.part} of {event.parts}" if event.parts else ""
                return f"{event.fraction * 100:.0f} %: measuring {event.phase}{which}{left}"
            case StepTimesProfiled(crowding=float() as crowding, error=""):  # its second line: the first had all the rest
                return f"rank {event.rank} on {event.node}: {crowding:.2f}x as long while all ranks of its machine compute"
            case StepTimesProfiled():
                each = event.seconds_per_sample
                rate_text = f"{1 / each:.1f} samples/s, " if each and each > 0 else ""
                limit = "no batch limit" if event.largest_batch is None else f"at most {event.largest_batch:,} samples a batch"
                return f"rank {event.rank} on {event.node}: " + (event.error or rate_text + limit)
            case DeviceProfiled(error=reason) | LinkProfiled(error=reason) | SystemProfiled(error=reason) if reason:
                return f"{event.node}: {reason}"
            case AllReduceProfiled(error=reason) | GradientProfiled(error=reason) if reason:
                return f"all-reduce and gradients: {reason}"
            case DriftFound():
                return f"{event.node} {drift_sentence(event)}"
            case RankJoined() if run and run.cases and run.cases[0].name == "profiling":
                return None
            case RankJoined() if run and all(rank.is_joined for rank in run.ranks.values()):
                return f"all {event.world_size} ranks have joined ({event.backend}); timing the devices"
            case DeviceProbed():
                rate = 1.0 / event.seconds_per_sample if event.seconds_per_sample > 0 else 0.0
                return f"rank {event.rank} on {event.node} timed: {rate:.1f} samples/s"
            case CaseStarted():
                return f"{event.case or event.policy}: starts with {_sizes(event.local_batch_sizes)}"
            case SharesChanged():
                after = event.predicted_after
                predicted = f", predicted {after * 1000:.0f} ms a step" if after is not None else ""
                return f"step {event.step}: {_sizes(event.before)} -> {_sizes(event.after)}: {event.reason}{predicted}"
            case StragglerFound() if run:
                stragglers = [straggler for case in run.cases for straggler in case.stragglers if straggler.found is event]
                return describe(run, stragglers[0]) if stragglers else None
            case StragglerEnded():
                who = "the network is" if event.straggler is None else f"rank {event.straggler} is"
                gain = f"; changed shares brought back {event.gain * 100:.0f} % of the lost time" if event.gain is not None else ""
                return f"step {event.step}: {who} itself again ({event.cause}){gain}"
            case EpochEnded() if run:
                return self._epoch(event, run)
            case BalanceJudged(state="balanced"):
                loss = f", its loss is a {event.loss}" if event.loss else ""
                return f"balanced through {event.door or 'its loader'}{loss}"
            case BalanceJudged():
                return "runs as it is, with equal shares" + (f": {event.reason}" if event.reason else "")
            case MetricLogged(value=float(value)):
                return f"epoch {event.epoch + 1}: {event.name} {value:.5g}"
            case PaceFixed():
                return f"emulated devices: one of speed 1 is paced to {event.rate:.1f} samples/s"
            case StandaloneMeasured():
                return f"rank {event.rank} alone: {event.samples_per_second:.1f} samples/s at local batch {event.local_batch_size}"
            case BaselineMeasured():
                rate, batch = event.samples_per_second, event.local_batch_size
                return f"rank {event.rank} alone with the whole batch of {batch}: {rate:.1f} samples/s"
            case MonitoringFailed():
                what = f"{event.part} failed, the training goes on without it: {event.reason}"
                return f"rank {event.rank} on {event.node}: {what} (its log has the trace)"
            case CaseTested(r2=float(r2), mae=float(mae), loss=float(loss)):
                return f"{event.case}: test part, mse {loss:.4g}, mae {mae:.4g}, r2 {r2:.4f}"
            case StepSkipped():
                return f"{event.case}: {event.reason}"
            case RankFailed(is_collateral=False):
                return f"rank {event.rank} on {event.node} failed: {event.reason}"
            case StrangersRefused():
                who = "one stranger" if event.count == 1 else f"{event.count} strangers"
                return f"{event.node} refused {who} at its runner's port, the last one from {event.address}: {event.reason}"
            case PeerSilent():
                return silence_text(event)
            case GroupReformed() if event.rank == min(event.ranks, default=event.rank):
                return reformed_text(event)
            case MemberRested():
                return f"{event.node} joins again" if event.is_over else f"{event.node} takes no part in the run: {event.reason}"
            case MembersWaited():
                return f"{event.node} waits: {event.reason}"
            case PeerLost():
                return f"{event.node} has lost {event.peer}: {event.reason}"
            case RunUnreachable(nodes=nodes) if nodes:
                return f"out of reach: {', '.join(nodes)}; the run is not touched"
            case RunQueued():
                where = f" as job {event.job_id}" if event.job_id is not None else ""
                return f"run {event.run_id} {event.state} on {event.node}{where}" + (f": {event.reason}" if event.reason else "")
            case RunEnded():
                return f"run {event.run_id} {event.state}" + (f": {event.reason}" if event.reason else "")
        return None

    def _epoch(self, event: EpochEnded, run: RunState) -> str:
        rate = f"{event.samples / event.seconds:.0f} samples/s" if event.seconds > 0 else "—"
        metric = ""
        if event.metric is not None:
            is_share = event.metric_name == "accuracy"
            metric = (
                f", {event.metric_name} {event.metric * 100:.1f} %" if is_share else f", {event.metric_name} {event.metric:.4g}"
            )
        loss = "" if event.loss is None else f", loss {event.loss:.4f}"
        done = progress(run, self._state.at)
        left = "" if done.seconds_left is None or self._has_bar else f", {duration(done.seconds_left)} left"
        of = f"/{event.epochs}" if event.epochs else ""  # a script alone knows how many there will be
        return f"{event.case}: epoch {event.epoch + 1}{of}, {rate}{loss}{metric}{left}"

    def _phase_sentence(self, event: Progress) -> str | None:
        """The name of a new phase, or its progress at each part where no bar is drawn; None: nothing to report."""
        if event.phase != self._phase:
            self._phase, self._reported_parts = event.phase, 0
            return event.phase or None
        part = int((event.fraction or 0.0) * self._parts)
        if self._has_bar or part <= self._reported_parts:
            return None
        self._reported_parts = part
        return f"{event.phase}: {_progress_text(event.fraction or 0.0, event.detail, event.seconds_left)}"

    def _tick(self) -> None:
        if not self._has_bar:
            self._report_steps()
            return
        eraser, self._bar = self._eraser(), self._bar_text()
        self._write(eraser + self._bar)

    def _bar_text(self) -> str:
        """The progress bar of the current phase or run; empty where the progress of neither is known."""
        state, run = self._state, self._state.run
        detail = ""
        if state.phase and state.fraction is not None:
            fraction, seconds, detail = state.fraction, state.seconds_left, state.detail
        elif run is not None and not run.is_over and run.phase and run.fraction is not None:
            fraction, seconds, detail = run.fraction, phase_seconds_left(run, state.at), run.detail
        elif run is not None and not run.is_over and run.first_step_at is not None:
            done = progress(run, state.at)
            fraction, seconds = done.fraction, done.seconds_left
        else:
            return ""
        filled = round(fraction * BAR_CELLS)
        return f"{'━' * filled}{'─' * (BAR_CELLS - filled)} {_progress_text(fraction, detail, seconds)}"

    def _report_steps(self) -> None:
        """Report the progress of the current run at each part of its steps, where no bar is drawn."""
        run = self._state.run
        if run is None or run.is_over or run.first_step_at is None:
            return
        done = progress(run, self._state.at)
        part = int(done.fraction * self._parts)
        if run.run_id != self._run_id:
            self._run_id, self._reported_run_parts = run.run_id, 0
        if part > self._reported_run_parts:
            self._reported_run_parts = part
            self.print_line(f"run {run.run_id}: {_progress_text(done.fraction, '', done.seconds_left)}")

    def _eraser(self) -> str:
        return "\r\x1b[2K" if self._has_bar and self._bar else ""

    def _write(self, text: str) -> None:
        """Write to the stream until it fails: the work goes on when the reader has left or the disk is full."""
        if self._is_open:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._is_open = False


def _progress_text(fraction: float, detail: str, seconds: float | None) -> str:
    """``25 %, 3.1 of 12.3 MiB, 0:09 left``."""
    amount = f", {sanitize(detail)}" if detail else ""
    left = "" if seconds is None else f", {duration(seconds)} left"
    return f"{fraction * 100:.0f} %{amount}{left}"


def _sizes(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes))
