"""The balancer under faults: broken clocks, silent ranks, devices that cost more than they save, costly changes, wrong profiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.balancer.policies import (
    MAX_SILENT_STEPS,
    RETRY_STEPS,
    Decision,
    Memory,
    Observation,
    Problem,
    decide,
    sizes_for,
    start,
)
from paceline.engine.balancer.rank_estimate import RankEstimate, update
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.errors import PlanImpossible
from paceline.engine.states import POLICIES, Policy

LAB = tuple(StepTime(0.002, 1 / (23 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
BEST = (118, 84, 27, 27)


def problem(policy: Policy = "hybrid", profile: tuple[StepTime, ...] = LAB, batch: int = 256, switching: float = 0.0) -> Problem:
    return Problem(policy, batch, profile, (1,) * len(profile), (batch,) * len(profile), switching_seconds=switching)


Measurement = Callable[[int, tuple[int, ...]], Sequence[float]]


def true_times(models: Sequence[StepTime]) -> Measurement:
    return lambda step, sizes: [model.at(size) for model, size in zip(models, sizes, strict=True)]


def run(asked: Problem, measure: Measurement, steps: int, memory: Memory | None = None) -> tuple[Memory, list[Decision]]:
    memory, decisions = memory or start(asked), []
    for step in range(steps):
        sizes = memory.local_batch_sizes
        decision = decide(asked, memory, [Observation(t, b) for t, b in zip(measure(step, sizes), sizes, strict=True)])
        decisions.append(decision)
        memory = decision.memory
    return memory, decisions


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300])
@pytest.mark.parametrize("policy", ["dynamic", "hybrid"])
def test_an_implausible_time_changes_nothing(policy: Policy, wrong: float) -> None:
    asked = problem(policy)
    memory, _ = run(asked, true_times(LAB), 20)

    def measured(step: int, sizes: tuple[int, ...]) -> Sequence[float]:
        return [wrong if rank == step % 4 else time for rank, time in enumerate(true_times(LAB)(step, sizes))]

    after, _ = run(asked, measured, 40, memory)
    assert after.changes == memory.changes


@pytest.mark.parametrize("jump", [1e6, 3600.0, 1e-6])
def test_a_clock_that_jumps_during_a_step_changes_nothing(jump: float) -> None:
    memory, _ = run(problem(), lambda step, sizes: [jump if step == 30 else t for t in true_times(LAB)(step, sizes)], 60)
    assert memory.local_batch_sizes == BEST
    assert memory.changes == 0


def test_an_outlier_in_the_very_first_step_does_not_mislead_a_run_with_a_profile() -> None:
    _, decisions = run(problem(), lambda step, sizes: [t * (50 if step == 0 else 1) for t in true_times(LAB)(step, sizes)], 20)
    assert not any(decision.is_change for decision in decisions)


@pytest.mark.parametrize("policy", ["dynamic", "hybrid"])
def test_a_rank_that_never_reports_keeps_its_share_and_the_others_are_balanced_around_it(policy: Policy) -> None:
    def measured(step: int, sizes: tuple[int, ...]) -> Sequence[float]:
        return [math.nan if rank == 1 else time for rank, time in enumerate(true_times(LAB)(step, sizes))]

    asked = problem(policy)
    memory, decisions = run(asked, measured, MAX_SILENT_STEPS)
    assert memory.local_batch_sizes == start(asked).local_batch_sizes
    assert decisions[-1].reason == "a rank has not reported yet"
    memory, decisions = run(asked, measured, 30, memory)
    first, silent, *others = memory.local_batch_sizes
    assert silent == start(asked).local_batch_sizes[1]
    left = 256 - silent
    assert first == pytest.approx(left * 12.7 / 18.7, abs=2)
    assert others == pytest.approx([left * 3 / 18.7] * 2, abs=2)


def test_a_rank_that_falls_silent_keeps_its_share_when_others_change_and_is_balanced_again_when_it_reports() -> None:
    asked, slow = problem(), (LAB[0].scaled(2), *LAB[1:])

    def measured(step: int, sizes: tuple[int, ...]) -> Sequence[float]:
        return [math.nan if rank == 3 else time for rank, time in enumerate(true_times(slow)(step, sizes))]

    memory, _ = run(asked, true_times(LAB), 20)
    memory, _ = run(asked, lambda step, sizes: [*true_times(LAB)(step, sizes)[:3], 0.0], MAX_SILENT_STEPS + 1, memory)
    memory, _ = run(asked, measured, 10, memory)
    assert memory.local_batch_sizes[3] == BEST[3]
    assert memory.local_batch_sizes[0] < 90
    memory, _ = run(asked, true_times(slow), 20, memory)
    assert memory.local_batch_sizes[3] > BEST[3]


def test_shares_rest_when_no_rank_reports() -> None:
    memory, decisions = run(problem("dynamic"), lambda step, sizes: [math.nan] * 4, 50)
    assert memory.changes == 0
    assert decisions[-1].reason == f"shares rest: no rank has reported for {MAX_SILENT_STEPS} steps"


def test_a_device_whose_fixed_cost_exceeds_what_it_saves_gets_samples_only_in_long_steps() -> None:
    costly = (*LAB[:3], StepTime(0.45, LAB[3].seconds_per_sample))
    assert start(problem(profile=costly)).local_batch_sizes[3] == 0
    assert start(problem(profile=costly, batch=2560)).local_batch_sizes[3] > 100


def test_a_device_that_becomes_too_slow_is_left_out_and_taken_back_after_it_recovers() -> None:
    asked, broken = problem(), (*LAB[:3], LAB[3].scaled(200))
    memory, decisions = run(asked, true_times(broken), 30)
    assert memory.local_batch_sizes[3] == 0
    assert any("rank 3 would take longer than it saves" in decision.reason for decision in decisions)
    memory, decisions = run(asked, true_times(LAB), RETRY_STEPS[1] + 10, memory)
    assert memory.local_batch_sizes == BEST
    assert any("rank 3 is tried again" in decision.reason for decision in decisions)


def test_retrying_a_left_out_device_costs_about_one_percent() -> None:
    asked, broken = problem(), (*LAB[:3], LAB[3].scaled(30))
    memory, _ = run(asked, true_times(broken), 30)
    total, steps = 0.0, 3000
    for _ in range(steps):
        seconds = true_times(broken)(0, memory.local_batch_sizes)
        total += max(seconds)
        memory = decide(asked, memory, [Observation(t, b) for t, b in zip(seconds, memory.local_batch_sizes, strict=True)]).memory
    best = max(true_times(broken)(0, start(problem(profile=broken)).local_batch_sizes))
    assert total / steps == pytest.approx(best, rel=0.02)


def test_what_a_change_costs_is_learned_and_small_gains_no_longer_pay() -> None:
    asked, slow, slower = problem(), (LAB[0].scaled(2), *LAB[1:]), (LAB[0].scaled(2.4), *LAB[1:])

    def costly(step: int, sizes: tuple[int, ...]) -> Sequence[float]:
        return [time + (30.0 if step == 0 else 0.0) for time in true_times(slow)(step, sizes)]

    memory, _ = run(asked, true_times(LAB), 20)
    memory, decisions = run(asked, true_times(slow), 2, memory)
    assert decisions[-1].is_change
    memory, _ = run(asked, costly, 30, memory)
    assert memory.switching_seconds == pytest.approx(15, rel=0.05)
    resting, decisions = run(asked, true_times(slower), 30, memory)
    assert resting.changes == memory.changes
    assert "do not earn the 15.0 s that a change costs" in decisions[-1].reason
    patient, _ = run(asked, true_times(slower), 1000, resting)
    assert patient.changes > memory.changes, "shares that have held for long are worth the cost"


def test_an_expected_cost_of_changing_is_weighed() -> None:
    slow = (LAB[0].scaled(1.3), *LAB[1:])
    assert run(problem(), true_times(slow), 20)[0].changes > 0
    assert run(problem(switching=1000.0), true_times(slow), 20)[0].changes == 0


def test_a_wrong_slope_in_the_profile_is_corrected_once_sizes_move() -> None:
    truth = (StepTime(0.1, 0.003), StepTime(0.1, 0.003))
    estimate = RankEstimate.from_model(StepTime(0.0, 0.004), is_prior_known=True)
    for size in (100,) * 20 + (60,) * 20 + (100,) * 20:
        estimate, _ = update(estimate, truth[0].at(size), size)
    assert estimate.step_time.at(140) == pytest.approx(truth[0].at(140), rel=0.03)
    assert estimate.step_time.at(40) == pytest.approx(truth[0].at(40), rel=0.05)


def test_a_speed_that_jumps_just_when_the_size_moved_is_no_slope() -> None:
    model = StepTime(0.01, 0.004)
    estimate = RankEstimate.from_model(model, is_prior_known=True)
    for size, slow in [(100, 1.0)] * 20 + [(70, 3.0)] * 30:
        estimate, _ = update(estimate, model.at(size) * slow, size)
    assert estimate.step_time.at(70) == pytest.approx(3 * model.at(70), rel=0.05)
    assert estimate.step_time.at(35) == pytest.approx(3 * model.at(35), rel=0.1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_fewer_samples_than_devices_are_trained_by_the_fastest(policy: Policy, batch: int) -> None:
    asked = problem(policy, batch=batch)
    memory, _ = run(asked, true_times(LAB), 30)
    assert sum(memory.local_batch_sizes) == batch
    if policy in ("hybrid", "proportional"):
        assert memory.local_batch_sizes[0] >= 1


def test_a_fast_device_that_a_small_batch_leaves_out_is_tried_and_used() -> None:
    truth = (*(StepTime(0.0, 0.1),) * 3, StepTime(0.0, 0.001))
    memory, _ = run(problem("dynamic", profile=truth, batch=3), true_times(truth), 60)
    assert memory.local_batch_sizes[3] == 3


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_that_does_not_hold_the_batch_is_refused_before_the_first_step(policy: Policy) -> None:
    with pytest.raises(PlanImpossible):
        start(Problem(policy, 256, LAB, (1,) * 4, (60,) * 4))


@given(
    st.sampled_from(POLICIES),
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=4, max_size=4),
    st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=4, max_size=4), min_size=1, max_size=25),
    st.sampled_from([1, 4]),
    st.integers(1, 300),
)
@settings(max_examples=150, deadline=None)
def test_no_bounds_and_no_times_make_the_step_loop_raise(
    policy: Policy, batch: int, bounds: list[tuple[int, int]], histories: list[list[float]], quantum: int, left: int
) -> None:
    lows, highs = tuple(low for low, _ in bounds), tuple(high for _, high in bounds)
    asked = Problem(policy, batch, LAB, lows, highs, quantum)
    if sum(highs) < batch:
        with pytest.raises(PlanImpossible):
            start(asked)
        return
    memory = start(asked)
    for seconds in histories:
        sizes = memory.local_batch_sizes
        assert sum(sizes) == batch
        assert all(0 <= size <= high for size, high in zip(sizes, highs, strict=True))
        memory = decide(asked, memory, [Observation(t, b) for t, b in zip(seconds, sizes, strict=True)]).memory
    assert sum(sizes_for(asked, memory, min(left, batch))) == min(left, batch)
