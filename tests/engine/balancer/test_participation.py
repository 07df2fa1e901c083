"""Which devices take part, against brute force; the step-time model with communication."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.participation import EXACT_SEARCH_DEVICES, allocate_participating, choose_participants
from paceline.engine.balancer.pipeline import Communication, step_seconds
from paceline.engine.balancer.step_time import StepTime, slowest_seconds
from paceline.engine.errors import PlanImpossible

times = st.builds(StepTime, st.floats(0, 0.1) | st.just(0.0), st.floats(0.0005, 0.05))
LINKS = (1e8, 1e8, 1e8, 1e6)


def communication(links: Sequence[float] = LINKS, overlap: float = 1.0) -> Communication:
    return Communication((60_000, 40_000), (0.5, 1.0), tuple(links), 1e-4, overlap=overlap, optimizer_seconds=0.001)


def all_allocations(samples: int, allowed: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return [allocation for allocation in itertools.product(*allowed) if sum(allocation) == samples]


@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 1), st.data())
@settings(max_examples=200, deadline=None)
def test_no_allocation_is_faster_where_ranks_may_be_left_out(
    models: list[StepTime], samples: int, low: int, data: st.DataObject
) -> None:
    highs = [low + data.draw(st.integers(0, 12)) for _ in models]
    allocations = all_allocations(samples, [[0, *range(max(low, 1), high + 1)] for high in highs])
    if not allocations:
        with pytest.raises(PlanImpossible):
            allocate_participating(models, samples, [low] * len(models), highs)
        return
    sizes = allocate_participating(models, samples, [low] * len(models), highs)
    assert sizes in allocations
    assert slowest_seconds(models, sizes) <= min(slowest_seconds(models, allocation) for allocation in allocations) * (1 + 1e-12)


@given(st.lists(times, min_size=1, max_size=4), st.integers(1, 10), st.floats(0, 1), st.data())
@settings(max_examples=100, deadline=None)
def test_no_other_ring_is_faster_than_the_chosen_one(
    models: list[StepTime], samples: int, overlap: float, data: st.DataObject
) -> None:
    exchange = communication([data.draw(st.sampled_from([1e6, 1e7, 1e9])) for _ in models], overlap)
    allocations = all_allocations(samples, [range(samples + 1)] * len(models))
    best = min(step_seconds(models, allocation, exchange, leaves_ring=True) for allocation in allocations)
    sizes = choose_participants(models, samples, exchange, [1] * len(models), [samples] * len(models))
    assert step_seconds(models, sizes, exchange, leaves_ring=True) <= best * (1 + 1e-12)


@given(st.lists(times, min_size=1, max_size=4), st.integers(0, 8), st.sampled_from([2, 3, 4]), st.data())
@settings(max_examples=100, deadline=None)
def test_whole_quanta_are_shared_as_well_as_they_can_be(
    models: list[StepTime], units: int, quantum: int, data: st.DataObject
) -> None:
    lows = [data.draw(st.integers(0, 2)) for _ in models]
    highs = [low + quantum * data.draw(st.integers(0, 4)) for low in lows]
    samples = sum(lows) + quantum * units
    allocations = all_allocations(samples, [range(low, high + 1, quantum) for low, high in zip(lows, highs, strict=True)])
    if not allocations or samples == 0:
        return
    sizes = allocate(models, samples, lows, highs, quantum)
    assert sizes in allocations
    assert slowest_seconds(models, sizes) <= min(slowest_seconds(models, allocation) for allocation in allocations) * (1 + 1e-12)


def test_more_than_ten_devices_lose_the_one_that_the_ring_waits_for() -> None:
    models = [StepTime(0.001, 0.001)] * (EXACT_SEARCH_DEVICES + 2)
    sizes = choose_participants(
        models, 600, communication([1e8] * (EXACT_SEARCH_DEVICES + 1) + [1e4]), [1] * len(models), [600] * len(models)
    )
    assert sizes[-1] == 0
    assert min(sizes[:-1]) > 0


def test_a_device_on_a_slow_link_leaves_the_ring_but_still_slows_the_ring_of_a_running_job() -> None:
    models, without = [StepTime(0.0, 0.001)] * 4, (67, 67, 66, 0)
    exchange = communication()
    assert choose_participants(models, 200, exchange, [1] * 4, [200] * 4) == without
    assert step_seconds(models, without, exchange, leaves_ring=True) < 0.08
    assert step_seconds(models, without, exchange, leaves_ring=False) > 0.15


def test_without_communication_a_step_is_its_slowest_rank() -> None:
    models = [StepTime(0.01, 0.001), StepTime(0.0, 0.002)]
    assert step_seconds(models, (10, 20)) == slowest_seconds(models, (10, 20)) == 0.04


def test_a_single_device_has_no_communication() -> None:
    assert step_seconds([StepTime(0.01, 0.001)], (10,), communication([1e3])) == pytest.approx(0.021)


def test_buckets_hide_behind_backward_except_the_last() -> None:
    models, seconds = [StepTime(0.0, 0.01)] * 2, 0.3
    fast = Communication((1_000_000, 100_000), (0.5, 1.0), (1e8, 1e8), 0.0)
    last_bucket = 100_000 / 1e8
    assert step_seconds(models, (30, 30), fast) == pytest.approx(seconds + last_bucket)
    slow = Communication((100_000_000, 100_000), (0.5, 1.0), (1e8, 1e8), 0.0)
    first_ready = seconds * (1 / 3 + 2 / 3 * 0.5)
    assert step_seconds(models, (30, 30), slow) == pytest.approx(first_ready + 1.0 + last_bucket)


@given(st.floats(0, 1), st.floats(0, 1))
def test_less_overlap_is_never_faster(one: float, other: float) -> None:
    models, sizes = [StepTime(0.0, 0.001)] * 4, (10, 10, 10, 10)
    less, more = sorted((one, other))
    seconds = [step_seconds(models, sizes, communication(overlap=overlap)) for overlap in (less, more)]
    assert seconds[0] >= seconds[1] * (1 - 1e-12)


def test_fewer_samples_than_devices_go_to_the_fastest() -> None:
    models = [StepTime(0.0, 1 / speed) for speed in (3.0, 12.7, 3.0, 9.1)]
    assert allocate_participating(models, 2, [1] * 4, [9] * 4) == (0, 1, 0, 1)
    assert allocate_participating(models, 1, [2] * 4, [9] * 4) == (0, 1, 0, 0)
    assert allocate_participating(models, 3, [2] * 4, [2] * 4)[1] >= 1


def test_a_device_whose_memory_does_not_hold_its_minimum_share_is_left_out() -> None:
    assert allocate_participating([StepTime(0.0, 1.0)] * 3, 12, [4] * 3, [12, 2, 12]) == (6, 0, 6)


def test_memory_that_does_not_hold_the_batch_is_refused_for_every_group() -> None:
    for solve in (allocate_participating, lambda *args: choose_participants(args[0], args[1], None, args[2], args[3])):
        with pytest.raises(PlanImpossible, match="does not fit"):
            solve([StepTime(0.0, 1.0)] * 3, 13, [1] * 3, [4] * 3)
