"""Simulated runs: repeatable, valid for every published rule, and within the goals with the policies of a real run."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.experiments.rules import comparison_rules
from paceline.engine.experiments.simulation import (
    CORRELATED_NOISE,
    NO_NOISE,
    STRONG_NOISE,
    USUAL_NOISE,
    InjectedSlowdown,
    Noise,
    Rule,
    Scenario,
    changes_in_100,
    mean_efficiency,
    perturb_profile,
    simulate,
    steps_lost,
    steps_until_settled,
    steps_with_old_shares,
)
from paceline.engine.states import Policy

LAB = tuple(StepTime(0.002, 1 / (23 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
HYBRID = Rule("hybrid", "hybrid")
QUIET = Scenario(LAB, 256, 120, NO_NOISE)


def with_a_slowdown(seed: int, factor: float = 2.0, steps: int = 160) -> Scenario:
    return Scenario(LAB, 256, steps, USUAL_NOISE, (InjectedSlowdown(seed % 4, factor, 60, 110),), perturb_profile(LAB, 0.25, seed))


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    scenario = with_a_slowdown(0)
    assert simulate(HYBRID, scenario, 1) == simulate(HYBRID, scenario, 1)
    assert simulate(HYBRID, scenario, 1) != simulate(HYBRID, scenario, 2)


@pytest.mark.parametrize("rule", comparison_rules(), ids=lambda rule: rule.name)
def test_every_rule_shares_the_whole_batch_in_every_step(rule: Rule) -> None:
    for seed in range(3):
        for step in simulate(rule, with_a_slowdown(seed), seed):
            assert sum(step.sizes) == 256
            assert min(step.sizes) >= 0


def test_no_published_rule_loses_less_to_a_slowdown_than_our_policies() -> None:
    lost = {
        rule.name: median(steps_lost(simulate(rule, with_a_slowdown(seed), seed)[60:110]) for seed in range(8))
        for rule in comparison_rules()
    }
    ours = max(lost.pop("ours, dynamic"), lost.pop("ours, hybrid"))
    assert ours < min(lost.values()) / 2, lost


@pytest.mark.parametrize("policy", [pytest.param("dynamic", marks=pytest.mark.slow), "hybrid"])
def test_a_device_twice_as_slow_gets_its_new_share_within_three_steps_and_its_old_one_back(policy: Policy) -> None:
    runs = [simulate(Rule(policy, policy), with_a_slowdown(seed), seed) for seed in range(40)]
    for begin, end in ((60, 110), (110, 160)):
        old = sorted(steps_with_old_shares(steps[:end], begin) for steps in runs)
        assert median(old) <= 3, old
        assert old[35] <= 10, old
        assert median(steps_lost(steps[begin:end]) for steps in runs) <= 3


@pytest.mark.parametrize(
    ("noise", "efficiency", "changes"),
    [
        pytest.param(USUAL_NOISE, 0.99, 2.0, marks=pytest.mark.slow),
        pytest.param(STRONG_NOISE, 0.985, 3.0, marks=pytest.mark.slow),
        (CORRELATED_NOISE, 0.96, 4.0),
    ],
)
def test_noise_costs_little_and_moves_shares_rarely(noise: Noise, efficiency: float, changes: float) -> None:
    runs = [
        simulate(HYBRID, Scenario(LAB, 256, 200, noise, profile=perturb_profile(LAB, 0.25, seed)), seed)[50:] for seed in range(20)
    ]
    assert median(mean_efficiency(steps) for steps in runs) >= efficiency
    assert sum(changes_in_100(steps) for steps in runs) / 20 <= changes


def test_late_measurements_delay_new_shares_by_as_many_steps() -> None:
    def old(lag: int) -> int:
        scenario = replace(QUIET, slowdowns=(InjectedSlowdown(0, 2.0, 60, 120),), lag_steps=lag)
        return steps_with_old_shares(simulate(HYBRID, scenario, 0), 60)

    assert [old(lag) for lag in (0, 1, 2)] == [2, 3, 4]


def test_a_device_that_slows_down_gradually_is_followed_all_along() -> None:
    drifting = Scenario(LAB, 256, 400, USUAL_NOISE, (InjectedSlowdown(0, 2.0, 50, 400, ramp=250),))
    steps = simulate(HYBRID, drifting, 3)
    assert min(step.efficiency for step in steps) > 0.9
    assert mean_efficiency(steps[50:]) > 0.97


def test_a_dynamic_run_on_devices_with_large_fixed_costs_ends_near_the_oracle() -> None:
    costly = tuple(replace(time, fixed_seconds=fixed) for time, fixed in zip(LAB, (0.05, 0.1, 0.02, 0.15), strict=True))
    assert mean_efficiency(simulate(Rule("dynamic", "dynamic"), Scenario(costly, 256, 300), 5)[150:]) > 0.985


def test_each_measure_of_a_run_counts_the_steps_it_names() -> None:
    fine, late = simulate(HYBRID, QUIET, 0)[0], simulate(Rule("equal", "equal"), QUIET, 0)[0]
    steps = [fine] * 5 + [late, late, replace(fine, is_change=True), *[fine] * 12]
    assert steps_with_old_shares(steps, 5) == 2
    assert steps_until_settled(steps, 5) == 1
    assert steps_lost(steps) == pytest.approx(2 * (late.seconds / late.oracle_seconds - 1))
    assert changes_in_100(steps) == 5
    assert steps_with_old_shares([late] * 9, 3) == 6
