"""The state: any order of events, time that only goes forward, and what a person must be able to read off it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paceline.engine.events import (
    EVENTS,
    CaseEnded,
    CaseStarted,
    DeviceReading,
    Event,
    InventoryRead,
    MonitoringFailed,
    NodeConnected,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeSummary,
    NodeWarned,
    ProcessReading,
    Progress,
    RankEvent,
    RankFailed,
    RankSummary,
    ReadingsRecorded,
    RunEnded,
    RunListed,
    RunPlanned,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    Ticked,
)
from paceline.engine.store.history import MAX_CURVE_POINTS, MAX_RECENT_SAMPLES, append_recent, append_to_curve
from paceline.engine.store.reduce import reduce
from paceline.engine.store.selectors import (
    StepParts,
    case_throughput,
    current_imbalance,
    ideal_throughput,
    occupants,
    open_alerts,
    progress,
    recent_throughput,
    step_parts,
    wall_clock,
)
from paceline.engine.store.state import Alert, State
from paceline.engine.wire import decode, encode

from tests.support.screens import story


def test_a_part_that_failed_to_watch_is_one_alert_per_rank_and_part() -> None:
    parts = [(rank, part) for rank in (0, 1) for part in ("timing", "alerts")]
    failures = [MonitoringFailed(run_id="r", rank=rank, part=part, reason="no clock") for rank, part in parts]
    alerts = fold([*failures, *failures]).alerts
    assert [(alert.rank, alert.severity) for alert in alerts] == [(0, "warning"), (0, "warning"), (1, "warning"), (1, "warning")]
    assert alerts[0].text == "rank 0: timing failed, the training goes on without it: no clock"


def test_an_event_that_cannot_be_taken_changes_nothing_and_raises_one_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("made to raise")

    before = fold([CaseStarted(run_id="r", case="hybrid", local_batch_sizes=(3, 9))])
    monkeypatch.setattr("paceline.engine.store.straggler_alerts.update_alerts", fail)
    after = fold([StragglerFound(run_id="r", case="hybrid", straggler=0)] * 3, before)
    assert after.runs == before.runs
    assert [alert.text.split(" (")[0] for alert in after.alerts] == ["cannot show StragglerFound: ZeroDivisionError: made to raise"]


def fold(events: list[Event], state: State | None = None) -> State:
    state = state or State()
    for event in events:
        state = reduce(state, event)
    return state


SMALL = st.sampled_from(("", "a", "b"))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "at": st.floats(-1, 50),
    "node": SMALL,
    "run_id": SMALL,
    "case": SMALL,
    "rank": st.integers(-1, 3),
    "step": st.integers(-2, 60),
    "steps": st.integers(-1, 4),
    "samples": st.integers(-1, 400),
    "epochs": st.integers(-1, 3),
    "global_batch_size": st.integers(-1, 400),
    "samples_per_epoch": st.integers(-1, 2000),
    "compute_seconds": st.floats(-1, 2),
    "step_seconds": st.floats(-1, 2),
    "seconds": st.floats(-1, 2),
    "cases": st.lists(SMALL, max_size=3).map(tuple),
    "state": st.sampled_from(("done", "failed", "cancelled")),
    "local_batch_sizes": st.lists(st.integers(0, 99), max_size=3).map(tuple),
    "survivors": st.lists(st.integers(1, 9), max_size=2).map(tuple),
    "devices": st.lists(
        st.builds(DeviceReading, index=st.integers(0, 2), utilization=st.none() | st.floats(0, 1), error=SMALL), max_size=3
    ).map(tuple),
}


@st.composite
def any_event(draw: st.DrawFn) -> Event:
    kind = EVENTS[draw(st.sampled_from(sorted(EVENTS)))]
    known = set(kind.__dataclass_fields__)
    skipped = {"devices"} if kind is not NodeReported else set()
    skipped |= {"seconds"} if kind.__name__ == "DeviceProbed" else set()
    values: dict[str, Any] = {name: draw(strategy) for name, strategy in FIELDS.items() if name in known - skipped}
    if kind is RunPlanned:
        values["ranks"] = draw(st.sampled_from(((), story.healthy_ranks())))
    if kind is InventoryRead:
        values["nodes"] = draw(st.sampled_from(((), (NodeSummary("a"), NodeSummary("b", "embedded", "", (DeviceReading(),))))))
    return kind(**values)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_event(), max_size=40))
def test_any_sequence_of_events_reduces_and_time_never_goes_back(events: list[Event]) -> None:
    state = State()
    for event in events:
        before, state = state, reduce(state, event)
        assert state.at >= before.at
        assert state.events == before.events + 1
        assert sum(alert.ended_at is not None for alert in state.alerts) <= 200
    for run in state.runs.values():
        assert 0.0 <= progress(run, state.at).fraction <= 1.0
        current_imbalance(run)
        for case in run.cases:
            recent_throughput(case)
            case_throughput(case)
    open_alerts(state, state.run)
    occupants(state)


def test_events_that_went_over_the_wire_give_the_same_state() -> None:
    events = story.trouble()
    again = [decode(encode(event)) for event in events]
    assert fold(events) == fold([event for event in again if event is not None])


def test_a_bench_reduces_to_its_cases_decisions_and_result() -> None:
    state = fold(story.healthy())
    run = state.run
    assert run is not None
    assert run.state == "done"
    assert run.document is not None
    assert [case.state for case in run.cases] == ["done"] * 4
    assert [len(case.decisions) for case in run.cases] == [0, 0, 1, 1]
    assert all(len(case.standalone) == 4 for case in run.cases)
    assert not open_alerts(state, run)


def test_the_effect_of_a_decision_is_measured_over_ten_steps_after_it() -> None:
    run = fold(story.healthy()).run
    assert run is not None
    decision = run.cases[2].decisions[0]
    assert decision.measured_steps == 10
    assert decision.measured is not None
    assert decision.predicted_after is not None
    assert abs(decision.measured - decision.predicted_after) < 0.1 * decision.predicted_after


def test_a_silent_node_becomes_stale_and_its_history_gets_gaps() -> None:
    reading = NodeReported(at=1.0, node="a", devices=(DeviceReading(0, "T4", utilization=0.5),))
    state = fold([reading, *(Ticked(at=at, clock=100.0 + at) for at in (2.0, 6.0))])
    assert state.nodes["a"].state == "ok"
    state = fold([Ticked(at=6.5, clock=106.5), Ticked(at=7.5, clock=107.5)], state)
    assert state.nodes["a"].state == "stale"
    assert state.nodes["a"].devices[0].utilization == (0.5, None, None)
    (alert,) = open_alerts(state)
    assert (alert.text, alert.severity, alert.node, alert.at) == ("no word from its agent", "warning", "a", 1.0)
    back = fold([replace(reading, at=8.0)], state)
    assert back.nodes["a"].state == "ok"
    assert not open_alerts(back)


def test_a_silent_node_that_is_lost_has_one_alert() -> None:
    state = fold([NodeConnected(node="a", at=1.0), *(Ticked(at=at, clock=at) for at in (4.0, 7.0)), NodeLost(at=9.0, node="a")])
    assert [(alert.severity, alert.at) for alert in open_alerts(state)] == [("critical", 1.0)]
    assert not open_alerts(fold([NodeReported(at=12.0, node="a")], state))


def test_a_centre_that_slept_does_not_call_its_nodes_silent() -> None:
    state = fold([NodeReported(at=1.0, node="a"), *(Ticked(at=at, clock=at) for at in (1.5, 3600.0))])
    assert state.nodes["a"].state == "ok"
    assert fold([Ticked(at=3601.0, clock=3601.0)], state).nodes["a"].state == "stale"


def test_open_alerts_are_kept_however_many_there_are() -> None:
    lost = [NodeLost(at=1.0, node=f"n{number}", reason="reset") for number in range(256)]
    state = fold([NodeWarned(node="a", reason="slow"), *lost, NodeConnected(at=2.0, node="a"), NodeConnected(at=2.0, node="n0")])
    assert len(open_alerts(state)) == 255
    more = fold([NodeWarned(at=3.0, node="n0", reason=f"cause {number}") for number in range(300)], state)
    assert len(open_alerts(more)) == 555
    assert len(more.alerts) == 555


def test_a_lost_node_alerts_until_it_is_back() -> None:
    state = fold([NodeConnected(node="a"), NodeLost(at=1.0, node="a", reason="reset"), NodeLost(at=2.0, node="a", reason="reset")])
    assert [alert.text for alert in open_alerts(state)] == ["lost: reset"]
    state = fold([NodeConnected(at=3.0, node="a")], state)
    assert not open_alerts(state)
    assert state.alerts[0].ended_at == 3.0


def test_a_refused_node_keeps_its_reason_and_hint() -> None:
    node = fold([NodeDenied(node="a", reason="host key changed", hint="check it")]).nodes["a"]
    assert (node.state, node.reason, node.hint) == ("refused", "host key changed", "check it")


def test_a_second_inventory_keeps_the_state_of_known_nodes() -> None:
    state = fold([story.inventory(), NodeConnected(at=1.0, node="demo1"), story.inventory()])
    assert state.nodes["demo1"].state == "ok"
    assert list(state.nodes) == ["demo1", "demo2", "demo3", "demo4"]


def test_an_unreachable_run_is_running_again_when_an_event_of_it_arrives() -> None:
    events: list[Event] = [
        RunPlanned(run_id="r", cases=("x",)),
        StepsTaken(at=1.0, run_id="r", case="x", steps=1, step_seconds=0.5, samples=8),
        RunUnreachable(at=2.0, run_id="r", nodes=("a",)),
    ]
    state = fold(events)
    assert state.runs["r"].state == "unreachable"
    state = fold([StepsTaken(at=3.0, run_id="r", case="x", step=1, steps=1, step_seconds=0.5, samples=8)], state)
    assert state.runs["r"].state == "running"


def test_no_late_line_revives_a_run_that_is_over() -> None:
    state = fold([RunEnded(at=1.0, run_id="r", state="cancelled"), StepsTaken(at=2.0, run_id="r", case="x", steps=1)])
    assert state.runs["r"].state == "cancelled"


def test_a_late_line_of_an_earlier_case_does_not_touch_the_ranks() -> None:
    planned = RunPlanned(run_id="r", cases=("x", "y"))
    first = StepsTaken(run_id="r", case="x", rank=0, steps=1, step_seconds=1.0, compute_seconds=0.9, samples=8)
    second = replace(first, case="y", compute_seconds=0.2)
    run = fold([planned, first, second, replace(first, step=9)]).runs["r"]
    assert run.case == 1
    assert run.ranks[0].compute_seconds == 0.2


def test_the_short_last_batch_of_an_epoch_is_not_shown_as_a_change() -> None:
    start = CaseStarted(run_id="r", case="x", policy="equal", local_batch_sizes=(96,))
    full = StepsTaken(run_id="r", case="x", steps=1, local_batch_size=96, samples=96, compute_seconds=0.4, step_seconds=0.5)
    short = replace(full, step=1, local_batch_size=20, samples=20, compute_seconds=0.1, step_seconds=0.1)
    rank = fold([start, full, short]).runs["r"].ranks[0]
    assert (rank.local_batch_size, rank.compute_seconds, rank.step) == (96, 0.4, 1)


def test_a_collateral_failure_raises_no_alert_of_its_own() -> None:
    assert not fold([RankFailed(run_id="r", rank=1, reason="broken pipe", is_collateral=True)]).alerts
    assert fold([RankFailed(run_id="r", rank=1, reason="out of memory")]).alerts


def test_a_standalone_rate_counts_for_sizes_within_five_percent_of_it() -> None:
    planned = RunPlanned(run_id="r", cases=("x", "y", "z"), ranks=(RankSummary(0, "a"),), is_bench=True)
    events: list[Event] = [planned]
    for at, (case, size) in enumerate((("x", 100), ("y", 104), ("z", 120))):
        events.append(CaseStarted(at=at, run_id="r", case=case, local_batch_sizes=(size,)))
        if case == "x":
            events.append(StandaloneMeasured(at=at, run_id="r", case=case, local_batch_size=size, samples_per_second=50.0))
    run = fold(events).runs["r"]
    assert [ideal_throughput(run, case) for case in run.cases] == [50.0, 50.0, None]


def test_a_case_of_a_bench_measures_its_devices_before_it_is_done() -> None:
    events: list[Event] = [
        RunPlanned(run_id="r", cases=("x", "y"), is_bench=True),
        CaseStarted(run_id="r", case="x"),
        CaseEnded(run_id="r", case="x"),
    ]
    assert fold(events).runs["r"].cases[0].state == "measuring"
    assert fold([*events, CaseStarted(run_id="r", case="y")]).runs["r"].cases[0].state == "done"
    assert fold([*events, RunEnded(run_id="r", state="cancelled")]).runs["r"].cases[0].state == "done"


def test_preparations_before_a_run_exists_are_shown() -> None:
    state = fold([Progress(phase="starting the lab", fraction=0.5)])
    assert (state.phase, state.fraction, state.run) == ("starting the lab", 0.5, None)


def test_time_left_falls_and_ends_at_zero() -> None:
    state, lefts = State(), []
    for event in story.healthy():
        state = reduce(state, event)
        if isinstance(event, Ticked) and state.run is not None:
            seen = progress(state.run, state.at)
            if seen.seconds_left is not None:
                lefts.append(seen.seconds_left)
    assert lefts[0] > 60
    assert lefts[-1] == 0.0


def test_the_wall_clock_of_a_past_moment_is_known() -> None:
    state = fold([Ticked(at=10.0, clock=1000.0)])
    assert wall_clock(state, 4.0) == 994.0
    assert wall_clock(State(), 4.0) is None


@given(st.integers(1, 3 * MAX_CURVE_POINTS))
@settings(max_examples=20, deadline=None)
def test_a_curve_keeps_its_whole_span_in_bounded_points(amount: int) -> None:
    points: tuple[int, ...] = ()
    for point in range(amount):
        points = append_to_curve(points, point)
    assert len(points) <= MAX_CURVE_POINTS
    assert points[0] == 0
    assert points[-1] == amount - 1
    assert list(points) == sorted(set(points))


def test_a_recent_history_is_bounded() -> None:
    values: tuple[int, ...] = ()
    for value in range(MAX_RECENT_SAMPLES + 50):
        values = append_recent(values, value)
    assert len(values) == MAX_RECENT_SAMPLES
    assert values[-1] == MAX_RECENT_SAMPLES + 49


def test_every_kind_of_rank_event_belongs_to_its_run() -> None:
    for name, kind in EVENTS.items():
        if issubclass(kind, RankEvent):
            assert "r" in fold([kind(run_id="r", case="x")]).runs or name == "RankFailed"


def test_a_discovered_run_is_listed_but_a_followed_one_keeps_its_own_state() -> None:
    found = RunListed(run_id="r", state="running", workload="digits-cnn", nodes=("a", "b"), started=5.0)
    run = reduce(State(), found).runs["r"]
    assert (run.state, run.nodes, run.node_started_at) == ("running", ("a", "b"), 5.0)
    planned = RunPlanned(run_id="r", workload="digits-cnn", cases=("equal",), ranks=(RankSummary(0, "a"),))
    followed = reduce(State(), planned)
    assert reduce(followed, replace(found, state="failed")).runs["r"].state == followed.runs["r"].state


FOUND = StragglerFound(
    at=30.0,
    node="demo1",
    run_id="r",
    case="hybrid",
    straggler=1,
    cause="compute",
    slowdown=1.52,
    since=120,
    step=127,
    part_expected_seconds=0.4,
    part_seconds=0.6,
    before=(190, 194),
    after=(190, 194),
)
ENDED = StragglerEnded(
    at=60.0, node="demo1", run_id="r", case="hybrid", straggler=1, cause="compute", since=120, step=150, gain=0.8
)


def hot_run(found: StragglerFound = FOUND) -> State:
    """Two ranks, the second on a device whose clock fell while the alert opened."""
    ranks = (RankSummary(0, "demo1", 0, "RTX 3060"), RankSummary(1, "demo2", 0, "GTX 1650"))
    device = DeviceReading(0, "GTX 1650", "cuda", 0.99, clock=1665.0, temperature=70.0)
    hot = replace(device, clock=1110.0, temperature=88.0, throttle=("thermal (hardware)",))
    return fold(
        [
            RunPlanned(at=1.0, run_id="r", cases=("hybrid",), ranks=ranks),
            CaseStarted(at=2.0, run_id="r", case="hybrid", policy="hybrid"),
            NodeReported(at=20.0, node="demo2", devices=(device,)),
            found,
            NodeReported(at=31.0, node="demo2", devices=(hot,)),
        ]
    )


def straggler_alert(state: State) -> Alert:
    (alert,) = (one for one in state.alerts if one.key[0] == "straggler")
    return alert


def test_a_straggler_s_alert_names_rank_device_slowdown_and_what_the_readings_of_that_device_say() -> None:
    alert = straggler_alert(hot_run())
    assert (alert.node, alert.run_id, alert.severity) == ("demo2", "r", "warning")
    assert alert.text == ("rank 1 1.52x slower: thermal (hardware): clock 1,665 -> 1,110 MHz, 88 °C; since step 120, GTX 1650")


def test_the_advice_follows_the_kind_of_the_evidence_and_not_its_words() -> None:
    hot = hot_run()
    (straggler,) = hot.runs["r"].cases[0].stragglers
    assert straggler.evidence is not None
    assert straggler.evidence.kind == "reduced clock"
    assert straggler_alert(hot).hint == "check its cooling and power limit"
    used_by_another = ProcessReading(77, "eve", "thermal-clock")
    device = DeviceReading(0, "GTX 1650", "cuda", 0.99, processes=(used_by_another,))
    shared = reduce(hot, NodeReported(at=32.0, node="demo2", devices=(device,)))
    (straggler,) = shared.runs["r"].cases[0].stragglers
    assert straggler.evidence is not None
    assert straggler.evidence.kind == "shared device"
    assert straggler_alert(shared).hint == "find the owner of that process, or use another device"


def test_readings_of_other_causes_leave_the_rank_s_own_stamps_as_evidence() -> None:
    alert = straggler_alert(hot_run(replace(FOUND, cause="data", part_expected_seconds=0.004)))
    assert alert.text == "rank 1 1.52x slower: data 4 -> 600 ms a step; since step 120, GTX 1650"


def test_another_user_s_process_on_the_device_is_named_and_the_run_s_own_is_not() -> None:
    ours, stranger = ProcessReading(1, "me", "python", run_id="r"), ProcessReading(77, "eve", "miner")
    device = DeviceReading(0, "GTX 1650", "cuda", 0.99, processes=(ours, stranger))
    state = reduce(hot_run(), NodeReported(at=32.0, node="demo2", devices=(device,)))
    assert straggler_alert(state).text.startswith("rank 1 1.52x slower: also used by miner 77 of eve;")


@pytest.mark.parametrize(("node", "is_live"), [("demo1", False), ("demo2", False), ("demo2", True)])
def test_a_straggler_of_the_night_has_the_readings_of_that_hour_as_evidence(node: str, is_live: bool) -> None:
    """Written down by rank 0, here or on another node; read in the morning, when the device is cool or its node is gone."""
    ranks = (RankSummary(0, "demo1", 0, "RTX 3060"), RankSummary(1, "demo2", 0, "GTX 1650"))
    usual = [DeviceReading(0, kind="cuda", clock=1665.0, temperature=70.0)] * 5
    hot = [DeviceReading(0, kind="cuda", clock=1110.0, temperature=88.0, throttle=("thermal (hardware)",))] * 2
    night = [
        ReadingsRecorded(at=5.0, node="demo2", run_id="r", node_time=1000.0 + 10 * index, devices=(device,))
        for index, device in enumerate(usual + hot + (usual * 20 if is_live else []))
    ]
    state = fold(
        [
            RunPlanned(at=1.0, run_id="r", cases=("hybrid",), ranks=ranks),
            *([NodeReported(at=2.0, node="demo2", devices=(usual[0],))] if is_live else []),
            *night,
            replace(FOUND, at=6.0, node=node, node_time=1055.0),
        ]
    )
    assert "thermal (hardware): clock 1,665 -> 1,110 MHz, 88 °C" in straggler_alert(state).text


def test_an_alert_names_the_action_of_the_balancer_and_ends_with_the_straggler() -> None:
    change = SharesChanged(
        at=33.0,
        run_id="r",
        case="hybrid",
        step=122,
        before=(190, 194),
        after=(250, 134),
        predicted_before=0.6,
        predicted_after=0.48,
    )
    state = reduce(hot_run(), change)
    assert straggler_alert(state).action_taken == "shares 190/194 -> 250/134: 480 instead of 600 ms a step"
    assert open_alerts(state)
    state = reduce(state, ENDED)
    assert straggler_alert(state).ended_at == 60.0
    assert straggler_alert(state).action_taken == "changed shares brought back 80 % of the lost time"
    (straggler,) = state.runs["r"].cases[0].stragglers
    assert (straggler.is_open, straggler.ended) == (False, ENDED)


def test_a_straggler_s_alert_ends_with_its_case_at_the_latest() -> None:
    state = reduce(hot_run(), CaseEnded(at=70.0, run_id="r", case="hybrid"))
    assert straggler_alert(state).ended_at == 70.0
    assert not state.runs["r"].cases[0].stragglers[0].is_open


def test_a_warning_of_a_node_is_shown_once_and_until_it_connects_again() -> None:
    warned = NodeWarned(node="a", reason="it kills background processes", hint="systemd keeps runs there")
    state = fold([InventoryRead(nodes=(NodeSummary("a"),)), warned, warned])
    assert [(alert.severity, alert.text) for alert in state.alerts] == [("warning", "it kills background processes")]
    state = reduce(state, NodeConnected(node="a"))
    assert all(alert.ended_at is not None for alert in state.alerts)


def test_a_step_is_split_into_data_host_compute_communication_and_wait() -> None:
    ranks = (RankSummary(0, "a"), RankSummary(1, "b"))
    first = StepsTaken(run_id="r", case="x", rank=0, steps=1, samples=8, compute_seconds=0.4, wait_seconds=0.02, step_seconds=0.42)
    second = replace(first, rank=1, compute_seconds=0.3, wait_seconds=0.12, data_seconds=0.05, copy_seconds=0.01, host_seconds=0.04)
    parts = step_parts(fold([RunPlanned(run_id="r", cases=("x",), ranks=ranks), first, second]).runs["r"])
    assert parts[0] == StepParts(data=0.0, host=0.0, compute=0.4, communication=0.02, wait=0.0)
    found = parts[1]
    assert [round(part, 6) for part in (found.data, found.host, found.compute, found.communication, found.wait)] == [
        0.06,
        0.04,
        0.2,
        0.02,
        0.1,
    ]


def test_a_single_rank_has_no_communication() -> None:
    alone = StepsTaken(run_id="r", case="x", steps=1, samples=8, compute_seconds=0.4, wait_seconds=0.02, step_seconds=0.42)
    assert step_parts(fold([alone]).runs["r"])[0].communication == 0.0


def test_a_healthy_report_leaves_the_alerts_of_other_nodes_alone_and_ends_its_own() -> None:
    hot = NodeReported(at=1.0, node="a", devices=(DeviceReading(0, "T4", throttle=("thermal",)),))
    state = fold([hot, replace(hot, node="b"), replace(hot, at=2.0, devices=(DeviceReading(0, "T4"),))])
    assert [(alert.node, alert.ended_at) for alert in state.alerts] == [("a", 2.0), ("b", None)]
