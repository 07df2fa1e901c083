"""A run is taken up again: by another centre, by the same one, and beside a process that follows it already."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable, UsageError, WorkFailed
from paceline.engine.events import Event, LaunchStarted, ResultDerived, RunEnded, RunListed, RunPlanned, StepsTaken
from paceline.engine.jobs.mirror import follow
from paceline.engine.jobs.mirror.event_log import MAX_EVENT_LINE_BYTES, CopyReader
from paceline.engine.jobs.mirror.follow import Follower
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.jobs.runs.attach import attach
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.protocol.json_files import write_json
from paceline.engine.ssh.link import Link
from paceline.engine.wire import encode
from paceline.tui.app import PacelineApp
from paceline.tui.widgets.line_canvas import RowList

from tests.support.runs.fault_histories import RUN, PlayedFleet, Server, Written, hurry
from tests.support.screens import story
from tests.support.waiting import loop_turns, until

ROW = {"run_id": RUN, "nodes": ["a"], "state": "running"}


class Centre:
    """A run on one node that is written from the first moment, and fleets that reach it."""

    def __init__(self, server: Server, path: Path) -> None:
        self.runs = path / "runs"
        self._server = server
        server.homes["a"] = StateDir(path / "nodes" / "a", "a")
        self.written = Written(server.homes["a"], random.Random(7))
        data = DataPlan("0" * 64, "made up", 1, "0" * 64)
        ranks = (RankPlan(0, "a", 0, 0, 0, "emulated", "device"),)
        nodes = (NodePlan("a", 0, (0,), "127.0.0.1", "lo", "python3"),)
        write_json(self.written.run / "plan.json", Plan(RUN, "digits-cnn", (CasePlan("equal", "equal"),), nodes, ranks, data, 1, 8))
        self.fleets: list[PlayedFleet] = []

    def fleet(self) -> Any:
        """A new one: another control process."""
        gate = SimpleNamespace(client_key=self._server.client_key, host_key=self._server.host_key, port=self._server.port)
        self.fleets.append(PlayedFleet({"a": gate}))
        return self.fleets[-1]

    def attach(self, runs: Path, heard: list[Event]) -> asyncio.Task[dict[str, object]]:
        return asyncio.ensure_future(attach(ROW, self.fleet(), connected=["a"], runs=runs, publish=heard.append, patience=10.0))


def break_once(monkeypatch: pytest.MonkeyPatch, word: str) -> list[str]:
    """The first question with this word meets a link that breaks; gives the words that did."""
    broken: list[str] = []
    ask = Link.ask

    async def breaking(link: Link, asked: str, **body: object) -> dict[str, object]:
        if asked == word and not broken:
            broken.append(asked)
            raise NodeUnreachable("the link was lost", node=link.node)
        return await ask(link, asked, **body)

    monkeypatch.setattr(Link, "ask", breaking)
    return broken


@pytest.fixture
async def centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Centre]:
    hurry(monkeypatch)
    async with Server() as server:
        made = Centre(server, tmp_path)
        yield made
        for fleet in made.fleets:
            await fleet.close()


def told(heard: list[Event]) -> list[int]:
    return [event.step for event in heard if isinstance(event, StepsTaken) and event.rank == 0]


def expected(centre: Centre) -> list[int]:
    return [event.step for event in centre.written.expected("ranks/0.jsonl") if isinstance(event, StepsTaken)]


async def test_a_centre_that_launched_nothing_follows_a_run_to_its_result(centre: Centre, tmp_path: Path) -> None:
    heard: list[Event] = []
    work = centre.attach(tmp_path / "elsewhere", heard)
    await centre.written.write()
    document = await work
    assert (document["run_id"], document["state"]) == (RUN, "done")
    assert isinstance(heard[0], RunPlanned)
    assert isinstance(heard[-1], ResultDerived)
    assert (told(heard), len(expected(centre)) > 0) == (expected(centre), True)


async def test_past_events_of_a_run_are_published_in_the_order_of_time(centre: Centre) -> None:
    await centre.written.write()
    heard: list[Event] = []
    await centre.attach(centre.runs, heard)
    assert told(heard) == expected(centre)
    again: list[Event] = []
    assert (await centre.attach(centre.runs, again))["state"] == "done"
    assert [type(event) for event in again].count(RunEnded) == 1
    assert told(again) == expected(centre)


@pytest.mark.parametrize("word", ["stat_files", "follow", "acknowledge"])
async def test_a_link_that_breaks_under_a_question_costs_no_patience(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(follow, "FLOW_WINDOW_BYTES", 4)  # every piece is acknowledged
    broken = break_once(monkeypatch, word)
    await centre.written.write()
    heard: list[Event] = []
    assert (await centre.attach(centre.runs, heard))["state"] == "done"
    assert broken == [word]
    assert told(heard) == expected(centre)


@pytest.mark.parametrize("loss", ["silent", "cleaned", "not named"])
async def test_the_copies_say_how_the_run_ended_when_its_node_does_not_answer(centre: Centre, loss: str) -> None:
    await centre.written.write()
    await centre.attach(centre.runs, [])
    (centre.runs / RUN / "result.json").unlink()  # a kill in the last moment
    shutil.rmtree(centre.written.run)

    class Gone:
        async def link(self, name: str, patience: float = 30.0) -> Link:
            assert patience <= 10.0
            raise NodeUnreachable("no answer", node=name) if loss == "silent" else UsageError(f"nodes.toml names no node {name!r}")

        def login_of(self, name: str) -> str | None:
            return None

    fleet: Any = centre.fleet() if loss == "cleaned" else Gone()
    heard: list[Event] = []
    assert (await attach(ROW, fleet, connected=[], runs=centre.runs, publish=heard.append, patience=math.inf))["state"] == "done"
    assert told(heard) == expected(centre)


def test_bytes_without_the_end_of_a_line_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path, event = tmp_path / "a" / "events.jsonl", encode(LaunchStarted(pid=7)).encode() + b"\n"
    reader = CopyReader(tmp_path, RUN)
    with path.open("wb") as file:
        file.write(event + b"x" * (2 * MAX_EVENT_LINE_BYTES + 5))
        file.flush()
        first = [one for events in reader.read("a", "events.jsonl") for one in events]
        file.write(b"\n" + event)
    second = [one for events in reader.read("a", "events.jsonl") for one in events]
    assert [[event.pid for event in events if isinstance(event, LaunchStarted)] for events in (first, second)] == [[7], [7]]
    assert reader.positions["a"]["events.jsonl"] == path.stat().st_size


async def test_a_second_process_reads_along_and_ends_with_the_same_result(centre: Centre) -> None:
    first: list[Event] = []
    second: list[Event] = []
    following = centre.attach(centre.runs, first)
    await until((centre.runs / RUN / "nodes").exists)
    reading = centre.attach(centre.runs, second)
    await centre.written.write()
    assert await following == await reading
    assert told(first) == told(second) == expected(centre)
    ends = [[event for event in heard if isinstance(event, RunEnded)] for heard in (first, second)]
    assert [[(one.run_id, one.state, one.reason) for one in heard] for heard in ends] == [[(RUN, "done", "")]] * 2


async def test_a_reader_of_the_copies_takes_over_when_the_follower_is_gone(centre: Centre) -> None:
    following = centre.attach(centre.runs, [])
    await until((centre.runs / RUN / "nodes").exists)
    reading = centre.attach(centre.runs, [])
    await loop_turns()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await centre.written.write()
    assert (await reading)["state"] == "done"


class Strangers(PlayedFleet):
    """A fleet whose nodes.toml does not name all nodes of the run."""

    async def link(self, name: str, patience: float = 30.0) -> Link:
        if name != "a":
            raise UsageError(f"nodes.toml names no node {name!r}")
        return await super().link(name, patience)


async def test_a_node_that_is_not_in_this_nodes_toml_is_out_of_reach_and_not_failed(centre: Centre) -> None:
    await centre.written.write()
    fleet = centre.fleet()
    fleet.__class__ = Strangers
    row = {**ROW, "nodes": ["a", "b"]}
    with pytest.raises(NodeUnreachable, match="b out of reach"):
        await attach(row, fleet, connected=["a"], runs=centre.runs, publish=lambda event: None, patience=math.inf)


async def test_a_run_without_a_plan_cannot_be_taken_up(centre: Centre) -> None:
    (centre.written.run / "plan.json").write_text("[]")
    with pytest.raises(WorkFailed, match="no plan"):
        await centre.attach(centre.runs, [])


async def test_a_full_disk_here_stops_the_following_and_a_later_one_goes_on(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunMirror(centre.runs, RUN)
    full = iter([3, 0])

    def write(handle: int, data: memoryview) -> int:
        if (room := next(full)) == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, data[:room])

    monkeypatch.setattr(directory, "_write", write)
    with pytest.raises(WorkFailed, match="No space left"):
        await Follower(directory, ("a",), centre.fleet(), lambda event: None).run()
    directory.close()
    heard: list[Event] = []
    work = centre.attach(centre.runs, heard)
    await centre.written.write()
    assert (await work)["state"] == "done"
    launches = [event.pid for event in heard if isinstance(event, LaunchStarted)]
    assert launches == [event.pid for event in centre.written.expected("events.jsonl") if isinstance(event, LaunchStarted)]


async def test_enter_on_a_run_that_is_not_followed_here_attaches_to_it() -> None:
    session = story.StorySession([story.inventory(), RunListed(at=1.0, run_id=RUN, workload="digits-cnn", nodes=("a",))])
    async with PacelineApp(session).run_test() as pilot:
        await pilot.press("2")
        while not (rows := pilot.app.screen.query(RowList)) or rows.first().cursor_key != RUN:
            await pilot.pause(0.01)
        await pilot.press("enter")
        while not session.asked:
            await pilot.pause(0.01)
        assert session.asked == [f"attach {RUN}"]
