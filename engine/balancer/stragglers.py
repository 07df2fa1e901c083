"""Stragglers: a rank slower than its own healthy time, with cause and evidence; and a network slower than its own.

Every rank is compared with its own fitted line at its own local batch size, never with the median of unlike devices. An alert opens
when 7 of the last 10 full steps were slower than a threshold (10 %, or what the rank's noise demands) and ends when 7 of 10 are
within half of it. Network: the least wait of all ranks is communication that nothing hides; it grew though nobody's work did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import PlanImpossible
from ..events import RankEvent, StragglerEnded, StragglerFound
from .allocate import allocate
from .baseline import Baseline, StepRecord, learn, record
from .network_baseline import NEEDED, WINDOW, ExposedWait, NetworkBaseline, usual, waited
from .slowdown_cause import PARTS, find_cause, middle, parts_of
from .step_phases import StepWork
from .step_time import StepTime, slowest_seconds

LEAST = 0.10
"""Slowdown, less 1, below which nobody is told."""
SIGMAS = 2.2
"""Noise that seven of ten steps exceed by chance less than once in a million steps."""
_SANE = 1e6
"""Seconds beyond which no clock can have meant it, and one over those below which."""


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that has not ended."""

    found: StragglerFound
    steps: int = 0
    """Slow full steps since it was found."""
    slowdown: float = 0.0
    """Sum over these steps."""
    lost: float = 0.0
    """Seconds that these steps would have lost with the shares from before."""
    saved: float = 0.0
    """Of them, what the shares in use brought back."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known about all ranks of a case."""

    ranks: tuple[Baseline, ...]
    network: NetworkBaseline = field(default_factory=NetworkBaseline)
    open: tuple[tuple[int | None, OpenAlert], ...] = ()
    """By rank; None: the network."""


def start_watch(ranks: int) -> Watch:
    """Before the first step."""
    return Watch((Baseline(),) * ranks)


def watch(models: Sequence[StepTime], state: Watch, step: int, works: Sequence[StepWork]) -> tuple[Watch, tuple[RankEvent, ...]]:
    """Take what every rank told in one full step; gives what was found or has ended."""
    works = [_without_strange_parts(work) for work in works]
    open_for = dict(state.open)
    healthy = tuple(
        record(known, StepRecord(step, work, model.at(work.samples)), is_straggler=rank in open_for) if _is_sane(work) else known
        for rank, (known, model, work) in enumerate(zip(state.ranks, models, works, strict=True))
    )
    state = replace(state, ranks=healthy)
    told: list[RankEvent] = []
    for rank, work in enumerate(works):
        if _is_sane(work):
            state, events = _judge(models, state, rank, step)
            told += events
    state, events = _judge_network(models, state, step, works)
    told += events
    return _counted(models, state, works), tuple(told)


def _without_strange_parts(work: StepWork) -> StepWork:
    """Parts that no clock can have meant (NaN, negative, longer than the whole) count as compute."""
    parts = (work.data_seconds, work.copy_seconds, work.host_seconds)
    if all(0.0 <= part <= work.seconds for part in parts) and work.model_seconds >= 0.0:
        return work
    return StepWork(work.seconds, work.samples, wait_seconds=work.wait_seconds)


def _is_sane(work: StepWork) -> bool:
    """Whether the rank took part and its clock can be meant."""
    return work.samples > 0 and 1.0 / _SANE < work.seconds < _SANE


def _judge(models: Sequence[StepTime], state: Watch, rank: int, step: int) -> tuple[Watch, list[RankEvent]]:
    """One rank after its newest step."""
    healthy, alert = state.ranks[rank], dict(state.open).get(rank)
    threshold = max(LEAST, SIGMAS * healthy.sigma)
    recent = healthy.recent(WINDOW)
    errors = [healthy.error(seen) for seen in recent]
    is_slow = sum(error >= threshold for error in errors) >= NEEDED
    if alert is None and not is_slow:
        ranks = (*state.ranks[:rank], learn(healthy), *state.ranks[rank + 1 :])
        return replace(state, ranks=ranks), []
    if alert is None:
        found = _found(models, state, rank, step)
        return _opened(state, rank, found), [found]
    if sum(error < threshold / 2 for error in errors) >= NEEDED:
        return _closed(state, rank, _since(healthy, lambda error: error < threshold / 2))
    if not is_slow or step - alert.found.step < WINDOW or _has(healthy, alert.found.cause, threshold / 2):
        return state, []
    renewed = replace(_found(models, state, rank, step), since=recent[0].step)  # the old cause is gone for the whole window
    state, events = _closed(state, rank, renewed.since)
    return _opened(state, rank, renewed), [*events, renewed]


def _found(models: Sequence[StepTime], state: Watch, rank: int, step: int) -> StragglerFound:
    """The alert of a rank most of whose last steps were slow: those above half of what the slow ones have in common."""
    healthy = state.ranks[rank]
    half = sorted(healthy.error(seen) for seen in healthy.recent(WINDOW))[-(NEEDED + 1) // 2] / 2
    since = _since(healthy, lambda error: error >= half)
    slow = [seen for seen in healthy.recent(WINDOW) if seen.step >= since and healthy.error(seen) >= half]
    cause, ought, took = find_cause([seen.work for seen in slow], [healthy.expected(seen) for seen in slow])
    slowdown = 1.0 + middle([healthy.error(seen) for seen in slow])
    now = tuple(one.history[-1].work.samples if one.history and one.history[-1].step == step else 0 for one in state.ranks)
    return StragglerFound(
        straggler=rank,
        cause=cause,
        slowdown=slowdown,
        since=since,
        step=step,
        expected_seconds=healthy.factor * slow[-1].model_seconds,
        seconds=middle([seen.work.seconds for seen in slow]),
        part_expected_seconds=ought,
        part_seconds=took,
        before=_sizes_before(state, since, now),
        after=now,
        is_costly=_is_costly(models, state, rank, slowdown, now),
    )


def _since(healthy: Baseline, is_such: Callable[[float], bool]) -> int:
    """First step of the newest run of steps whose errors are such; up to three exceptions in a row are passed over."""
    first, misses = healthy.history[-1].step, 0
    for seen in reversed(healthy.recent(len(healthy.history))):
        if is_such(healthy.error(seen)):
            first, misses = seen.step, 0
        elif (misses := misses + 1) > WINDOW - NEEDED:
            break
    return first


def _has(healthy: Baseline, cause: str, least: float) -> bool:
    """Whether that part of the work is still larger than it should be, by more than a few exceptions."""
    index = PARTS.index(cause)
    large = 0
    for seen in healthy.recent(WINDOW):
        excess = parts_of(seen.work)[index] - healthy.expected(seen)[index]
        large += excess >= least * healthy.factor * seen.model_seconds
    return large > WINDOW - NEEDED


def _sizes_before(state: Watch, since: int, now: tuple[int, ...]) -> tuple[int, ...]:
    """Local batch sizes of the last full step before."""
    sizes = []
    for healthy, size in zip(state.ranks, now, strict=True):
        earlier = [seen for seen in healthy.history if seen.step < since]
        sizes.append(earlier[-1].work.samples if earlier else healthy.history[0].work.samples if healthy.history else size)
    return tuple(sizes)


def _is_costly(models: Sequence[StepTime], state: Watch, rank: int, slowdown: float, sizes: tuple[int, ...]) -> bool:
    """Whether the others would be faster without this rank, whatever the shares."""
    levels = [
        model.scaled(healthy.factor * (slowdown if i == rank else 1.0))
        for i, (model, healthy) in enumerate(zip(models, state.ranks, strict=True))
    ]
    others = [level for i, level in enumerate(levels) if i != rank]
    total = sum(sizes)
    try:
        return slowest_seconds(others, allocate(others, total)) < slowest_seconds(
            levels, allocate(levels, total, (1,) * len(levels))
        )
    except PlanImpossible:
        return False


def _opened(state: Watch, who: int | None, found: StragglerFound) -> Watch:
    return replace(state, open=(*state.open, (who, OpenAlert(found))))


def _closed(state: Watch, who: int | None, until: int) -> tuple[Watch, list[RankEvent]]:
    alert = dict(state.open)[who]
    found = alert.found
    ended = StragglerEnded(
        straggler=who,
        cause=found.cause,
        since=found.since,
        step=until,
        slowdown=alert.slowdown / alert.steps if alert.steps else found.slowdown,
        gain=min(max(alert.saved / alert.lost, 0.0), 1.0) if alert.lost > 0.0 and who is not None else None,
    )
    return replace(state, open=tuple(item for item in state.open if item[0] != who)), [ended]


def _judge_network(models: Sequence[StepTime], state: Watch, step: int, works: Sequence[StepWork]) -> tuple[Watch, list[RankEvent]]:
    """The least wait after its newest step. It was told one step late, so it belongs to the step before."""
    waits = [work.wait_seconds for work in works if _is_sane(work) and 0.0 <= work.wait_seconds < _SANE]
    whole = slowest_seconds(_levels(models, state), [work.samples for work in works])
    if not waits or step == 0 or whole <= 0.0:
        return state, []
    state = replace(state, network=waited(state.network, ExposedWait(step - 1, min(waits), whole)))
    if None in dict(state.open):
        calm = state.network.calm()
        return _closed(state, None, calm[0].step) if calm else (state, [])
    slow = state.network.slow()
    if not slow:
        return replace(state, network=usual(state.network)), []
    found = _found_network(state.network, slow, step, tuple(work.samples for work in works))
    return _opened(state, None, found), [found]


def _found_network(network: NetworkBaseline, slow: Sequence[ExposedWait], step: int, sizes: tuple[int, ...]) -> StragglerFound:
    wait, seconds = middle([one.wait_seconds for one in slow]), middle([one.healthy_seconds for one in slow])
    return StragglerFound(
        straggler=None,
        cause="network",
        slowdown=(seconds + wait) / (seconds + network.usual),
        since=slow[0].step,
        step=step,
        expected_seconds=seconds + network.usual,
        seconds=seconds + wait,
        part_expected_seconds=network.usual,
        part_seconds=wait,
        before=sizes,
        after=sizes,
    )


def _levels(models: Sequence[StepTime], state: Watch) -> list[StepTime]:
    """What every rank takes when it is healthy."""
    return [model.scaled(healthy.factor) for model, healthy in zip(models, state.ranks, strict=True)]


def _counted(models: Sequence[StepTime], state: Watch, works: Sequence[StepWork]) -> Watch:
    """Add this step to what open alerts cost and what the shares in use bring back."""
    if not state.open:
        return state
    levels = _levels(models, state)
    errors = [healthy.error(healthy.history[-1]) if healthy.history else 0.0 for healthy in state.ranks]
    now = max((work.seconds for work in works if _is_sane(work)), default=0.0)
    slow = {who for who, _ in state.open}
    actual = [level.scaled(1.0 + max(errors[i], 0.0)) if i in slow else level for i, level in enumerate(levels)]
    opened = []
    for who, alert in state.open:
        slowdown = alert.found.slowdown if who is None else 1.0 + errors[who]
        if slowdown < 1.0 + LEAST / 2:  # it has recovered, which is not certain yet
            opened.append((who, alert))
            continue
        before = slowest_seconds(actual, alert.found.before)
        opened.append(
            (
                who,
                OpenAlert(
                    alert.found,
                    alert.steps + 1,
                    alert.slowdown + slowdown,
                    alert.lost + max(before - slowest_seconds(levels, alert.found.before), 0.0),
                    alert.saved + before - now,
                ),
            )
        )
    return replace(state, open=tuple(opened))
