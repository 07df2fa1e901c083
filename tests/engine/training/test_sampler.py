"""Every sample exactly once an epoch, whatever happens to ranks and shares."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.training.shares.sampler import SamplerState, epoch_order, rank_slice


@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_order_of_an_epoch_is_a_permutation(samples: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(samples, seed, epoch, 0, samples).tolist()) == list(range(samples))


@given(st.integers(2, 2000), st.integers(0, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_any_slice_is_the_same_alone_as_within_the_whole(samples: int, epoch: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, samples))
    stop = data.draw(st.integers(start, samples))
    assert np.array_equal(epoch_order(samples, 5, epoch, start, stop), epoch_order(samples, 5, epoch, 0, samples)[start:stop])


@given(st.integers(1, 600), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_sample_is_seen_once_though_ranks_and_shares_change_in_every_step(samples: int, seed: int) -> None:
    chance = random.Random(seed)
    seen: list[int] = []
    state = SamplerState(samples, seed, 3)
    while state.epoch == 3:
        size = state.next_size(37)
        cuts = sorted(chance.randint(0, size) for _ in range(chance.randint(0, 5)))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        for rank in range(len(sizes)):
            first, last = rank_slice(sizes, rank)
            seen += state.rows(first, last).tolist()
        state = state.advance(size)
    assert sorted(seen) == list(range(samples))


def test_epochs_and_seeds_differ_and_neighbours_are_torn_apart() -> None:
    one, two, three = (epoch_order(1437, seed, epoch, 0, 1437) for seed, epoch in ((0, 0), (0, 1), (1, 0)))
    assert (one == two).mean() < 0.01
    assert (one == three).mean() < 0.01
    gaps = np.abs(np.diff(one))
    assert 430 < gaps.mean() < 530  # a random order has n / 3 = 479


def test_the_order_is_the_same_on_every_machine() -> None:
    assert epoch_order(1437, 7, 2, 0, 6).tolist() == [366, 1327, 1048, 179, 502, 1138]
