"""Lines through measurements: exact where there is no noise, unbent by wild points, never negative."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.profiling.line_fit import fit_line

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


@given(st.floats(0, 1), st.floats(1e-6, 1), st.floats(1e-6, 1e6))
def test_points_on_a_line_give_that_line(offset: float, slope: float, scale: float) -> None:
    found = fit_line(SIZES, [(offset + slope * size) * scale for size in SIZES])
    assert found.offset == pytest.approx(offset * scale, rel=1e-6, abs=1e-6 * slope * scale)
    assert found.slope == pytest.approx(slope * scale, rel=1e-6)
    assert found.residual < 1e-6


def test_one_wild_point_in_eight_bends_nothing() -> None:
    for wild in range(len(SIZES)):
        seconds = [0.01 + 0.002 * size for size in SIZES]
        seconds[wild] *= 3.0
        found = fit_line(SIZES, seconds)
        assert found.at(64) == pytest.approx(0.01 + 0.002 * 64, rel=0.02)


def test_noise_of_three_percent_is_averaged_out() -> None:
    random_numbers = random.Random(7)
    worst = 0.0
    for _ in range(200):
        seconds = [(0.01 + 0.002 * size) * random_numbers.gauss(1.0, 0.03) for size in SIZES]
        worst = max(worst, abs(fit_line(SIZES, seconds).at(100) / 0.21 - 1.0))
    assert worst < 0.08


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-9, 1e6)), min_size=1, max_size=12))
def test_neither_part_is_ever_negative(points: list[tuple[int, float]]) -> None:
    found = fit_line(*zip(*points, strict=True))
    assert found.offset >= 0.0
    assert found.slope >= 0.0
    assert found.at(points[0][0]) > 0.0


def test_one_point_gives_a_line_through_the_origin() -> None:
    found = fit_line([8, 8], [0.4, 0.4])
    assert found.offset == 0.0
    assert found.slope == pytest.approx(0.05)


@pytest.mark.parametrize("points", [((), ()), ((1,), (0.0,)), ((1, 2), (1.0,))])
def test_nothing_to_fit_is_refused(points: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="measurements"):
        fit_line(*points)
