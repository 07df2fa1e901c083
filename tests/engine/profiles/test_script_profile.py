"""What a measured script leaves behind: its profile, its pace on emulated devices, and what they put into its next plan."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import CaseStarted, Event, StepsTaken
from paceline.engine.jobs.scripts.script_plan import alone, start_sentence, with_known
from paceline.engine.plan import CasePlan, DataPlan, Emulation, Plan, RankPlan, ScriptPlan
from paceline.engine.profiles.assemble_script import NOMINAL_BYTES, SKIPPED_STEPS, assemble_script
from paceline.engine.profiles.script_rates import keep_rate, kept_rate
from paceline.engine.specs import TrialSpec
from paceline.engine.states import Policy


def make_plan(world: int, policy: Policy = "hybrid") -> Plan:
    ranks = tuple(RankPlan(rank, f"n{rank}", rank, 0, 0, "emulated", "gpu", emulation=Emulation(1.0)) for rank in range(world))
    data = DataPlan("project", "", 0, "")
    script = ScriptPlan(target="train.py", args=(), digest="0123456789abcdef")
    return Plan(
        "run",
        "train.py",
        (CasePlan(policy, policy),),
        (),
        ranks,
        data,
        epochs=0,
        global_batch_size=0,
        program="script",
        script=script,
    )


def took(rank: int, step: int, size: int, seconds: float, wait: float) -> StepsTaken:
    return StepsTaken(rank=rank, step=step, steps=1, local_batch_size=size, compute_seconds=seconds, wait_seconds=wait)


def test_the_line_of_every_device_is_found_again_and_the_exchange_is_the_least_wait(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        world = rng.randrange(2, 6)
        lines = [(rng.uniform(0.0, 0.05), rng.uniform(0.001, 0.02)) for _ in range(world)]
        exchange = rng.uniform(0.001, 0.1)
        events: list[Event] = [CaseStarted(rank=0, policy="dynamic", local_batch_sizes=(48,) * world)]
        for step in range(SKIPPED_STEPS + 20):
            sizes = [48] * world if step < 15 else [rng.randrange(8, 120) for _ in range(world)]
            seconds = [a + c * size for (a, c), size in zip(lines, sizes, strict=True)]
            first = 100.0 if step < SKIPPED_STEPS else 1.0
            slowest = max(seconds)
            for rank in range(world):
                events.append(took(rank, step, sizes[rank], first * seconds[rank], slowest - seconds[rank] + exchange))
        profile = assemble_script(make_plan(world), events, measured=1.0)
        assert profile.global_batch_size == 48 * world
        for device, (a, c) in zip(profile.devices, lines, strict=True):
            assert device.step_time is not None
            assert device.step_time.at(60) == pytest.approx(a + c * 60)
        assert profile.all_reduce is not None
        assert profile.all_reduce.beta <= NOMINAL_BYTES / exchange * 1.0000001


def test_a_device_that_was_seen_at_one_size_has_a_line_through_the_origin_and_one_not_seen_an_error() -> None:
    events = [took(0, step, 32, 0.32, 0.0) for step in range(10)]
    first, second = assemble_script(make_plan(2), events, measured=1.0).devices
    assert first.fixed_seconds == 0.0
    assert first.seconds_per_sample == pytest.approx(0.01)
    assert second.step_time is None
    assert "no 5 batches" in second.error


def test_the_first_rate_of_a_script_is_kept(tmp_path: Path) -> None:
    assert kept_rate(tmp_path, "d") is None
    keep_rate(tmp_path, "d", 50.0)
    keep_rate(tmp_path, "d", 60.0)
    assert kept_rate(tmp_path, "d") == 50.0
    (tmp_path / "script-rates" / "e.json").write_text('{"rate": -1.0}')
    assert kept_rate(tmp_path, "e") is None


def test_a_plan_starts_by_the_profile_of_all_its_devices_or_says_that_it_does_not() -> None:
    events = [took(rank, step, 32, 0.32 * (1 + rank), 0.0) for step in range(10) for rank in range(2)]
    plan = make_plan(2)
    profile = assemble_script(plan, events, measured=1.0)
    known = with_known(plan, profile, 50.0)
    assert known.script is not None
    assert [speed.seconds_per_sample for speed in known.script.profile] == pytest.approx([0.01, 0.02])
    assert known.script.rate == 50.0
    assert start_sentence(known) is None
    of_a_search = replace(plan, script=replace(plan.script or known.script, rate=7.0, trials=(TrialSpec(0, ()),)))
    paced = with_known(of_a_search, None, 50.0)
    assert paced.script is not None
    assert (paced.script.rate, start_sentence(paced)) == (7.0, None)
    assert "starts with equal shares" in (start_sentence(with_known(make_plan(3), profile, None)) or "")
    assert start_sentence(make_plan(2, "equal")) is None
    assert start_sentence(alone(plan, 9, 32)) is None
