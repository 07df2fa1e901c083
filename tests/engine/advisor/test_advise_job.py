"""Advice meets a job: devices that are chosen or recommended, predictions kept in the plan, what a run teaches, what if."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from paceline.engine.advisor.advise import advise
from paceline.engine.advisor.calibrate import MIN_OVERLAP
from paceline.engine.advisor.doubt import MODEL_DOUBT, doubt_of
from paceline.engine.advisor.predict import Candidate as Way
from paceline.engine.advisor.predict import predict
from paceline.engine.errors import UsageError
from paceline.engine.events import DeviceReading, HostReading
from paceline.engine.jobs.launch.device_selection import select_devices
from paceline.engine.jobs.launch.forecast import calibrate_from, host_loads, recommended_spec, with_forecast
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.plan import DataPlan, Plan
from paceline.engine.reports.advice import advice_document
from paceline.engine.reports.profile import profile_document
from paceline.engine.specs import NodeSpec, TrainSpec
from paceline.engine.states import Policy
from paceline.engine.workloads import WORKLOADS
from paceline.tui.app import PacelineApp
from paceline.tui.command_line import commands
from paceline.tui.command_line.render import render

from tests.engine.advisor.test_advise import lab
from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app

DIGITS = WORKLOADS["digits-cnn"]


def node(name: str, devices: int = 1) -> NodeCandidate:
    found = tuple(DeviceReading(index=index, name="RTX 3060", kind="cuda") for index in range(devices))
    return NodeCandidate(NodeSpec(name), found, "127.0.0.1", "lo", "python3")


NODES = [node("n0", 2), node("n1"), node("n2"), node("n3", 2)]


def planned(spec: TrainSpec, nodes: list[NodeCandidate] = NODES) -> Plan:
    return make_plan(spec, "r1", select_devices(spec.devices, nodes), DataPlan("0" * 64, "made up", 50_000, "0" * 64), DIGITS)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("all", ["n0:0", "n0:1", "n1:0", "n2:0", "n3:0", "n3:1"]),
        ("n1", ["n1:0"]),
        ("n3:1,n0:0", ["n0:0", "n3:1"]),
        ("n[1-3]", ["n1:0", "n2:0", "n3:0", "n3:1"]),
        ("n[0,2]:0, n1", ["n0:0", "n1:0", "n2:0"]),
    ],
)
def test_a_job_takes_the_devices_that_are_named(devices: str, expected: list[str]) -> None:
    ranks = planned(TrainSpec(devices=devices)).ranks
    assert [f"{rank.node}:{rank.device_index}" for rank in ranks] == expected


@pytest.mark.parametrize("devices", ["n9", "n1:1", "n0:x", ",", "n[1-9]", "auto", "n0:-1"])
def test_devices_that_are_not_there_are_refused_in_one_line(devices: str) -> None:
    with pytest.raises(UsageError) as refused:
        select_devices(devices, NODES)
    assert "\n" not in str(refused.value)


def test_a_plan_keeps_what_each_case_is_expected_to_do() -> None:
    nodes = [node(f"n{place}") for place in range(4)]
    spec = TrainSpec(policies=("equal", "hybrid"), global_batch_size=128)
    equal, hybrid = with_forecast(lab(), planned(spec, nodes)).cases
    assert equal.predicted_samples_per_second == predict(lab(), Way((0, 1, 2, 3), 128, "equal")).samples_per_second
    assert hybrid.predicted_samples_per_second == predict(lab(), Way((0, 1, 2, 3), 128)).samples_per_second
    some = with_forecast(lab(), planned(replace(spec, devices="n1,n2"), nodes)).cases[1]
    assert some.predicted_samples_per_second == predict(lab(), Way((1, 2), 128)).samples_per_second


def test_nothing_is_expected_of_devices_without_a_profile() -> None:
    plan = planned(TrainSpec(global_batch_size=128))
    assert with_forecast(None, plan) is plan
    assert with_forecast(lab(), plan).cases[0].predicted_samples_per_second is None


def test_efficiency_counts_what_each_device_does_alone_at_its_share() -> None:
    advice = advise(lab(bandwidth=1e12, hop=0.0, fixed=0.0), 384)
    asked = [one for one in advice.candidates if one.candidate.global_batch_size == 384]
    told = {(one.candidate.devices, one.candidate.is_balanced): advice.efficiency(one) for one in asked}
    assert told[(0,), True] == 1
    assert told[(0, 1, 2, 3), True] > 0.97
    # All wait for the slowest: 4 x 100 of 932 samples/s.
    assert told[(0, 1, 2, 3), False] == pytest.approx(400 / sum((427, 305, 100, 100)), rel=0.01)


def test_the_serial_part_is_of_the_batch_that_was_asked_for() -> None:
    # 2 ms of every step whatever its batch, 1 ms of the optimizer, and 64 samples at 427 a second.
    assert advise(lab(), 64).serial_part == pytest.approx(0.003 / (0.003 + 64 / 427))


def test_the_verdict_names_the_batch_where_one_device_needs_a_larger_one() -> None:
    assert "best batch" not in advise(lab(), 384).verdict
    told = advise(lab(fixed=0.05, bandwidth=1e9), 64).verdict
    assert "The best single device at its best batch of 4096 gives " in told
    assert "samples/s at a batch of 64 (" in told


def test_a_change_that_brings_next_to_nothing_is_no_remedy() -> None:
    advice = advise(lab(bandwidth=1e12, hop=0.0, fixed=0.0), 384)
    assert all(remedy.speedup > 1.01 * advice.speedup(advice.asked) for remedy in advice.remedies)
    assert not any("SGD" in remedy.name for remedy in advice.remedies)


def test_what_is_recommended_can_be_given_to_train() -> None:
    for bandwidth in (1e6, 1e9):
        profile = lab(bandwidth=bandwidth)
        advice = advise(profile, 64)
        devices, told = recommended_spec(profile, advice, "hybrid")
        nodes = [node(f"n{place}") for place in range(4)]
        ranks = planned(TrainSpec(devices=devices, global_batch_size=64), nodes).ranks
        assert tuple(rank.rank for rank in ranks) == tuple(range(len(advice.recommended.candidate.devices)))
        assert devices in told


def test_what_is_recommended_under_equal_shares_is_no_slower_than_one_device() -> None:
    profile = lab(rates=(1000.0, 100.0, 100.0, 100.0))
    advice = advise(profile, 64)
    policies: tuple[Policy, ...] = ("hybrid", "equal")
    for policy in policies:
        devices, told = recommended_spec(profile, advice, policy)
        places = [["n0", "n1", "n2", "n3"].index(device.split(":")[0]) for device in devices.split(",")]
        rate = predict(profile, Way(tuple(places), 64, policy)).samples_per_second
        assert rate >= predict(profile, Way((0,), 64)).samples_per_second
        assert f"{rate:,.0f} samples/s predicted" in told


def test_a_run_teaches_the_profile_its_overlap() -> None:
    nodes = [node(f"n{place}") for place in range(4)]
    truth = replace(lab(bandwidth=2e7), overlap=MIN_OVERLAP / 2, is_calibrated=True)
    plan = planned(TrainSpec(policies=("hybrid",), global_batch_size=128), nodes)
    rate = predict(truth, Way((0, 1, 2, 3), 128)).samples_per_second
    taught = calibrate_from(lab(bandwidth=2e7), plan, {"policy": "hybrid", "samples_per_second": rate})
    assert taught.is_calibrated
    assert with_forecast(taught, plan).cases[0].predicted_samples_per_second == pytest.approx(rate, rel=1e-3)
    short = replace(plan, data=replace(plan.data, rows=500), epochs=1)
    assert not calibrate_from(lab(bandwidth=2e7), short, {"policy": "hybrid", "samples_per_second": rate}).is_calibrated
    assert not calibrate_from(lab(), plan, {"policy": "hybrid", "samples_per_second": None}).is_calibrated
    for trouble in ({"state": "cancelled"}, {"stragglers": [{"rank": 1, "until_step": None}]}):
        disturbed = {"policy": "hybrid", "samples_per_second": rate / 3} | trouble
        assert not calibrate_from(lab(bandwidth=2e7), plan, disturbed).is_calibrated
    over = {"policy": "hybrid", "samples_per_second": rate, "state": "done", "stragglers": [{"rank": 1, "until_step": 40}]}
    assert calibrate_from(lab(bandwidth=2e7), plan, over).is_calibrated


def test_advice_says_how_old_the_profile_is_that_it_is_from() -> None:
    profile = replace(lab(), measured=time.time() - 3 * 3600)
    assert re.search(
        r"from the profile of \d{4}-\d\d-\d\d \d\d:\d\d, [23] h ago",
        render(advice_document(profile, advise(profile, 64))),
    )


def test_a_profile_tells_formats_watts_and_what_the_driver_says_where_they_are_known() -> None:
    plain = lab()
    card = replace(
        plain.devices[0], tflops={"fp32": 40.0, "bf16": 700.0}, power=310.0, joules_per_sample=0.02, host_to_device=2**34
    )
    profile = replace(plain, devices=(replace(card, facts={"torch": "2.5", "driver": "550.1"}), *plain.devices[1:]))
    text = render(profile_document(profile))
    assert text.count("bf16 700.0 TFLOPS, 16.0 GiB/s from the host, 310 W, 0.02 J a sample, driver 550.1") == 1
    assert "W," not in render(profile_document(plain))


def test_bench_is_never_given_devices_by_itself() -> None:
    with pytest.raises(UsageError):
        select_devices("auto", NODES)


@pytest.mark.parametrize("words", ["--bandwidth 3", "--latency 1 h", "--bandwidth -1MB/s", "--global-batch-size 0"])
def test_a_link_that_cannot_be_is_refused_before_anything_is_measured(words: str) -> None:
    name, _, value = words.partition(" ")
    with pytest.raises(UsageError):
        commands.parse(f"advise {name} '{value}'")


def test_a_link_is_supposed_in_the_words_of_nodes_toml() -> None:
    _, args = commands.parse("advise --bandwidth '1 Gbit/s' --latency '200 us' --without n1 --with 2xn0")
    assert (args.bandwidth, args.latency) == pytest.approx((125e6, 2e-4), rel=0.05)
    assert (args.without, args.more) == (["n1"], ["2xn0"])


def test_the_advice_is_said_in_text_too() -> None:
    profile = lab(bandwidth=2e7)
    text = render(advice_document(profile, advise(profile, 64)))
    assert text.startswith("Distributing does not pay")
    assert "> n0:0 " in text
    assert "--compression powersgd" in text


async def test_what_if_is_answered_at_once_on_the_screen() -> None:
    async with PacelineApp(story.StorySession(story.trouble(), is_replay=True)).run_test(size=(160, 50)) as pilot:
        app = await shown(pilot)
        await app.action_visit("advice")
        await until_app(pilot, lambda: "PAYS  1.59x" in screen_text(app))
        await pilot.press("f")
        await until_app(pilot, lambda: "network 2x as fast" in screen_text(app) and "1.59x" not in screen_text(app).splitlines()[2])
        await pilot.press("r", "f3")
        await until_app(pilot, lambda: "without demo2:0" in screen_text(app))
        await pilot.press("f2", "f4", "f5")
        await until_app(pilot, lambda: "NO ADVICE" in screen_text(app))
        await pilot.press("r")
        await until_app(pilot, lambda: "as measured" in screen_text(app) and "PAYS  1.59x" in screen_text(app))


def test_a_plan_takes_no_larger_batch_than_the_data_and_the_prediction_is_for_it() -> None:
    nodes = [node(f"n{place}") for place in range(4)]
    plan = planned(TrainSpec(policies=("hybrid",), global_batch_size=3072), nodes)
    small = replace(plan.data, training_rows=1438)
    capped = make_plan(TrainSpec(policies=("hybrid",), global_batch_size=3072), "r1", nodes, small, DIGITS)
    assert (capped.global_batch_size, capped.requested_batch_size) == (1438, 3072)
    assert (plan.global_batch_size, plan.requested_batch_size) == (3072, None)
    told = with_forecast(lab(), capped).cases[0].predicted_samples_per_second
    assert told == predict(lab(), Way((0, 1, 2, 3), 1438)).samples_per_second
    again = with_forecast(lab(), replace(capped, global_batch_size=384)).cases[0].predicted_samples_per_second
    assert told != again == predict(replace(lab(), samples=1438), Way((0, 1, 2, 3), 384)).samples_per_second


def test_a_prediction_doubts_more_what_is_old_busy_shared_noisy_or_unprobed() -> None:
    approx: Any = pytest.approx
    profile = replace(lab(bandwidth=3e8), is_calibrated=True, measured=0.0)
    way = predict(profile, Way((0, 1, 2, 3), 128))
    calm = doubt_of(profile, way).fraction
    assert calm == pytest.approx(MODEL_DOUBT)
    changes: list[dict[str, Any]] = [{"spread": 0.1}, {"stalled": 0.2}, {"residual": 0.05}, {"crowding": 1.4}]
    for change in changes:
        devices = tuple(replace(device, **change) for device in profile.devices)
        found = doubt_of(replace(profile, devices=devices), way)
        assert found.fraction > calm
        assert found.parts[0][1] >= found.parts[-1][1]
    assert doubt_of(profile, way, now=20 * 86400).parts[0] == ("an old profile", approx(0.1))
    loads = host_loads([("n0", HostReading(cpu=0.75, cores=4)), ("n1", HostReading())])
    assert doubt_of(profile, way, loads=loads).fraction == pytest.approx(calm)  # one thread and three busy cores of four
    loads = host_loads([("n0", HostReading(cpu=1.0, cores=4))])
    assert doubt_of(profile, way, loads=loads).parts[0] == ("a machine that is busy now", approx(0.25))
    unprobed = doubt_of(lab(bandwidth=1e8), predict(lab(bandwidth=1e8), Way((0, 1, 2, 3), 128)))
    assert unprobed.parts[0][0] == "an overlap that no run has shown yet"


def test_a_run_that_computed_otherwise_than_predicted_teaches_no_overlap() -> None:
    nodes = [node(f"n{place}") for place in range(4)]
    plan = planned(TrainSpec(policies=("hybrid",), global_batch_size=128), nodes)
    profile = lab(bandwidth=2e7)
    way = predict(profile, Way((0, 1, 2, 3), 128))
    phases = [{"rank": 0, "phase": "forward", "seconds": way.compute_seconds}]
    calm = {"policy": "hybrid", "samples_per_second": way.samples_per_second * 0.9, "phases": phases}
    assert calibrate_from(profile, plan, calm).is_calibrated
    assert not calibrate_from(profile, plan, calm | {"phases": [phases[0] | {"seconds": 2 * way.compute_seconds}]}).is_calibrated
    left_out = calm | {"local_batch_sizes": [*way.local_batch_sizes[:3], 0]}
    assert not calibrate_from(profile, plan, left_out).is_calibrated
