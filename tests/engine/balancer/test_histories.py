"""Random histories and kinds of noise into the balancer and the alerts: nothing raises, and shares rest in noise."""

from __future__ import annotations

import itertools
import math
import random
from statistics import mean

import pytest
from paceline.engine.balancer.policies import Observation, Problem, decide, sizes_for, start
from paceline.engine.balancer.step_phases import StepWork
from paceline.engine.balancer.step_time import CurvedStepTime, StepTime
from paceline.engine.balancer.stragglers import detect_stragglers, initial_state
from paceline.engine.states import POLICIES

from benchmarks.balancer.hindsight import CASES, SETTLED, STEPS, lab_of, play

BROKEN = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300, 1e9)


def history(draw: random.Random, ranks: int, steps: int) -> list[list[float]]:
    """Factors by step and rank: levels that last, spikes, ramps, silence, broken clocks."""
    columns = []
    for _ in range(ranks):
        column: list[float] = []
        while len(column) < steps:
            length, level = draw.choice((1, 2, 3, 8, 20)), draw.choice((0.1, 0.5, 1.0, 1.0, 1.2, 2.0, 30.0))
            kind = draw.choice(("block", "noise", "ramp", "spikes", "silence", "broken"))
            for step in range(length):
                column.append(
                    {
                        "block": level,
                        "noise": level * max(0.01, draw.gauss(1.0, draw.choice((0.02, 0.2, 1.0)))),
                        "ramp": level * (1.0 + step / 10),
                        "spikes": level * draw.choice((1.0, 1.0, 50.0)),
                        "silence": math.nan,
                        "broken": draw.choice(BROKEN),
                    }[kind]
                )
        columns.append(column[:steps])
    return [list(row) for row in zip(*columns, strict=True)]


def play_history(seed: int) -> None:
    draw = random.Random(seed)
    ranks, batch, steps = draw.randint(1, 5), draw.choice((1, 3, 14, 100, 300)), draw.randint(5, 60)
    profile = tuple(StepTime(draw.choice((0.0, 0.03)), draw.uniform(0.001, 0.05)) for _ in range(ranks))
    problem = Problem(draw.choice(POLICIES), batch, profile, (draw.choice((1, 2)),) * ranks, (batch,) * ranks)
    memory, alerts = start(problem), initial_state(ranks)
    for step, factors in enumerate(history(draw, ranks, steps)):
        sizes = memory.local_batch_sizes
        assert sum(sizes) == batch
        assert min(sizes) >= 0
        seconds = [model.at(size) * factor for model, size, factor in zip(profile, sizes, factors, strict=True)]
        alerts, _ = detect_stragglers(profile, alerts, step, [StepWork(t, b) for t, b in zip(seconds, sizes, strict=True)])
        decision = decide(problem, memory, [Observation(t, b) for t, b in zip(seconds, sizes, strict=True)])
        assert decision.reason
        assert decision.is_change == (decision.local_batch_sizes != sizes)
        assert decision.local_batch_sizes == decision.memory.local_batch_sizes
        memory = decision.memory
        for estimate in memory.estimates:
            assert 0.0 < estimate.tracker.factor < math.inf
            assert estimate.tracker.length <= len(estimate.tracker.recent)
            times = [estimate.step_time.at(size) for size in range(1, batch + 1)]
            assert all(later >= before > 0.0 for before, later in itertools.pairwise(times))
    left = draw.randint(1, batch)
    assert sum(sizes_for(problem, memory, left)) == left


def test_no_history_makes_the_balancer_or_the_alerts_raise() -> None:
    for seed in range(150):
        play_history(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_none_of_ten_thousand_histories_makes_the_balancer_or_the_alerts_raise(part: int) -> None:
    for seed in range(1000 * part, 1000 * (part + 1)):
        play_history(seed)


@pytest.mark.parametrize("name", ["noise 15 %", "outliers 30 %, one rank", "alternation, 1 step", "cliff", "10 ms steps"])
def test_a_disturbed_run_is_about_as_fast_as_the_best_constant_shares_and_rests(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    ratios, changes = [], []
    for seed in range(3):
        lab = lab_of(case, seed)
        seconds, start_seconds, changed, first, last = play(lab, "hybrid")
        assert start_seconds / seconds >= 0.98
        ratios.append(lab.seconds(lab.best_sizes([first, last])) / seconds)
        changes.append(100 * sum(step >= SETTLED for step in changed) / (STEPS - SETTLED))
    assert mean(ratios) >= 0.975, ratios
    assert mean(changes) <= 2, changes


def test_a_bent_line_passes_through_its_points_and_its_inverse_is_exact() -> None:
    bent = CurvedStepTime(0.01, 0.001, ((50, 0.06), (60, 0.2), (100, 0.24)))
    assert [bent.at(size) for size in (0, 50, 55, 60, 100, 110)] == pytest.approx([0.0, 0.06, 0.13, 0.2, 0.24, 0.25])
    assert bent.at(25) == pytest.approx(0.035)
    for seconds in (0.001, 0.06, 0.1, 0.2, 0.239, 1.0):
        best = max([size for size in range(1, 201) if bent.at(size) <= seconds], default=1)
        assert bent.largest_within(seconds, 1, 200) == best
    assert bent.scaled(2.0).at(55) == pytest.approx(0.26)
