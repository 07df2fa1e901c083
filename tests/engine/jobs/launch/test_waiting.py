"""A job that waits for devices in use: its events, and how a person cancels the wait."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from paceline.engine.errors import WaitGivenUp
from paceline.engine.events import DeviceReading, Event, JobWaited, NodeSummary, Progress, RunListed, RunPlanned, Ticked
from paceline.engine.events import InventoryRead as Read
from paceline.engine.jobs.launch.live_plan import LivePlanner
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.jobs.launch.session import LaunchSession
from paceline.engine.plan import DataPlan, Plan
from paceline.engine.specs import Inventory, NodeSpec, TrainSpec
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.live_state import LiveState
from paceline.engine.workloads import WORKLOADS

from tests.support.waiting import loop_turns, until

DATA = DataPlan("0" * 64, "made up", 1, "0" * 64)
BUSY = ("lab0 / RTX 3060", "run r9 of bob")


class Waiting:
    """A planner for one node whose device is held by a run of bob, until ``holder`` is emptied."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.holder = "r9"
        self.live = LiveState(["lab0"])
        self.live(Read(nodes=(NodeSummary("lab0"),)))
        unused: Any = None
        session = LaunchSession(
            inventory=Inventory("nodes.toml", (NodeSpec("lab0"),)),
            fleet=unused,
            live=self.live,
            detach_check=unused,
            publish=self.publish,
            runs=unused,
            patience=0.0,
        )
        self.planner = LivePlanner(session)
        cast(Any, self.planner).plan = self._plan

    def publish(self, event: Event) -> None:
        self.events.append(event)
        self.live(event)

    async def _plan(self, spec: TrainSpec, data: DataPlan, patience: float) -> tuple[Plan, list[NodeCandidate]]:
        device = DeviceReading(index=0, name="RTX 3060", kind="cuda", processes=(), holder=self.holder, holder_user="bob")
        nodes = [NodeCandidate(NodeSpec("lab0"), (device,), "127.0.0.1", "lo", "python3")]
        return make_plan(spec, "r1", nodes, data, WORKLOADS[spec.workload]), nodes

    async def begin(self) -> asyncio.Task[Plan]:
        """Wait in the background; returns once JobWaited is published."""
        task = asyncio.create_task(self.planner.plan_when_free(TrainSpec(), DATA, []))
        await until(lambda: self.live.state.waiting is not None, loop_turns)
        return task


async def test_a_waiting_job_names_the_users_of_its_devices_and_starts_when_they_are_free() -> None:
    lab = Waiting()
    task = await lab.begin()
    job = lab.live.state.waiting
    assert job is not None
    assert (job.workload, job.nodes, job.in_use) == ("digits-cnn", ("lab0",), (BUSY,))
    lab.holder = ""
    lab.publish(Ticked(at=5.0))
    assert (await task).run_id == "r1"
    assert lab.live.state.waiting is None


async def test_a_cancelled_wait_starts_nothing() -> None:
    lab = Waiting()
    task = await lab.begin()
    lab.planner.stop_waiting()
    with pytest.raises(WaitGivenUp, match="nothing was started"):
        await task
    assert lab.live.state.waiting is None
    lab.planner.stop_waiting()  # once more: there is nothing to end


async def test_an_interrupted_wait_leaves_no_row_behind() -> None:
    lab = Waiting()
    task = await lab.begin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lab.live.state.waiting is None


def test_a_job_waits_since_its_first_event_whichever_devices_it_waits_for() -> None:
    state = State()
    for event in (JobWaited(at=3.0, devices=("a",)), Progress(at=3.0, phase="waiting: a"), JobWaited(at=60.0, devices=("b",))):
        state = reduce(state, event)
    assert state.waiting is not None
    assert (state.waiting.since, state.waiting.in_use) == (3.0, (("b", ""),))


def test_a_run_that_was_found_is_known_as_such_while_it_is_followed_too() -> None:
    state = reduce(State(), RunListed(run_id="found", nodes=("a",)))
    for run_id in ("found", "ours"):
        state = reduce(state, RunPlanned(run_id=run_id, workload="digits-cnn", cases=("equal",)))
    assert {run.run_id: run.is_discovered for run in state.runs.values()} == {"found": True, "ours": False}
