"""The allocator against brute force, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.step_time import StepTime, fit_step_time, ideal_seconds, slowest_seconds
from paceline.engine.errors import PlanImpossible

times = st.builds(
    StepTime,
    st.floats(0, 0.1) | st.just(0.0),
    st.floats(0.0005, 0.05),
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[StepTime], int, list[int], list[int]]:
    """Up to four devices and 14 samples, bounds that may or may not allow them."""
    models = draw(st.lists(times, min_size=1, max_size=4))
    lows = draw(st.lists(st.integers(0, 3), min_size=len(models), max_size=len(models)))
    highs = [low + draw(st.integers(0, 12)) for low in lows]
    return models, draw(st.integers(1, 14)), lows, highs


def brute_force(models: list[StepTime], samples: int, lows: list[int], highs: list[int]) -> float | None:
    """Return the least step time over all allocations, None where there is none."""
    allocations = itertools.product(*(range(low, high + 1) for low, high in zip(lows, highs, strict=True)))
    return min((slowest_seconds(models, allocation) for allocation in allocations if sum(allocation) == samples), default=None)


@given(problems())
@settings(max_examples=300, deadline=None)
def test_no_other_allocation_is_faster_than_the_allocation(problem: tuple[list[StepTime], int, list[int], list[int]]) -> None:
    models, samples, lows, highs = problem
    best = brute_force(models, samples, lows, highs)
    if best is None:
        with pytest.raises(PlanImpossible):
            allocate(models, samples, lows, highs)
        return
    sizes = allocate(models, samples, lows, highs)
    assert sum(sizes) == samples
    assert all(low <= size <= high for low, size, high in zip(lows, sizes, highs, strict=True))
    assert slowest_seconds(models, sizes) <= best * (1 + 1e-12)
    assert ideal_seconds(models, samples) <= best * (1 + 1e-12)


@given(st.lists(times, min_size=1, max_size=8), st.integers(0, 2000), st.sampled_from([1, 4, 8]))
@settings(max_examples=100, deadline=None)
def test_shares_sum_to_the_batch_and_keep_the_quantum(models: list[StepTime], samples: int, quantum: int) -> None:
    sizes = allocate(models, samples, quantum=quantum)
    assert sum(sizes) == samples
    assert sum(1 for size in sizes if size % quantum) <= 1


def test_equal_devices_share_equally_and_the_first_take_the_remainder() -> None:
    assert allocate([StepTime(0.0, 1.0)] * 4, 258) == (65, 65, 64, 64)


def test_the_reference_lab_gets_its_exact_optimum() -> None:
    models = [StepTime(0.0, 1 / speed) for speed in (12.7, 9.1, 3.0, 3.0)]
    assert allocate(models, 256) == (118, 84, 27, 27)


def test_a_device_whose_fixed_cost_is_too_high_is_left_out() -> None:
    assert allocate([StepTime(0.0, 0.01), StepTime(1.0, 0.01)], 20) == (20, 0)


@pytest.mark.parametrize(
    ("samples", "lows", "highs", "word"),
    [(3, [1] * 4, [9] * 4, "too small"), (30, [0] * 4, [5] * 4, "does not fit"), (9, [3, 0, 0, 0], [2, 9, 9, 9], "rank 0")],
)
def test_impossible_bounds_are_refused_with_the_bound_named(samples: int, lows: list[int], highs: list[int], word: str) -> None:
    with pytest.raises(PlanImpossible, match=word):
        allocate([StepTime(0.0, 1.0)] * 4, samples, lows, highs)


@given(times, st.integers(1, 500), st.integers(501, 4000))
@settings(deadline=None)
def test_a_fit_finds_the_line_it_was_measured_on(model: StepTime, small: int, large: int) -> None:
    found = fit_step_time((small, model.at(small)), (large, model.at(large)))
    assert found.at(large) == pytest.approx(model.at(large), rel=1e-6)
    assert found.at(small) == pytest.approx(model.at(small), rel=1e-3)


def test_noise_never_makes_a_fitted_time_negative() -> None:
    for small, large in (((4, 0.1), (16, 0.5)), ((4, 0.5), (16, 0.4)), ((4, 0.5), (4, 0.5))):
        found = fit_step_time(small, large)
        assert found.fixed_seconds >= 0
        assert found.seconds_per_sample > 0
