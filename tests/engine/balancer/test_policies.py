"""The four policies in a simulator: stable under noise, fast after a jump, independent of device names."""

from __future__ import annotations

import dataclasses
import random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.policies import Memory, Observation, Problem, decide, sizes_for, start
from paceline.engine.balancer.step_time import StepTime, slowest_seconds
from paceline.engine.balancer.tracker import Tracker, observe
from paceline.engine.states import POLICIES, Policy

LAB = tuple(StepTime(0.002, 1 / (23 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))


def problem(policy: Policy, profile: tuple[StepTime, ...] = LAB, batch: int = 256) -> Problem:
    return Problem(policy, batch, profile, (1,) * len(profile), (batch,) * len(profile))


def simulate(
    asked: Problem, truth: list[tuple[StepTime, ...]], noise: float = 0.0, outliers: float = 0.0, seed: int = 0
) -> tuple[list[float], Memory]:
    """Return the efficiency of every step (oracle seconds over seconds, both without that step's noise) and the memory."""
    random_numbers = random.Random(seed)
    memory, efficiency = start(asked), []
    for models in truth:
        sizes = memory.local_batch_sizes
        oracle = slowest_seconds(models, allocate(models, asked.global_batch_size))
        efficiency.append(oracle / slowest_seconds(models, sizes))
        seen = []
        for model, size in zip(models, sizes, strict=True):
            factor = 1 + noise * random_numbers.gauss(0, 1)
            if random_numbers.random() < outliers:
                factor *= random_numbers.uniform(1.5, 3)
            seen.append(Observation(model.at(size) * max(factor, 0.2), size))
        memory = decide(asked, memory, seen).memory
    return efficiency, memory


def slowed(rank: int, factor: float) -> tuple[StepTime, ...]:
    return tuple(model.scaled(factor) if i == rank else model for i, model in enumerate(LAB))


def test_equal_gives_the_same_share_to_all_and_never_changes() -> None:
    efficiency, memory = simulate(problem("equal"), [LAB] * 20)
    assert memory.local_batch_sizes == (64, 64, 64, 64)
    assert memory.changes == 0
    assert efficiency[-1] == pytest.approx(0.43, abs=0.01)


def test_proportional_follows_the_profile_and_never_changes() -> None:
    _, memory = simulate(problem("proportional"), [slowed(0, 3.0)] * 20)
    assert memory.local_batch_sizes == (118, 84, 27, 27)
    assert memory.changes == 0


def test_dynamic_starts_equal_and_is_right_after_one_measurement() -> None:
    asked = problem("dynamic")
    assert start(asked).local_batch_sizes == (64, 64, 64, 64)
    efficiency, memory = simulate(asked, [LAB] * 20)
    assert min(efficiency[2:]) > 0.97
    assert memory.changes <= 2


def test_dynamic_does_not_know_the_profile() -> None:
    wrong = tuple(reversed(LAB))
    assert simulate(problem("dynamic", LAB), [LAB] * 30) == simulate(problem("dynamic", wrong), [LAB] * 30)


def test_hybrid_starts_at_the_optimum_and_rests_there() -> None:
    efficiency, memory = simulate(problem("hybrid"), [LAB] * 100)
    assert min(efficiency) > 0.99
    assert memory.changes == 0


def test_hybrid_overrules_a_wrong_profile() -> None:
    efficiency, _ = simulate(problem("hybrid", tuple(reversed(LAB))), [LAB] * 30)
    assert min(efficiency[5:]) > 0.97


@pytest.mark.parametrize("policy", ["dynamic", "hybrid"])
def test_noise_with_outliers_changes_shares_rarely_and_costs_less_than_two_percent(policy: Policy) -> None:
    changes, means = [], []
    for seed in range(10):
        efficiency, memory = simulate(problem(policy), [LAB] * 300, noise=0.04, outliers=0.01, seed=seed)
        changes.append(memory.changes / 3)
        means.append(sum(efficiency[20:]) / 280)
    assert median(changes) <= 2, changes
    assert median(means) >= 0.98, means


@pytest.mark.parametrize("factor", [pytest.param(2.0, marks=pytest.mark.slow), pytest.param(0.5, marks=pytest.mark.slow), 1.5])
def test_a_jump_of_any_rank_is_followed_within_three_steps(factor: float) -> None:
    settled = []
    for seed in range(40):
        rank = seed % 4
        before, after = (LAB, slowed(rank, factor)) if factor > 1 else (slowed(rank, 1 / factor), LAB)
        efficiency, _ = simulate(problem("hybrid"), [before] * 60 + [after] * 40, noise=0.04, outliers=0.01, seed=seed)
        tail = efficiency[60:]
        settled.append(next(i for i in range(30) if sum(e >= 0.95 for e in tail[i : i + 10]) >= 9))
    assert median(settled) <= 3, settled
    assert sorted(settled)[36] <= 10, settled


@given(st.permutations(range(4)), st.sampled_from(POLICIES))
@settings(max_examples=30, deadline=None)
def test_the_order_of_devices_changes_nothing_but_the_order_of_shares(order: list[int], policy: Policy) -> None:
    distinct = tuple(StepTime(0.001 * i, 1 / rate) for i, rate in enumerate((292.0, 209.0, 71.0, 64.0), 1))
    there = simulate(problem(policy, distinct), [distinct] * 8)
    shuffled = tuple(distinct[i] for i in order)
    efficiency, memory = simulate(problem(policy, shuffled), [shuffled] * 8)
    assert efficiency == pytest.approx(there[0], abs=0.02)
    for place, original in enumerate(order):
        assert abs(memory.local_batch_sizes[place] - there[1].local_batch_sizes[original]) <= 1


def test_nothing_but_measured_times_and_bounds_reaches_the_balancer() -> None:
    assert {field.name for field in dataclasses.fields(Problem)} == {
        "policy",
        "global_batch_size",
        "profile",
        "lows",
        "highs",
        "quantum",
        "switching_seconds",
    }
    assert {field.name for field in dataclasses.fields(Observation)} == {"seconds", "samples"}


@given(
    st.sampled_from(POLICIES),
    st.lists(
        st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4),
        min_size=1,
        max_size=15,
    ),
    st.integers(4, 600),
)
@settings(max_examples=200, deadline=None)
def test_no_measured_time_makes_shares_invalid(policy: Policy, histories: list[list[float]], batch: int) -> None:
    asked = problem(policy, LAB, batch)
    memory = start(asked)
    for seconds in histories:
        sizes = memory.local_batch_sizes
        assert sum(sizes) == batch
        assert all(0 <= size <= batch for size in sizes)
        decision = decide(asked, memory, [Observation(t, size) for t, size in zip(seconds, sizes, strict=True)])
        assert decision.reason
        assert decision.is_change == (decision.local_batch_sizes != sizes)
        memory = decision.memory


@given(st.sampled_from(POLICIES), st.integers(1, 255))
@settings(deadline=None)
def test_the_smaller_last_step_is_shared_completely(policy: Policy, left: int) -> None:
    asked = problem(policy)
    assert sum(sizes_for(asked, start(asked), left)) == left


def test_memory_limits_are_kept_and_other_ranks_take_the_rest() -> None:
    asked = Problem("hybrid", 256, LAB, (1,) * 4, (100, 256, 256, 256))
    assert start(asked).local_batch_sizes[0] == 100
    assert sum(start(asked).local_batch_sizes) == 256


def test_a_change_states_its_reason_and_its_predicted_gain() -> None:
    asked = problem("hybrid")
    memory = start(asked)
    truth = slowed(0, 2.0)
    for models in [LAB] * 8 + [truth] * 4:
        sizes = memory.local_batch_sizes
        decision = decide(asked, memory, [Observation(m.at(s), s) for m, s in zip(models, sizes, strict=True)])
        if decision.is_change:
            break
        memory = decision.memory
    assert decision.reason.startswith("rank 0 changed speed")
    assert decision.predicted_before == pytest.approx(slowest_seconds(truth, sizes), rel=0.05)
    assert decision.predicted_after == pytest.approx(slowest_seconds(truth, decision.local_batch_sizes), rel=0.05)


@pytest.mark.parametrize(("calm_steps", "needed"), [(16, 2), (6, 3)])
def test_one_outlier_is_no_jump_but_two_similar_ones_are_and_three_in_the_first_steps(calm_steps: int, needed: int) -> None:
    tracker = Tracker()
    for _ in range(calm_steps):
        tracker, _ = observe(tracker, 1.0, 1.0)
    for slow in range(needed - 1):
        tracker, jumped = observe(tracker, 2.0 + 0.02 * slow, 1.0)
        assert (jumped, round(tracker.factor, 1)) == (False, 1.0)
    tracker, jumped = observe(tracker, 2.02, 1.0)
    assert (jumped, round(tracker.factor, 1)) == (True, 2.0)


def test_a_slow_drift_is_followed() -> None:
    tracker = Tracker()
    for step in range(200):
        tracker, _ = observe(tracker, 1.0 + step * 0.002, 1.0)
    assert tracker.factor == pytest.approx(1.4, rel=0.05)
