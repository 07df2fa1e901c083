"""What screens and commands ask of the state: who uses a device, how far a run is, what the time was. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from .state import Alert, CaseState, RankState, RunState, State

NEAR = 0.05
"""Local batch sizes this close share one standalone measurement."""
RECENT_SECONDS = 5.0
"""Span over which "now" is meant for throughput."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is."""

    fraction: float
    """Steps done of all cases, 0 to 1."""
    seconds_left: float | None
    """At the pace seen so far; None: no step was seen yet."""
    steps: int
    """Of the case in hand, done."""
    steps_total: int


def wall_clock(state: State, at: float) -> float | None:
    """Seconds since 1970 at a moment of the stream; None: no clock was heard yet."""
    return None if state.clock is None else state.clock + at - state.clock_at


def occupants(state: State) -> dict[tuple[str, int], tuple[RunState, RankState]]:
    """Which rank of which run of ours holds each device, by (node, device index)."""
    return {
        (rank.node, rank.device_index): (run, rank) for run in state.runs.values() if not run.is_over for rank in run.ranks.values()
    }


def progress(run: RunState, at: float) -> RunProgress:
    """Steps done and time left. A case to come is taken to last as long as the mean of those that are over or in hand."""
    per_epoch = -(-run.samples_per_epoch // run.global_batch_size) if run.global_batch_size > 0 else 0
    total = max(0, per_epoch * run.epochs)
    fractions = [_case_fraction(case, total) for case in run.cases]
    done = sum(fractions) / len(fractions) if fractions else 0.0
    case = run.current
    steps = 0 if case is None or case.step is None else min(case.step + 1, total)
    if run.is_over:
        return RunProgress(1.0 if run.state == "done" else done, 0.0, steps, total)
    lasted: list[float] = []
    left = 0.0
    for found, fraction in zip(run.cases, fractions, strict=True):
        if found.started_at is None or fraction <= 0.0:
            continue
        end = found.ended_at if found.ended_at is not None else at
        whole = max(0.0, end - found.started_at) / fraction
        lasted.append(whole)
        left += 0.0 if found.state == "done" else whole * (1.0 - fraction)
    if not lasted:
        return RunProgress(done, None, steps, total)
    left += fmean(lasted) * sum(1 for found, fraction in zip(run.cases, fractions, strict=True) if fraction <= 0.0)
    return RunProgress(done, left, steps, total)


def phase_left(run: RunState, at: float) -> float | None:
    """Seconds that are left of the phase of a run, by what was said when it began; None: nothing was said."""
    return None if run.seconds_left is None else max(0.0, run.seconds_left - max(0.0, at - run.told_at))


def joined(run: RunState) -> tuple[int, int]:
    """How many ranks are part of the group, and how many there will be."""
    return sum(rank.is_joined for rank in run.ranks.values()), len(run.ranks)


def predicted_left(run: RunState) -> float | None:
    """Seconds of training that were left by what was said before the launch; None where that was not said of every case to come."""
    per_epoch = -(-run.samples_per_epoch // run.global_batch_size) if run.global_batch_size > 0 else 0
    total = max(0, per_epoch * run.epochs)
    left = 0.0
    for case in run.cases:
        if case.state in ("done", "measuring") or run.is_over:
            continue
        steps = 0 if case.step is None else min(case.step + 1, total)
        if case.predicted is None or case.predicted <= 0 or total <= 0:
            return None
        left += run.samples_per_epoch * run.epochs * (1.0 - steps / total) / case.predicted
    return left if any(case.predicted is not None for case in run.cases) else None


def measured_alone(run: RunState, case: CaseState) -> tuple[int, int]:
    """Of how many ranks the standalone rate at the case's local batch sizes is known, and how many there are."""
    return len(rates_alone(run, case)), len(run.ranks)


def _case_fraction(case: CaseState, total: int) -> float:
    if case.state == "done":
        return 1.0
    if case.step is None or total <= 0:
        return 0.0
    # A little is left for what follows the last step of a case: evaluation and standalone rates.
    return max(0.0, min(0.97, (case.step + 1) / total * 0.97))


def throughput_now(case: CaseState, seconds: float = RECENT_SECONDS) -> float | None:
    """Mean samples per second of the last seconds that were seen."""
    if not case.throughput:
        return None
    until = case.throughput[-1][0]
    return fmean(value for at, value in case.throughput if at >= until - seconds)


def throughput_of(case: CaseState) -> float | None:
    """Throughput of a case so far as results define it: all epochs but the first; None before the second is over."""
    counted = [epoch for epoch in case.epochs if epoch.epoch > 0]
    seconds = sum(epoch.seconds for epoch in counted)
    return sum(epoch.samples for epoch in counted) / seconds if seconds > 0 else None


def rates_alone(run: RunState, case: CaseState) -> dict[int, float]:
    """Standalone rates by rank at the case's local batch sizes: the measurement of the nearest size, at most 5 % away."""
    found: dict[int, float] = {}
    for rank, size in enumerate(case.local_batch_sizes):
        measured = [(abs(at - size), rate) for other in run.cases for who, at, rate in other.standalone if who == rank]
        if measured and min(measured)[0] <= NEAR * size:
            found[rank] = min(measured)[1]
    return found


def limit_of(run: RunState, case: CaseState) -> float | None:
    """The sum of the standalone rates; None while a rank's is not known."""
    rates = rates_alone(run, case)
    return sum(rates.values()) if rates and set(rates) == set(run.ranks) else None


@dataclass(frozen=True, slots=True)
class StepParts:
    """The step of one rank, in seconds, in the order in which they pass."""

    data: float
    """Until the batch lay in the device's memory."""
    host: float
    """The host's thread was due to run and did not."""
    compute: float
    """The rest of its own work."""
    communication: float
    wait: float
    """For others."""


def step_parts(run: RunState) -> dict[int, StepParts]:
    """The last step of every rank that has stepped. Nobody stamps communication: whoever comes last waits for the wire alone."""
    ranks = {rank.rank: rank for rank in run.ranks.values() if rank.compute_seconds is not None}
    wire = min((max(0.0, rank.wait_seconds or 0.0) for rank in ranks.values()), default=0.0)
    if len(run.ranks) < 2:
        wire = 0.0
    return {number: _parts(rank, wire) for number, rank in ranks.items()}


def _parts(rank: RankState, wire: float) -> StepParts:
    own = max(0.0, rank.compute_seconds or 0.0)
    data = min(own, max(0.0, rank.data_seconds or 0.0))
    host = min(own - data, max(0.0, rank.host_seconds or 0.0))
    return StepParts(data, host, own - data - host, wire, max(0.0, (rank.wait_seconds or 0.0) - wire))


def imbalance_now(run: RunState) -> float | None:
    """(max - min) / mean of the ranks' compute seconds in their last summaries."""
    seconds = [rank.compute_seconds for rank in run.ranks.values() if rank.compute_seconds is not None]
    mean = fmean(seconds) if seconds else 0.0
    return (max(seconds) - min(seconds)) / mean if mean > 0 else None


def open_alerts(state: State, run: RunState | None = None) -> tuple[Alert, ...]:
    """Trouble that is still so, worst and newest first; of one run: its own and that of its nodes."""
    nodes = set(run.nodes) if run else set()
    found = [
        alert
        for alert in state.alerts
        if alert.ended_at is None and (run is None or alert.run_id == run.run_id or (not alert.run_id and alert.node in nodes))
    ]
    return tuple(sorted(found, key=lambda alert: (alert.severity != "critical", -alert.at)))
