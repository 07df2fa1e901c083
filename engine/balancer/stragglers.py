"""Stragglers: ranks slower than their own baseline, with cause and evidence; and a network slower than its own baseline.

Every rank is compared with its own fitted line at its own local batch size, never with the median of unlike devices. An alert opens
when 7 of the last 10 full steps exceeded a threshold (10 %, more for a noisy rank) and ends when 7 of 10 are within half of it.
What grows slowly or is hidden by noise shows in sums and medians of more steps (``baseline.py``).
Network: the least wait of all ranks is communication that no work hides; the alert says that it grew while no rank's work did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median_low

from ..errors import PlanImpossible
from ..events import RankEvent, StragglerEnded, StragglerFound
from ..states import WORK_CAUSES
from .allocate import allocate
from .baseline import CREEP_STEPS, MIN_EXCESS, Baseline, StepRecord, learn_newest_step, record_step
from .network_baseline import REQUIRED_STEPS, WINDOW_STEPS, ExposedWait, NetworkBaseline, learn_newest_wait, record_wait
from .slowdown_cause import find_cause, parts_of
from .step_phases import StepWork
from .step_time import StepTime, slowest_seconds

THRESHOLD_SIGMAS = 2.2
"""Threshold in sigmas: seven of ten steps exceed it by chance less than once in a million steps."""
_ALL_RANKS = -1
"""Key of the one alert about all ranks that slowed down together."""
_MAX_PLAUSIBLE_SECONDS = 1e6
"""A longer time, or one shorter than its reciprocal, comes from a broken clock."""


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that has not ended, and the costs counted for it."""

    event: StragglerFound
    is_creep: bool = False
    """Whether the steps were too slow together only: the alert then ends by them together."""
    slow_steps: int = 0
    """Slow full steps since it opened."""
    slowdown_sum: float = 0.0
    """Sum of the slowdowns of these steps."""
    lost_seconds: float = 0.0
    """Seconds that these steps would have lost with the shares from before the slowdown."""
    saved_seconds: float = 0.0
    """Part of them that the shares in use saved."""


@dataclass(frozen=True, slots=True)
class StragglerState:
    """Baselines and open alerts of all ranks of a case."""

    baselines: tuple[Baseline, ...]
    """By rank."""
    network: NetworkBaseline = field(default_factory=NetworkBaseline)
    open_alerts: tuple[tuple[int | None, OpenAlert], ...] = ()
    """By rank; None: the network; -1: all ranks together."""


def initial_state(ranks: int) -> StragglerState:
    """Return the state before the first step."""
    return StragglerState((Baseline(),) * ranks)


def detect_stragglers(
    models: Sequence[StepTime], state: StragglerState, step: int, works: Sequence[StepWork]
) -> tuple[StragglerState, tuple[RankEvent, ...]]:
    """Take every rank's work of one full step; return the new state, and an event for each alert that opened or ended."""
    works = [_without_implausible_parts(work) for work in works]
    open_alerts = dict(state.open_alerts)
    baselines = tuple(
        record_step(
            baseline, StepRecord(step, work, model.at(work.samples)), is_straggler=rank in open_alerts or _ALL_RANKS in open_alerts
        )
        if _is_plausible(work)
        else baseline
        for rank, (baseline, model, work) in enumerate(zip(state.baselines, models, works, strict=True))
    )
    state = replace(state, baselines=baselines)
    all_events: list[RankEvent] = []
    for rank, work in enumerate(works):
        if _is_plausible(work):
            state, events = _check_rank(models, state, rank, step)
            all_events += events
    state, events = _check_all_ranks(state, step)
    all_events += events
    state, events = _check_network(models, state, step, works)
    all_events += events
    return _accumulate_costs(models, state, works), tuple(all_events)


def _without_implausible_parts(work: StepWork) -> StepWork:
    """Implausible parts (NaN, negative, longer than the whole) count as ``model_seconds``."""
    parts = (work.data_seconds, work.copy_seconds, work.host_seconds)
    if all(0.0 <= part <= work.seconds for part in parts) and work.model_seconds >= 0.0:
        return work
    return StepWork(work.seconds, work.samples, wait_seconds=work.wait_seconds)


def _is_plausible(work: StepWork) -> bool:
    """Whether the rank took part and its clock is not broken."""
    return work.samples > 0 and 1.0 / _MAX_PLAUSIBLE_SECONDS < work.seconds < _MAX_PLAUSIBLE_SECONDS


def _check_rank(models: Sequence[StepTime], state: StragglerState, rank: int, step: int) -> tuple[StragglerState, list[RankEvent]]:
    """Learn from the newest step of a rank, or open, renew or close its alert."""
    baseline, alert = state.baselines[rank], dict(state.open_alerts).get(rank)
    threshold = max(MIN_EXCESS, THRESHOLD_SIGMAS * baseline.noise)
    recent = baseline.recent(WINDOW_STEPS)
    errors = [baseline.relative_error(record) for record in recent]
    is_clear = sum(error >= threshold for error in errors) >= REQUIRED_STEPS
    is_slow = is_clear or baseline.is_creeping() or baseline.has_excess()
    if alert is None and (not is_slow or _ALL_RANKS in dict(state.open_alerts)):
        baselines = (*state.baselines[:rank], learn_newest_step(baseline), *state.baselines[rank + 1 :])
        return replace(state, baselines=baselines), []
    if alert is None:
        alert_event = _straggler_event(models, state, rank, step)
        if _are_all_slow(state, step):
            alert_event = replace(alert_event, straggler=None)
            return _open_alert(state, _ALL_RANKS, alert_event), [alert_event]
        return _open_alert(state, rank, alert_event, is_creep=not is_clear), [alert_event]
    is_calm = sum(error < threshold / 2 for error in errors) >= REQUIRED_STEPS
    if is_calm and not baseline.is_creeping(0.5, needs_newest=not alert.is_creep):
        return _close_alert(state, rank, _since(baseline, lambda error: error < threshold / 2))
    if not is_slow or step - alert.event.step < WINDOW_STEPS or _is_cause_present(baseline, alert.event.cause, threshold / 2):
        return state, []
    # The old cause is absent from the whole window: close its alert and open one for the new cause.
    renewed = replace(_straggler_event(models, state, rank, step), since=recent[0].step)
    state, events = _close_alert(state, rank, renewed.since)
    return _open_alert(state, rank, renewed), [*events, renewed]


def _are_all_slow(state: StragglerState, step: int) -> bool:
    """Whether every rank with samples, of at least two, has been slow in most of the last steps: they share a cause."""
    working = [baseline for baseline in state.baselines if baseline.history and baseline.history[-1].step == step]
    return len(working) > 1 and not state.open_alerts and all(_is_mostly_slow(baseline) for baseline in working)


def _is_mostly_slow(baseline: Baseline) -> bool:
    threshold = max(MIN_EXCESS, THRESHOLD_SIGMAS * baseline.noise) / 2
    errors = [baseline.relative_error(record) for record in baseline.recent(WINDOW_STEPS)]
    return sum(error >= threshold for error in errors) > WINDOW_STEPS // 2


def _check_all_ranks(state: StragglerState, step: int) -> tuple[StragglerState, list[RankEvent]]:
    """Close the alert of all ranks once one of them is no longer slow; the others may then get alerts of their own."""
    if _ALL_RANKS not in dict(state.open_alerts):
        return state, []
    working = [baseline for baseline in state.baselines if baseline.history and baseline.history[-1].step == step]
    if all(_is_mostly_slow(baseline) for baseline in working):
        return state, []
    return _close_alert(state, _ALL_RANKS, step)


def _straggler_event(models: Sequence[StepTime], state: StragglerState, rank: int, step: int) -> StragglerFound:
    """Return the alert of a slow rank. Its slow steps are those above half of the error that REQUIRED_STEPS steps reach."""
    baseline = state.baselines[rank]
    recent = baseline.recent(WINDOW_STEPS)
    half = sorted(baseline.relative_error(record) for record in recent)[-(REQUIRED_STEPS + 1) // 2] / 2
    slow = [record for record in recent if baseline.relative_error(record) >= half]  # at least four, wherever in the window
    since = min(_since(baseline, lambda error: error >= half), slow[0].step)
    if baseline.is_creeping():
        since, slow = baseline.onset(), list(baseline.recent(CREEP_STEPS[0]))
    elif baseline.has_excess():
        since, slow = baseline.onset(), list(baseline.excess_records())
    cause, part_expected, part_measured = find_cause(
        [record.work for record in slow], [baseline.expected_parts(record) for record in slow]
    )
    slowdown = 1.0 + median_low([baseline.relative_error(record) for record in slow])
    sizes = tuple(
        baseline.history[-1].work.samples if baseline.history and baseline.history[-1].step == step else 0
        for baseline in state.baselines
    )
    return StragglerFound(
        straggler=rank,
        cause=cause,
        slowdown=slowdown,
        since=since,
        step=step,
        expected_seconds=baseline.factor * slow[-1].fitted_seconds,
        seconds=median_low([record.work.seconds for record in slow]),
        part_expected_seconds=part_expected,
        part_seconds=part_measured,
        before=_sizes_before(state, since, sizes),
        after=sizes,
        is_costly=_is_costly(models, state, rank, slowdown, sizes),
    )


def _since(baseline: Baseline, matches: Callable[[float], bool]) -> int:
    """Return the first step of the newest run of steps whose errors match; up to three exceptions in a row do not end the run."""
    first, misses = baseline.history[-1].step, 0
    for record in reversed(baseline.recent(len(baseline.history))):
        if matches(baseline.relative_error(record)):
            first, misses = record.step, 0
        elif (misses := misses + 1) > WINDOW_STEPS - REQUIRED_STEPS:
            break
    return first


def _is_cause_present(baseline: Baseline, cause: str, min_excess: float) -> bool:
    """Whether that part of the work is still too large in more steps than a few exceptions."""
    index = WORK_CAUSES.index(cause)
    large = 0
    for record in baseline.recent(WINDOW_STEPS):
        excess = parts_of(record.work)[index] - baseline.expected_parts(record)[index]
        large += excess >= min_excess * baseline.factor * record.fitted_seconds
    return large > WINDOW_STEPS - REQUIRED_STEPS


def _sizes_before(state: StragglerState, since: int, current: tuple[int, ...]) -> tuple[int, ...]:
    """Return the local batch sizes of the last full step before ``since``."""
    sizes = []
    for baseline, size in zip(state.baselines, current, strict=True):
        earlier = [record for record in baseline.history if record.step < since]
        sizes.append(earlier[-1].work.samples if earlier else baseline.history[0].work.samples if baseline.history else size)
    return tuple(sizes)


def _is_costly(models: Sequence[StepTime], state: StragglerState, rank: int, slowdown: float, sizes: tuple[int, ...]) -> bool:
    """Whether the other ranks would be faster without this one, at the best shares of each group."""
    times = [
        model.scaled(baseline.factor * (slowdown if i == rank else 1.0))
        for i, (model, baseline) in enumerate(zip(models, state.baselines, strict=True))
    ]
    others = [time for i, time in enumerate(times) if i != rank]
    total = sum(sizes)
    try:
        return slowest_seconds(others, allocate(others, total)) < slowest_seconds(times, allocate(times, total, (1,) * len(times)))
    except PlanImpossible:
        return False


def _open_alert(state: StragglerState, rank: int | None, event: StragglerFound, *, is_creep: bool = False) -> StragglerState:
    return replace(state, open_alerts=(*state.open_alerts, (rank, OpenAlert(event, is_creep))))


def _close_alert(state: StragglerState, rank: int | None, until: int) -> tuple[StragglerState, list[RankEvent]]:
    alert = dict(state.open_alerts)[rank]
    event = alert.event
    ended = StragglerEnded(
        straggler=event.straggler,
        cause=event.cause,
        since=event.since,
        step=until,
        slowdown=alert.slowdown_sum / alert.slow_steps if alert.slow_steps else event.slowdown,
        gain=min(max(alert.saved_seconds / alert.lost_seconds, 0.0), 1.0)
        if alert.lost_seconds > 0.0 and event.straggler is not None
        else None,
    )
    return replace(state, open_alerts=tuple(item for item in state.open_alerts if item[0] != rank)), [ended]


def _check_network(
    models: Sequence[StepTime], state: StragglerState, step: int, works: Sequence[StepWork]
) -> tuple[StragglerState, list[RankEvent]]:
    """Check the newest least wait. Waits are reported one step late, so it belongs to the step before."""
    waits = [work.wait_seconds for work in works if _is_plausible(work) and 0.0 <= work.wait_seconds < _MAX_PLAUSIBLE_SECONDS]
    baseline_seconds = slowest_seconds(_baseline_times(models, state), [work.samples for work in works])
    if not waits or step == 0 or baseline_seconds <= 0.0:
        return state, []
    state = replace(state, network=record_wait(state.network, ExposedWait(step - 1, min(waits), baseline_seconds)))
    if None in dict(state.open_alerts):
        calm = state.network.calm_steps()
        return _close_alert(state, None, calm[0].step) if calm else (state, [])
    slow = state.network.slow_steps()
    if not slow:
        return replace(state, network=learn_newest_wait(state.network)), []
    alert_event = _network_event(state.network, slow, step, tuple(work.samples for work in works))
    return _open_alert(state, None, alert_event), [alert_event]


def _network_event(network: NetworkBaseline, slow: Sequence[ExposedWait], step: int, sizes: tuple[int, ...]) -> StragglerFound:
    wait, seconds = (
        median_low([exposed.wait_seconds for exposed in slow]),
        median_low([exposed.baseline_seconds for exposed in slow]),
    )
    return StragglerFound(
        straggler=None,
        cause="network",
        slowdown=(seconds + wait) / (seconds + network.wait_seconds),
        since=min(network.since(), slow[0].step),
        step=step,
        expected_seconds=seconds + network.wait_seconds,
        seconds=seconds + wait,
        part_expected_seconds=network.wait_seconds,
        part_seconds=wait,
        before=sizes,
        after=sizes,
    )


def _baseline_times(models: Sequence[StepTime], state: StragglerState) -> list[StepTime]:
    """Return the step times of all ranks at their baseline."""
    return [model.scaled(baseline.factor) for model, baseline in zip(models, state.baselines, strict=True)]


def _accumulate_costs(models: Sequence[StepTime], state: StragglerState, works: Sequence[StepWork]) -> StragglerState:
    """Add this step to the costs of open alerts, and to what the shares in use saved."""
    if not state.open_alerts:
        return state
    times = _baseline_times(models, state)
    errors = [baseline.relative_error(baseline.history[-1]) if baseline.history else 0.0 for baseline in state.baselines]
    slowest = max((work.seconds for work in works if _is_plausible(work)), default=0.0)
    slow = {rank for rank, _ in state.open_alerts}
    actual = [time.scaled(1.0 + max(errors[i], 0.0)) if i in slow else time for i, time in enumerate(times)]
    open_alerts = []
    for rank, alert in state.open_alerts:
        slowdown = alert.event.slowdown if rank is None or rank == _ALL_RANKS else 1.0 + errors[rank]
        if slowdown < 1.0 + MIN_EXCESS / 2:  # recovered, but not yet in enough steps to close the alert
            open_alerts.append((rank, alert))
            continue
        before = slowest_seconds(actual, alert.event.before)
        open_alerts.append(
            (
                rank,
                OpenAlert(
                    alert.event,
                    alert.is_creep,
                    alert.slow_steps + 1,
                    alert.slowdown_sum + slowdown,
                    alert.lost_seconds + max(before - slowest_seconds(times, alert.event.before), 0.0),
                    alert.saved_seconds + before - slowest,
                ),
            )
        )
    return replace(state, open_alerts=tuple(open_alerts))
