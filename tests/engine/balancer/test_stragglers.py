"""Straggler alerts: against a rank's own baseline, with cause and hysteresis, and robust against broken clocks."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.balancer.step_phases import StepWork
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.balancer.stragglers import StragglerState, detect_stragglers, initial_state
from paceline.engine.events import RankEvent, StragglerEnded, StragglerFound

LAB = tuple(StepTime(0.002, 1 / (34 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
SIZES = (176, 126, 41, 41)
PARTS = {"data": "data_seconds", "host-to-device": "copy_seconds", "host": "host_seconds"}


def baseline_work(rank: int, samples: int, factor: float = 1.0, wait: float = 0.01) -> StepWork:
    seconds = LAB[rank].at(samples) * factor
    return StepWork(seconds, samples, 0.04 * seconds, 0.02 * seconds, 0.01 * seconds, wait)


def slowed(work: StepWork, cause: str, extra: float) -> StepWork:
    """Return the same step with seconds added to the part of the cause."""
    values = {name: getattr(work, name) for name in PARTS.values()}
    if cause in PARTS:
        values[PARTS[cause]] += extra
    return StepWork(work.seconds + extra, work.samples, **values, wait_seconds=work.wait_seconds)


def simulate(
    steps: int,
    change: Callable[[int, list[StepWork]], list[StepWork]],
    state: StragglerState | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> tuple[StragglerState, list[RankEvent]]:
    """Simulate a lab without faults, with 2 % noise; ``change`` alters each step."""
    draw = random.Random(3)
    events: list[RankEvent] = []
    state = state or initial_state(len(LAB))
    for step in range(steps):
        works = [baseline_work(rank, size, draw.gauss(1.0, 0.02)) for rank, size in enumerate(sizes)]
        state, new_events = detect_stragglers(LAB, state, step, change(step, works))
        events += new_events
    return state, events


def slow_rank(rank: int, cause: str, factor: float, first: int, last: int) -> Callable[[int, list[StepWork]], list[StepWork]]:
    """One rank is slower by a factor from step ``first`` up to ``last``."""

    def change(step: int, works: list[StepWork]) -> list[StepWork]:
        if first <= step < last:
            works[rank] = slowed(works[rank], cause, (factor - 1.0) * works[rank].seconds)
        return works

    return change


def found_alerts(events: list[RankEvent]) -> list[StragglerFound]:
    return [event for event in events if isinstance(event, StragglerFound)]


def ended_alerts(events: list[RankEvent]) -> list[StragglerEnded]:
    return [event for event in events if isinstance(event, StragglerEnded)]


@pytest.mark.parametrize("cause", ["compute", "data", "host-to-device", "host"])
@pytest.mark.parametrize("rank", [0, 3])
def test_a_slow_rank_is_named_with_its_cause_within_ten_steps_and_released_when_it_recovers(cause: str, rank: int) -> None:
    _, events = simulate(120, slow_rank(rank, cause, 1.2, 50, 90))
    (alert,), (end,) = found_alerts(events), ended_alerts(events)
    assert (alert.straggler, alert.cause) == (rank, cause)
    assert 50 <= alert.since <= 52
    assert alert.step < 60
    assert alert.slowdown == pytest.approx(1.2, abs=0.04)
    assert alert.part_seconds - alert.part_expected_seconds == pytest.approx(0.2 * alert.expected_seconds, rel=0.25)
    assert (end.straggler, end.cause, end.since) == (rank, cause, alert.since)
    assert 90 <= end.step <= 92
    assert end.slowdown == pytest.approx(1.2, abs=0.04)


def test_a_slow_device_at_its_own_speed_is_no_straggler() -> None:
    assert simulate(1000, lambda _, works: works, sizes=(96, 96, 96, 96))[1] == []


def test_a_fit_that_is_a_little_too_fast_is_corrected_and_opens_no_alert() -> None:
    _, events = simulate(200, lambda _, works: [slowed(work, "compute", 0.04 * work.seconds) for work in works])
    assert events == []


def test_a_rank_that_is_slow_from_the_first_step_is_found_by_its_own_fit() -> None:
    (alert,) = found_alerts(simulate(20, slow_rank(1, "compute", 1.5, 0, 20))[1])
    assert (alert.straggler, alert.since) == (1, 0)
    assert alert.slowdown == pytest.approx(1.5 / 1.05, rel=0.03)


def test_a_slowdown_that_grows_slowly_does_not_become_the_baseline() -> None:
    def creep(step: int, works: list[StepWork]) -> list[StepWork]:
        works[2] = slowed(works[2], "compute", 0.0005 * step * works[2].seconds)
        return works

    (alert,) = found_alerts(simulate(600, creep)[1])
    assert alert.straggler == 2


@pytest.mark.parametrize(("noise", "steps"), [(0.04, 200), (0.04, 600), (0.1, 300)])
def test_a_slow_creep_is_told_by_18_percent_with_the_step_where_it_began(noise: float, steps: int) -> None:
    draw = random.Random(steps)

    def creep(step: int, works: list[StepWork]) -> list[StepWork]:
        slowdowns = [1.0 + 0.25 * min(max(step - 150, 0) / steps, 1.0) if rank == 2 else 1.0 for rank in range(4)]
        return [
            baseline_work(rank, work.samples, slowdown * max(0.2, draw.gauss(1.0, noise)))
            for rank, (work, slowdown) in enumerate(zip(works, slowdowns, strict=True))
        ]

    alerts = found_alerts(simulate(150 + steps, creep)[1])
    assert {found.straggler for found in alerts} == {2}
    alert = alerts[0]
    assert (alert.straggler, alert.cause) == (2, "compute")
    assert 0.25 * (alert.step - 150) / steps <= 0.18
    assert alert.since == pytest.approx(150, abs=0.35 * steps)


@pytest.mark.parametrize(("noise", "within"), [(0.08, 30), (0.15, 80)])
def test_a_jump_of_20_percent_that_noise_hides_in_single_steps_is_told(noise: float, within: int) -> None:
    for seed in range(3):
        draw = random.Random(seed)

        def jump(step: int, works: list[StepWork], draw: random.Random = draw) -> list[StepWork]:
            works = [baseline_work(rank, work.samples, max(0.2, draw.gauss(1.0, noise))) for rank, work in enumerate(works)]
            return slow_rank(1, "data", 1.2, 120, 120 + within)(step, works)

        (alert,) = found_alerts(simulate(120 + within, jump)[1])
        assert (alert.straggler, alert.cause) == (1, "data")
        assert alert.since == pytest.approx(120, abs=15)


def test_a_part_that_grows_slowly_is_the_cause() -> None:
    def creep(step: int, works: list[StepWork]) -> list[StepWork]:
        works[2] = slowed(works[2], "data", 0.0006 * max(step - 100, 0) * works[2].seconds)
        return works

    (alert,) = found_alerts(simulate(400, creep)[1])
    assert (alert.straggler, alert.cause) == (2, "data")


def test_noise_of_15_percent_opens_no_alert() -> None:
    draw = random.Random(1)

    def noisy(_: int, works: list[StepWork]) -> list[StepWork]:
        return [baseline_work(rank, work.samples, max(0.2, draw.gauss(1.0, 0.15))) for rank, work in enumerate(works)]

    assert simulate(2000, noisy)[1] == []


def test_ranks_that_slow_down_together_are_one_alert() -> None:
    def all_slow(step: int, works: list[StepWork]) -> list[StepWork]:
        return [slowed(work, "compute", 0.3 * work.seconds) if 100 <= step < 160 else work for work in works]

    _, events = simulate(200, all_slow)
    (alert,), (end,) = found_alerts(events), ended_alerts(events)
    assert (alert.straggler, alert.cause, alert.since) == (None, "compute", 100)
    assert alert.slowdown == pytest.approx(1.3, abs=0.05)
    assert end.straggler is None
    assert 160 <= end.step <= 170


def test_a_network_that_worsens_slowly_is_told() -> None:
    def worse(step: int, works: list[StepWork]) -> list[StepWork]:
        wait = 0.01 + 0.1 * min(max(step - 150, 0) / 400, 1.0)
        return [StepWork(w.seconds, w.samples, w.data_seconds, wait_seconds=wait) for w in works]

    (alert,) = found_alerts(simulate(560, worse)[1])
    assert (alert.straggler, alert.cause) == (None, "network")
    assert alert.part_seconds < 0.06
    assert 150 <= alert.since <= alert.step - 20


def test_single_outliers_and_a_short_hiccup_open_no_alert() -> None:
    def hiccup(step: int, works: list[StepWork]) -> list[StepWork]:
        if step % 9 == 0 or 100 <= step < 104:
            works[0] = slowed(works[0], "compute", works[0].seconds)
        return works

    assert simulate(200, hiccup)[1] == []


def test_a_slowdown_around_the_threshold_opens_one_alert_only() -> None:
    def flutter(step: int, works: list[StepWork]) -> list[StepWork]:
        if step >= 50:
            works[1] = slowed(works[1], "compute", (0.16 if step % 20 < 12 else 0.09) * works[1].seconds)
        return works

    assert len(found_alerts(simulate(400, flutter)[1])) == 1


def test_a_change_of_shares_is_no_slowness_even_where_the_fitted_line_is_wrong_there() -> None:
    state, _ = simulate(60, lambda _, works: works)

    def far(step: int, works: list[StepWork]) -> list[StepWork]:
        return [slowed(work, "compute", 0.08 * work.seconds) for work in works]

    assert simulate(100, far, state, sizes=(96, 96, 96, 96))[1] == []


def test_shares_that_follow_a_slowdown_do_not_hide_it_and_the_alert_reports_what_they_save() -> None:
    state, events = simulate(60, lambda _, works: works)
    draw = random.Random(5)
    before, after = SIZES, (120, 154, 55, 55)
    for step in range(60, 140):
        sizes = before if step < 62 or step >= 102 else after
        works = [baseline_work(rank, size, draw.gauss(1.0, 0.02)) for rank, size in enumerate(sizes)]
        if step < 100:
            works[0] = slowed(works[0], "compute", works[0].seconds)
        state, new_events = detect_stragglers(LAB, state, step, works)
        events += new_events
    (alert,), (end,) = found_alerts(events), ended_alerts(events)
    assert (alert.straggler, alert.before, alert.after) == (0, before, after)
    assert end.gain == pytest.approx((0.82 - 0.56) / (0.82 - 0.41), abs=0.1)


def test_the_network_is_the_cause_when_all_ranks_wait_and_none_works_longer() -> None:
    def late(step: int, works: list[StepWork]) -> list[StepWork]:
        return [StepWork(w.seconds, w.samples, wait_seconds=w.wait_seconds + (0.1 if 50 <= step < 80 else 0.0)) for w in works]

    _, events = simulate(110, late)
    (alert,), (end,) = found_alerts(events), ended_alerts(events)
    assert (alert.straggler, alert.cause) == (None, "network")
    assert alert.since == 49  # waits are reported one step late
    assert alert.step < 60
    assert alert.part_seconds - alert.part_expected_seconds == pytest.approx(0.1, abs=0.01)
    assert (end.straggler, end.step) == (None, 79)


def test_a_slowdown_that_ended_before_its_alert_opens_is_told_all_the_same() -> None:
    state = initial_state(1)
    events: list[RankEvent] = []
    for step, error in enumerate([0.0] * 20 + [1, 1, 1, 1, 0.3, 0.3, 0, 0.3]):
        seconds = LAB[0].at(100) * (1.0 + error)
        state, new_events = detect_stragglers(LAB[:1], state, step, [StepWork(seconds, 100)])
        events += new_events
    (alert,) = found_alerts(events)
    assert (alert.straggler, alert.since) == (0, 20)
    assert alert.slowdown == pytest.approx(2.0, abs=0.05)


def test_two_stragglers_at_once_are_two_alerts() -> None:
    one, other = slow_rank(0, "compute", 1.5, 50, 80), slow_rank(3, "data", 2.0, 55, 85)
    events = simulate(110, lambda step, works: other(step, one(step, works)))[1]
    assert [(alert.straggler, alert.cause) for alert in found_alerts(events)] == [(0, "compute"), (3, "data")]
    assert [end.straggler for end in ended_alerts(events)] == [0, 3]


def test_a_cause_that_replaces_another_opens_a_new_alert() -> None:
    first, second = slow_rank(1, "data", 1.6, 50, 80), slow_rank(1, "compute", 1.6, 80, 120)
    events = simulate(150, lambda step, works: second(step, first(step, works)))[1]
    assert [alert.cause for alert in found_alerts(events)] == ["data", "compute"]
    assert [end.cause for end in ended_alerts(events)] == ["data", "compute"]


def test_a_device_that_costs_more_than_it_saves_is_marked_costly() -> None:
    models = (StepTime(0.01, 0.001), StepTime(0.01, 0.001), StepTime(0.08, 0.002))

    def alert(slowdown: float) -> StragglerFound:
        state = initial_state(3)
        events: list[RankEvent] = []
        for step in range(40):
            sizes = (100, 100, 10)
            factors = (1.0, 1.0, slowdown if step >= 20 else 1.0)
            works = [StepWork(m.at(b) * f, b) for m, b, f in zip(models, sizes, factors, strict=True)]
            state, new_events = detect_stragglers(models, state, step, works)
            events += new_events
        return found_alerts(events)[0]

    assert not alert(1.2).is_costly
    assert alert(3.0).is_costly


ANY_SECONDS = st.one_of(st.floats(), st.floats(0, 1))
STEPS = st.lists(
    st.lists(st.tuples(ANY_SECONDS, st.integers(0, 300), ANY_SECONDS, ANY_SECONDS), min_size=4, max_size=4), max_size=40
)


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_no_measured_time_makes_detection_raise(history: list[list[tuple[float, int, float, float]]]) -> None:
    state = initial_state(4)
    for step, ranks in enumerate(history):
        works = [StepWork(seconds, samples, data, wait_seconds=wait) for seconds, samples, data, wait in ranks]
        state, events = detect_stragglers(LAB, state, step, works)
        assert all(isinstance(event, (StragglerFound, StragglerEnded)) for event in events)
    assert all(0.0 < rank.factor < float("inf") for rank in state.baselines)


def test_a_rank_without_samples_or_without_a_clock_is_no_straggler() -> None:
    def mute(step: int, works: list[StepWork]) -> list[StepWork]:
        if step >= 40:
            works[0], works[1] = StepWork(0.0, 0), StepWork(float("nan"), 126)
        return works

    assert simulate(100, mute)[1] == []
