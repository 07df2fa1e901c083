"""Selectors: values that screens and commands derive from the state, such as device users, progress and throughput. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from ..balancer.step_time import is_same_size
from .state import Alert, CaseState, RankState, RunState, State

THROUGHPUT_WINDOW = 5.0
"""Seconds over which the recent throughput is averaged."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run."""

    fraction: float
    """Completed fraction of the steps of all cases, 0 to 1."""
    seconds_left: float | None
    """At the rate so far; None: before the first step."""
    steps: int
    """Completed steps of the current case."""
    steps_total: int


def wall_clock(state: State, at: float) -> float | None:
    """Seconds since 1970 at a stream time; None: before the first tick."""
    return None if state.clock is None else state.clock + at - state.clock_at


def started_at(state: State, run: RunState) -> float | None:
    """When a run started, seconds since 1970, the same for whoever launched it or found it; None: unknown."""
    if run.runners_started_at is not None or not run.is_discovered:
        return wall_clock(state, run.began_at)
    return run.node_started_at


def seconds_taken(run: RunState) -> float | None:
    """How long an ended run took; None: unknown."""
    if run.ended_at is not None and run.runners_started_at is not None:
        return run.ended_at - run.runners_started_at
    if run.summary.seconds is not None or run.ended_at is None:
        return run.summary.seconds
    return run.ended_at - run.began_at


def resume_refusal(run: RunState) -> str:
    """Why a run cannot go on from a checkpoint, one sentence; empty where it can, as far as is known here."""
    if not run.is_over:
        return f"run {run.run_id} is {run.state}: only an ended run is resumed"
    if run.is_bench:
        return "a bench writes no checkpoints: start it again"
    is_script = run.balance is not None
    if run.ranks and run.checkpoint is None and not is_script:
        return "it ended before its first checkpoint: there is nothing to go on from"
    return ""


def occupants(state: State) -> dict[tuple[str, int], tuple[RunState, RankState]]:
    """The run and rank that use each device, by (node, device index)."""
    return {
        (rank.node, rank.device_index): (run, rank) for run in state.runs.values() if not run.is_over for rank in run.ranks.values()
    }


def progress(run: RunState, at: float) -> RunProgress:
    """Completed steps and time left. A future case is expected to last as long as the mean of the started ones."""
    per_epoch = -(-run.samples_per_epoch // run.global_batch_size) if run.global_batch_size > 0 else 0
    total = max(0, per_epoch * run.epochs)
    fractions = [_case_fraction(case, total) for case in run.cases]
    done = sum(fractions) / len(fractions) if fractions else 0.0
    case = run.current
    steps = 0 if case is None or case.step is None else min(case.step + 1, total)
    if run.is_over:
        return RunProgress(1.0 if run.state == "done" else done, 0.0, steps, total)
    durations: list[float] = []
    seconds_left = 0.0
    for started, fraction in zip(run.cases, fractions, strict=True):
        if started.started_at is None or fraction <= 0.0:
            continue
        end = started.ended_at if started.ended_at is not None else at
        duration = max(0.0, end - started.started_at) / fraction
        durations.append(duration)
        seconds_left += 0.0 if started.state == "done" else duration * (1.0 - fraction)
    if not durations:
        return RunProgress(done, None, steps, total)
    seconds_left += fmean(durations) * sum(1 for fraction in fractions if fraction <= 0.0)
    return RunProgress(done, seconds_left, steps, total)


def phase_seconds_left(run: RunState, at: float) -> float | None:
    """Seconds left of the current phase, by its last estimate; None: without an estimate."""
    return None if run.seconds_left is None else max(0.0, run.seconds_left - max(0.0, at - run.phase_at))


def joined_ranks(run: RunState) -> tuple[int, int]:
    """Number of ranks that have joined the group, and of all ranks."""
    return sum(rank.is_joined for rank in run.ranks.values()), len(run.ranks)


def predicted_seconds_left(run: RunState) -> float | None:
    """Seconds of training left by the prediction before the launch; None unless every remaining case has one."""
    per_epoch = -(-run.samples_per_epoch // run.global_batch_size) if run.global_batch_size > 0 else 0
    total = max(0, per_epoch * run.epochs)
    seconds_left = 0.0
    for case in run.cases:
        if case.state in ("done", "measuring") or run.is_over:
            continue
        steps = 0 if case.step is None else min(case.step + 1, total)
        if case.predicted_samples_per_second is None or case.predicted_samples_per_second <= 0 or total <= 0:
            return None
        seconds_left += run.samples_per_epoch * run.epochs * (1.0 - steps / total) / case.predicted_samples_per_second
    return seconds_left if any(case.predicted_samples_per_second is not None for case in run.cases) else None


def standalone_progress(run: RunState, case: CaseState) -> tuple[int, int]:
    """Number of ranks whose standalone rate at the case's local batch sizes is known, and of all ranks with samples."""
    idle = sum(not size for size in case.local_batch_sizes)
    return len(standalone_rates(run, case)), len(run.ranks) - idle


def _case_fraction(case: CaseState, total: int) -> float:
    if case.state == "done":
        return 1.0
    if case.step is None or total <= 0:
        return 0.0
    # The last 3 % are for evaluation and standalone rates, which follow the last step of a case.
    return max(0.0, min(0.97, (case.step + 1) / total * 0.97))


def recent_throughput(case: CaseState, seconds: float = THROUGHPUT_WINDOW) -> float | None:
    """Mean samples per second of the last ``seconds`` with data; None: no data."""
    if not case.throughput:
        return None
    until = case.throughput[-1][0]
    return fmean(value for at, value in case.throughput if at >= until - seconds)


def case_throughput(case: CaseState) -> float | None:
    """Throughput of a case so far, as in results: without the first epoch; None before the second has ended."""
    counted = [epoch for epoch in case.epochs if epoch.epoch > 0]
    seconds = sum(epoch.seconds for epoch in counted)
    return sum(epoch.samples for epoch in counted) / seconds if seconds > 0 else None


def standalone_rates(run: RunState, case: CaseState) -> dict[int, float]:
    """Standalone rates by rank at the case's local batch sizes: the measurement of the nearest size that serves for it."""
    rates: dict[int, float] = {}
    for rank, size in enumerate(case.local_batch_sizes):
        measured = [
            (abs(other_size - size), rate)
            for other in run.cases
            for other_rank, other_size, rate in other.standalone
            if other_rank == rank and is_same_size(other_size, size)
        ]
        if measured:
            rates[rank] = min(measured)[1]
    return rates


def ideal_throughput(run: RunState, case: CaseState) -> float | None:
    """The sum of the standalone rates of all ranks with samples; None while one of them is unknown."""
    rates, sizes = standalone_rates(run, case), case.local_batch_sizes
    with_samples = {rank for rank in run.ranks if rank >= len(sizes) or sizes[rank]}
    return sum(rates.values()) if rates and set(rates) == with_samples else None


def limit_throughput(run: RunState, case: CaseState) -> float | None:
    """The sum of the rates of all devices alone, a left-out one at the best rate known of it; None while one is unknown."""
    known = standalone_rates(run, case)
    for other in run.cases:
        for rank, _, rate in other.standalone:
            if rank < len(case.local_batch_sizes) and not case.local_batch_sizes[rank]:
                known[rank] = max(rate, known.get(rank, 0.0))
    return sum(known.values()) if known and set(known) == set(run.ranks) else None


@dataclass(frozen=True, slots=True)
class StepParts:
    """Parts of one rank's step in seconds, in the order in which they pass."""

    data: float
    """Loading the batch and copying it to the device."""
    host: float
    """The host thread was runnable but did not run."""
    compute: float
    """The rest of the rank's own work."""
    communication: float
    wait: float
    """Waiting for other ranks."""


def step_parts(run: RunState) -> dict[int, StepParts]:
    """The last step of every rank with a summary. Communication is not timed: it is the shortest wait, that of the slowest rank."""
    ranks = {rank.rank: rank for rank in run.ranks.values() if rank.compute_seconds is not None}
    communication = min((max(0.0, rank.wait_seconds or 0.0) for rank in ranks.values()), default=0.0)
    if len(run.ranks) < 2:
        communication = 0.0
    return {number: _parts(rank, communication) for number, rank in ranks.items()}


def _parts(rank: RankState, communication: float) -> StepParts:
    own = max(0.0, rank.compute_seconds or 0.0)
    data = min(own, max(0.0, rank.input_seconds or 0.0))
    host = min(own - data, max(0.0, rank.host_seconds or 0.0))
    return StepParts(data, host, own - data - host, communication, max(0.0, (rank.wait_seconds or 0.0) - communication))


def current_imbalance(run: RunState) -> float | None:
    """(max - min) / mean of the ranks' compute seconds in their last summaries; None: without summaries."""
    seconds = [rank.compute_seconds for rank in run.ranks.values() if rank.compute_seconds is not None]
    mean = fmean(seconds) if seconds else 0.0
    return (max(seconds) - min(seconds)) / mean if mean > 0 else None


def open_alerts(state: State, run: RunState | None = None) -> tuple[Alert, ...]:
    """Open alerts, worst and newest first. With ``run``: those of the run and of its nodes."""
    nodes = set(run.nodes) if run else set()
    selected = [
        alert
        for alert in state.alerts
        if alert.ended_at is None and (run is None or alert.run_id == run.run_id or (not alert.run_id and alert.node in nodes))
    ]
    return tuple(sorted(selected, key=lambda alert: (alert.severity != "critical", -alert.at)))
