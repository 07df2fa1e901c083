"""What happens, as it happens, in sentences on stderr: one line an event, a progress bar where the terminal can redraw a line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from paceline.engine.events import (
    AllReduceProfiled,
    CaseStarted,
    DeviceProbed,
    DeviceProfiled,
    DriftFound,
    EpochEnded,
    Event,
    GradientProfiled,
    LinkProfiled,
    NodeConnected,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeWarned,
    PeerLost,
    ProfilingAdvanced,
    Progress,
    RankFailed,
    RankJoined,
    RunEnded,
    RunPlanned,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepTimesProfiled,
    StragglerEnded,
    StragglerFound,
    SystemProfiled,
    Ticked,
    Warned,
)
from paceline.engine.store.profiles import drift_sentence
from paceline.engine.store.reduce import reduce
from paceline.engine.store.selectors import phase_left, progress
from paceline.engine.store.state import NodeState, RunState, State
from paceline.engine.store.straggler_alerts import describe

from ..terminal.format import count, duration, untrusted

BAR = 24


class Narrator:
    """Listens to a session and says what a person waiting for it wants to know."""

    def __init__(self, stream: TextIO, subscribe: Callable[[Callable[[Event], None]], object], is_plain: bool = False) -> None:
        """``is_plain``: sentences only, nothing that is drawn again, as for a screen reader."""
        self._stream = stream
        self._is_live = stream.isatty() and os.environ.get("TERM") != "dumb" and not is_plain
        self._is_heard = True
        self._bar = ""
        self._parts = 4 if is_plain else 10
        """Tellings of how far something is, where no bar shows it."""
        self._phase, self._told = "", 0
        """What is prepared, and how many parts of it were told."""
        self._run_id, self._run_told = "", 0
        """The run whose steps are told, and how many parts of it were."""
        self._state = State()
        self._lost: dict[str, str] = {}
        """Why each node that is lost was, as it was told."""
        subscribe(self._hear)

    def say(self, sentence: str) -> None:
        """One line, with the time; a progress bar below it stays below."""
        self._write(f"{self._eraser()}{time.strftime('%H:%M:%S')}  {untrusted(sentence)}\n{self._bar}")

    def close(self) -> None:
        """Leave a clean line behind."""
        self._write(self._eraser())
        self._bar = ""

    def _hear(self, event: Event) -> None:
        before, self._state = self._state.nodes, reduce(self._state, event)
        run = self._state.runs.get(event.run_id)
        if isinstance(event, Ticked):
            self._tell_silence(before)
            self._tick()
        elif isinstance(event, NodeReported):
            if (node := before.get(event.node)) is not None and node.state == "stale":
                self.say(f"{event.node} is heard again")
        elif (sentence := self._sentence(event, run)) is not None:
            self.say(sentence)
            if isinstance(event, RunEnded) and self._is_live:
                self._write("\a")

    def _tell_silence(self, before: Mapping[str, NodeState]) -> None:
        """A node that has become stale, which no event says."""
        if self._state.nodes is before:
            return
        for name, node in self._state.nodes.items():
            if node.state == "stale" and before[name].state != "stale" and node.at is not None:
                self.say(f"{name}: no word for {self._state.at - node.at:.0f} s; runs on it go on")

    def _sentence(self, event: Event, run: RunState | None) -> str | None:
        match event:
            case NodeConnected():
                self._lost.pop(event.node, None)
                return f"{event.node} is there ({event.system or 'no facts'}, Python {event.python or 'unknown'})"
            case NodeLost() if self._lost.get(event.node) == event.reason:
                return None  # looked for again, and not found for the same reason
            case NodeLost():
                self._lost[event.node] = event.reason
                return f"{event.node} lost: {event.reason}"
            case NodeDenied():
                return f"{event.node} refused: {event.reason}" + (f" ({event.hint})" if event.hint else "")
            case NodeWarned():
                return f"{event.node}: {event.reason}" + (f" ({event.hint})" if event.hint else "")
            case Progress():
                return self._prepared(event)
            case Warned():
                return self._prepared(Progress(phase=event.reason))
            case RunPlanned():
                emulated = (", emulated" if event.is_emulated else "") + (" (network too)" if event.is_network_emulated else "")
                devices = count(len(event.ranks), "device")
                if event.cases == ("profiling",):
                    return f"run {event.run_id}: profiling {devices}{emulated} with {event.workload}"
                rates = zip(event.cases, event.predicted, strict=False)
                foreseen = ", ".join(f"{case} {rate:,.0f} samples/s" for case, rate in rates if rate is not None)
                return (
                    f"run {event.run_id}: {event.workload} on {devices}{emulated}, global batch "
                    f"{event.global_batch_size}, {event.epochs} epochs, {' then '.join(event.cases)}; data: {event.source}"
                    + (f"; predicted before launch: {foreseen}" if foreseen else "")
                )
            case ProfilingAdvanced() if event.phase:
                left = "" if event.seconds_left is None else f", about {duration(event.seconds_left)} left"
                which = f", part {event.part} of {event.parts}" if event.parts else ""
                return f"{event.fraction * 100:.0f} %: measuring {event.phase}{which}{left}"
            case StepTimesProfiled():
                each = event.seconds_per_sample
                told = f"{1 / each:.1f} samples/s, " if each and each > 0 else ""
                most = "no limit of samples at once" if event.largest_batch is None else f"{event.largest_batch:,} samples at once"
                return f"rank {event.rank} on {event.node}: " + (event.error or told + most)
            case DeviceProfiled(error=reason) | LinkProfiled(error=reason) | SystemProfiled(error=reason) if reason:
                return f"{event.node}: {reason}"
            case AllReduceProfiled(error=reason) | GradientProfiled(error=reason) if reason:
                return f"sums and gradients: {reason}"
            case DriftFound():
                return f"{event.node} {drift_sentence(event)}"
            case RankJoined() if run and run.cases and run.cases[0].name == "profiling":
                return None
            case RankJoined() if run and all(rank.is_joined for rank in run.ranks.values()):
                return f"all {event.world_size} ranks have joined ({event.backend}); timing the devices"
            case DeviceProbed():
                rate = 1.0 / event.seconds_per_sample if event.seconds_per_sample > 0 else 0.0
                return f"rank {event.rank} on {event.node} was timed: {rate:.1f} samples/s"
            case CaseStarted():
                return f"{event.case or event.policy}: starts with {_sizes(event.local_batch_sizes)}"
            case SharesChanged():
                after = event.predicted_after
                predicted = f", predicted {after * 1000:.0f} ms a step" if after is not None else ""
                return f"step {event.step}: {_sizes(event.before)} -> {_sizes(event.after)}: {event.reason}{predicted}"
            case StragglerFound() if run:
                newest = [one for case in run.cases for one in case.stragglers if one.found is event]
                return describe(run, newest[0]) if newest else None
            case StragglerEnded():
                who = "the network is" if event.straggler is None else f"rank {event.straggler} is"
                gain = f"; changed shares brought back {event.gain * 100:.0f} % of the lost time" if event.gain is not None else ""
                return f"step {event.step}: {who} itself again ({event.cause}){gain}"
            case EpochEnded() if run:
                return self._epoch(event, run)
            case StandaloneMeasured():
                return f"rank {event.rank} alone: {event.samples_per_second:.1f} samples/s at local batch {event.local_batch_size}"
            case RankFailed(is_collateral=False):
                return f"rank {event.rank} on {event.node} failed: {event.reason}"
            case PeerLost():
                return f"{event.node} has lost {event.peer}: {event.reason}"
            case RunUnreachable(nodes=nodes) if nodes:
                return f"out of reach: {', '.join(nodes)}; the run is not touched"
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
        left = "" if done.seconds_left is None or self._is_live else f", {duration(done.seconds_left)} left"
        return f"{event.case}: epoch {event.epoch + 1}/{event.epochs}, {rate}{loss}{metric}{left}"

    def _prepared(self, event: Progress) -> str | None:
        """A phase once; how far it is only where no bar shows it, at each tenth, or at each quarter for who listens."""
        if event.phase != self._phase:
            self._phase, self._told = event.phase, 0
            return event.phase or None
        part = int((event.fraction or 0.0) * self._parts)
        if self._is_live or part <= self._told:
            return None
        self._told = part
        return f"{event.phase}: {_far(event.fraction or 0.0, event.detail, event.seconds_left)}"

    def _tick(self) -> None:
        if not self._is_live:
            self._tell_steps()
            return
        eraser, self._bar = self._eraser(), self._drawn()
        self._write(eraser + self._bar)

    def _drawn(self) -> str:
        """The bar of what is prepared, or of the run; empty where nothing is known of either."""
        state, run = self._state, self._state.run
        detail = ""
        if state.phase and state.fraction is not None:
            fraction, seconds, detail = state.fraction, state.seconds_left, state.detail
        elif run is not None and not run.is_over and run.phase and run.fraction is not None:
            fraction, seconds, detail = run.fraction, phase_left(run, state.at), run.detail
        elif run is not None and not run.is_over and run.stepping_at is not None:
            done = progress(run, state.at)
            fraction, seconds = done.fraction, done.seconds_left
        else:
            return ""
        filled = round(fraction * BAR)
        return f"{'━' * filled}{'─' * (BAR - filled)} {_far(fraction, detail, seconds)}"

    def _tell_steps(self) -> None:
        """How far the run in hand is, where no bar shows it: at each part of all its steps."""
        run = self._state.run
        if run is None or run.is_over or run.stepping_at is None:
            return
        done = progress(run, self._state.at)
        part = int(done.fraction * self._parts)
        if run.run_id != self._run_id:
            self._run_id, self._run_told = run.run_id, 0
        if part > self._run_told:
            self._run_told = part
            self.say(f"run {run.run_id}: {_far(done.fraction, '', done.seconds_left)}")

    def _eraser(self) -> str:
        return "\r\x1b[2K" if self._is_live and self._bar else ""

    def _write(self, text: str) -> None:
        """Nobody need listen: when the reader of stderr has left, or its disk is full, the work goes on in silence."""
        if self._is_heard:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._is_heard = False


def _far(fraction: float, detail: str, seconds: float | None) -> str:
    """``25 %, 3.1 of 12.3 MiB, 0:09 left``."""
    much = f", {untrusted(detail)}" if detail else ""
    left = "" if seconds is None else f", {duration(seconds)} left"
    return f"{fraction * 100:.0f} %{much}{left}"


def _sizes(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes))
