"""A fleet of many nodes, played by one server process: black holes hold up nobody, and what was lost is found again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from paceline.engine.events import Event, NodeConnected, NodeConnecting, NodeLost, NodeReported
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.engine.ssh import connect, fleet
from paceline.engine.ssh.fleet import Fleet

from tests.support.ssh.crowd import CrowdProcess, node_names
from tests.support.waiting import until

NODES = 24
HOLES = "n[000-005]"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrowdProcess]:
    with contextlib.closing(CrowdProcess(tmp_path_factory.mktemp("crowd"), NODES)) as made:
        yield made


class Watched:
    """A fleet and what it said."""

    def __init__(self, crowd: CrowdProcess) -> None:
        self.events: list[Event] = []
        self.fleet = Fleet(read_inventory(crowd.nodes_toml), self.events.append, interval=0.1)

    def of(self, kind: type[Event]) -> set[str]:
        return {event.node for event in self.events if isinstance(event, kind)}


@pytest_asyncio.fixture
async def watched(crowd: CrowdProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setenv("HOME", str(tmp_path))
    crowd.send("revive all")
    made = Watched(crowd)
    yield made
    await made.fleet.close()
    crowd.send("revive all")


async def test_every_node_of_a_crowd_connects_reports_and_answers(watched: Watched) -> None:
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeReported)) == NODES)
    link = await watched.fleet.link("n007")
    assert await link.ask("list_runs") == {"runs": []}
    first = next(event for event in watched.events if isinstance(event, NodeReported) and event.node == "n007")
    await until(lambda: sum(isinstance(event, NodeReported) and event.node == "n007" for event in watched.events) > 1)
    later = [event for event in watched.events if isinstance(event, NodeReported) and event.node == "n007"][-1]
    assert len(first.devices) == 2
    assert first.devices[0].utilization != later.devices[0].utilization


async def test_more_black_holes_than_places_hold_up_nobody(
    watched: Watched, crowd: CrowdProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "SILENT_SLOT_TIMEOUT", 0.05)
    watched.fleet._connect_slots = asyncio.Semaphore(4)
    assert crowd.send(f"hole {HOLES}") == "hole 6"
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES - 6)
    assert watched.of(NodeConnecting) == set(node_names(NODES))
    assert not watched.of(NodeLost)  # the holes still have their ten seconds
    assert not watched.of(NodeConnected) & set(node_names(6))


async def test_a_cut_is_shown_and_mended_in_this_order(watched: Watched, crowd: CrowdProcess) -> None:
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES)
    del watched.events[:]
    crowd.send("kill n003")
    await until(lambda: "n003" in watched.of(NodeLost))
    crowd.send("revive n003")
    await until(lambda: "n003" in watched.of(NodeConnected))
    await until(lambda: isinstance([event for event in watched.events if event.node == "n003"][-1], NodeReported))
    kinds = [type(event) for event in watched.events if event.node == "n003"]
    told = [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] is not kind]
    told = told[told.index(NodeLost) :]
    assert told[0] is NodeLost
    assert told[-3:] == [NodeConnecting, NodeConnected, NodeReported]
    assert watched.of(NodeLost) == {"n003"}


async def test_nodes_that_fell_silent_are_found_when_they_speak_again(
    watched: Watched, crowd: CrowdProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "KEEPALIVE_INTERVAL", 0.3)
    monkeypatch.setattr(fleet, "RECONNECT_INTERVAL", 0.2)
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES)
    holes = set(node_names(6))
    del watched.events[:]
    crowd.send(f"hole {HOLES}")
    await until(lambda: watched.of(NodeLost) >= holes)
    reasons = {event.reason for event in watched.events if isinstance(event, NodeLost) and event.node in holes}
    assert any("not responding to keepalive" in reason for reason in reasons)
    await until(lambda: all(watched.fleet._members[name].reconnect is not None for name in holes))
    crowd.send(f"revive {HOLES}")
    await until(lambda: watched.of(NodeConnected) >= holes)
    assert not watched.of(NodeConnected) - holes - watched.of(NodeLost)  # nobody who was not lost connected again


async def test_an_outage_is_told_once_and_not_with_every_attempt(
    watched: Watched, crowd: CrowdProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "RECONNECT_INTERVAL", 0.01)
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES)
    crowd.send("kill n010")
    member = watched.fleet._members["n010"]
    search = await until(lambda: member.reconnect)
    begun = search._started_at
    await until(lambda: search._started_at != begun)  # one attempt later
    lost = [event.reason for event in watched.events if isinstance(event, NodeLost) and event.node == "n010"]
    assert len(lost) <= 2, lost  # the loss, and why it cannot be reached now
    crowd.send("revive n010")
    await until(lambda: watched.fleet._members["n010"].link is not None)


@pytest.mark.parametrize("steps", [12, pytest.param(400, marks=pytest.mark.slow)])
async def test_whatever_happens_to_nodes_their_events_keep_their_order_and_all_come_back(
    watched: Watched, crowd: CrowdProcess, monkeypatch: pytest.MonkeyPatch, steps: int, seed: int
) -> None:
    monkeypatch.setattr(connect, "KEEPALIVE_INTERVAL", 0.3)
    monkeypatch.setattr(fleet, "BACKOFF_RANGE", (0.05, 0.5))
    monkeypatch.setattr(fleet, "RECONNECT_INTERVAL", 0.2)
    rnd = random.Random(seed)
    names = node_names(NODES)
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES)
    for _ in range(steps):
        crowd.send(f"{rnd.choice(['kill', 'hole', 'revive'])} {','.join(rnd.sample(names, rnd.randint(1, 8)))}")
        await asyncio.sleep(rnd.uniform(0.0, 0.5))  # what falls between two strokes is part of the history
    crowd.send("revive all")
    for name in names:
        await watched.fleet.link(name, patience=math.inf)
    losses = 0
    for name in names:
        state = ""
        for event in watched.events:
            if event.node != name:
                continue
            if isinstance(event, NodeReported):
                assert state == "connected", (seed, name)
            elif isinstance(event, NodeConnected):
                assert state == "connecting", (seed, name)
                state = "connected"
            elif isinstance(event, NodeConnecting):
                assert state != "connected", (seed, name)
                state = "connecting"
            elif isinstance(event, NodeLost):
                losses += state == "connected"
                state = state if state == "connecting" else "lost"
    print(f"seed {seed}: {steps} steps, {losses} links lost and found again, 0 events out of order")


async def test_closing_while_nodes_are_searched_leaves_no_task(
    crowd: CrowdProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = asyncio.all_tasks()
    watched = Watched(crowd)
    await watched.fleet.start()
    await until(lambda: len(watched.of(NodeConnected)) == NODES)
    crowd.send(f"kill {HOLES}")
    await until(lambda: len(watched.of(NodeLost)) == 6)
    await watched.fleet.close()
    assert asyncio.all_tasks() == before
    crowd.send("revive all")


def test_a_crowd_ends_with_its_standard_input(tmp_path: Path) -> None:
    with contextlib.closing(CrowdProcess(tmp_path, 2)) as made:
        assert made.send("sing all") == "unknown: sing"
        assert made.send("kill n[000-001],nobody") == "kill 2"
        made.close_input()
