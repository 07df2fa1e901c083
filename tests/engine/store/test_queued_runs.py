"""A run in the queue of a cluster: waiting, queued, running when its machines write, queued again when they are taken away."""

from __future__ import annotations

from paceline.engine.events import LaunchStarted, RunEnded, RunnerStarted, RunPlanned, RunQueued, StepsTaken, Warned
from paceline.engine.jobs.lifecycle import combine_verdicts, node_verdict
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State


def test_a_run_leaves_the_queue_when_a_machine_writes_and_goes_back_when_it_is_taken_away() -> None:
    state = reduce(State(), RunPlanned(run_id="r", cases=("hybrid",)))
    seen = []
    for event in (
        RunQueued(run_id="r", state="waiting", reason="the controller is silent"),
        RunQueued(run_id="r", reason="Priority", job_id=7),
        Warned(run_id="r", reason="something at the centre"),
        RunnerStarted(run_id="r", node="a", node_time=1.0),
        LaunchStarted(run_id="r", node="a", node_time=2.0),
        StepsTaken(run_id="r", node="a", case="hybrid", steps=1, node_time=3.0),
        RunQueued(run_id="r", reason="BeginTime", job_id=7),
        RunnerStarted(run_id="r", node="a", node_time=4.0),
        RunEnded(run_id="r", state="done"),
    ):
        state = reduce(state, event)
        seen.append((state.runs["r"].state, state.runs["r"].reason))
    assert [one for one, _ in seen] == [
        *("waiting", "queued", "queued", "starting", "starting", "running", "queued", "running", "done"),
    ]
    assert [reason for _, reason in seen][:4] == ["the controller is silent", "Priority", "Priority", ""]
    assert not state.alerts


def test_a_run_is_queued_as_long_as_any_of_its_slots_is() -> None:
    queued = node_verdict({"is_alive": True, "queue": {"state": "queued", "reason": "Priority"}})
    waiting = node_verdict({"is_alive": True, "queue": {"state": "waiting", "reason": "silence"}})
    running = node_verdict({"is_alive": True, "is_launched": True})
    assert combine_verdicts({"a": queued, "b": queued}).reason == "Priority"
    assert combine_verdicts({"a": queued, "b": running}).state == "queued"
    assert combine_verdicts({"a": waiting, "b": waiting}).state == "waiting"
    cancelled = node_verdict({"exit": {"state": "cancelled"}, "queue": {"state": "queued"}})
    assert combine_verdicts({"a": queued, "b": cancelled}).state == "cancelled"
