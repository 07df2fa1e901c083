"""Paths between nodes that a firewall closes are known before a launch, in both directions, with what to type."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc import path_probe
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable, PacelineError, PlanImpossible
from paceline.engine.events import NodeConnected
from paceline.engine.jobs.doors import closed_paths
from paceline.engine.jobs.doors.closed_paths import find_closed_paths, refuse_closed_paths
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.training.group.sealed_ports import listening_descriptors, seal_ports

NAMES = ("n0", "n1", "n2")


def plan_of(*addresses: str) -> Plan:
    nodes = [
        NodePlan(name, rank, (rank,), address, "lo", "python3")
        for rank, (name, address) in enumerate(zip(NAMES, addresses, strict=False))
    ]
    ranks = [RankPlan(node.node_rank, node.name, node.node_rank, 0, 0, "cpu", "cpu") for node in nodes]
    return Plan("r", "digits-cnn", (CasePlan("equal", "equal"),), tuple(nodes), tuple(ranks), DataPlan("0", "x", 1, "0"), 1, 8)


FACTS = {name: NodeConnected(node=name, boot_id=name) for name in NAMES}
"""Machines that are not one."""


class Agents:
    """A fleet whose agents answer in this process; ``silent`` ones do not."""

    def __init__(self, place: Path, silent: frozenset[str] = frozenset()) -> None:
        self.place, self.silent = place, silent
        self.asked: list[str] = []

    async def link(self, name: str, patience: float = 0.0) -> Any:
        if name in self.silent:
            raise NodeUnreachable("it is gone", node=name)
        return _Link(self, name)


class _Link:
    def __init__(self, agents: Agents, name: str) -> None:
        self.agents, self.name = agents, name

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        async def send(frame: dict[str, Any]) -> None:
            raise AssertionError("no frame")

        self.agents.asked.append(f"{self.name} {word}")
        try:
            return await REQUESTS[word](StateDir(self.agents.place, self.name), body, send)
        except PacelineError as error:
            error.node = self.name
            raise


async def closed(agents: Agents, plan: Plan, facts: dict[str, NodeConnected] = FACTS) -> list[str]:
    return [str(path) for path in await find_closed_paths(agents, plan, facts)]  # type: ignore[arg-type]  # a stand-in


async def test_nodes_that_reach_each_other_may_start(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    assert await closed(agents, plan_of("127.0.0.1", "127.0.0.1", "127.0.0.1")) == []
    assert len(agents.asked) == 6
    await refuse_closed_paths(agents, plan_of("127.0.0.1", "127.0.0.1"), FACTS)  # type: ignore[arg-type]  # agents in place of a fleet


async def test_one_machine_and_one_node_are_not_tried(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    one = {name: NodeConnected(node=name, boot_id="same") for name in NAMES}
    assert await closed(agents, plan_of("127.0.0.1", "127.0.0.1"), one) == []
    assert await closed(agents, plan_of("10.0.0.1"), FACTS) == []
    assert agents.asked == []


async def test_a_port_that_is_shut_or_swallowed_is_named_in_its_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_paths, "TRY_S", 0.3)
    monkeypatch.setattr(closed_paths, "LAST_TRY_S", 0.4)
    real = socket.create_server

    def behind_a_firewall(place: tuple[str, int], **options: Any) -> socket.socket:
        listener = real(place, **options)
        if place[0] == "127.0.0.2":  # rejects: nobody listens where it says
            port = listener.getsockname()[1]
            listener.close()
            listener = real((place[0], 0), **options)
            return _Moved(listener, port)  # type: ignore[return-value]  # a listener at another port
        if place[0] == "127.0.0.3":  # drops
            assert seal_ports(listening_descriptors() - {listener.fileno()}) == 1
        return listener

    monkeypatch.setattr(socket, "create_server", behind_a_firewall)
    plan = plan_of("127.0.0.1", "127.0.0.2", "127.0.0.3")
    assert await closed(Agents(tmp_path), plan) == [
        "n0 does not reach n1 at 127.0.0.2: connection refused",
        "n0 does not reach n2 at 127.0.0.3: no answer for 0.4 s",
        "n1 does not reach n2 at 127.0.0.3: no answer for 0.4 s",
        "n2 does not reach n1 at 127.0.0.2: connection refused",
    ]
    with pytest.raises(PlanImpossible, match=r"n0 does not reach n1 at 127\.0\.0\.2.*; also 3 more") as raised:
        await refuse_closed_paths(Agents(tmp_path), plan, FACTS)  # type: ignore[arg-type]  # agents in place of a fleet
    assert raised.value.exit_status == 5
    assert "on n1, if a firewall closes it: ufw allow proto tcp from 127.0.0.1 to any port 32768:60999" in (raised.value.hint or "")


class _Moved:
    """A listener that says another port than its own."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self._listener, self._port = listener, port

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.2", self._port)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


async def test_an_address_that_is_not_its_own_is_refused_with_the_node(tmp_path: Path) -> None:
    with pytest.raises(PlanImpossible, match=r"cannot listen on 203\.0\.113\.7") as raised:
        await closed(Agents(tmp_path), plan_of("127.0.0.1", "203.0.113.7"))
    assert (raised.value.node, "address in nodes.toml" in (raised.value.hint or "")) == ("n1", True)


async def test_a_node_that_does_not_answer_says_nothing_about_paths(tmp_path: Path) -> None:
    assert await closed(Agents(tmp_path, frozenset({"n1"})), plan_of("127.0.0.1", "127.0.0.1", "127.0.0.1")) == []


async def test_strangers_at_the_port_get_nothing_and_hold_nobody_up(tmp_path: Path) -> None:
    home = StateDir(tmp_path, "n0")

    async def send(frame: dict[str, Any]) -> None:
        raise AssertionError

    key = "ab" * 32
    port = (await REQUESTS["open_path_probe"](home, {"address": "127.0.0.1", "key": key, "seconds": 5.0}, send))["port"]
    strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    for reader, writer in strangers[:10]:
        assert len(await reader.readexactly(16)) == 16, "a challenge, and nothing else"
        writer.write(b"GET / HTTP/1.0\r\n\r\n" + b"x" * 100)
    told = await REQUESTS["try_paths"](home, {"peers": {"n0": ["127.0.0.1", port]}, "key": key, "seconds": 3.0}, send)
    assert told == {"closed": {}}
    wrong = await REQUESTS["try_paths"](home, {"peers": {"n0": ["127.0.0.1", port]}, "key": "cd" * 32, "seconds": 3.0}, send)
    assert set(wrong["closed"]) == {"n0"}
    for reader, _ in strangers[:10]:
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    for _, writer in strangers:
        writer.close()
    for task in list(path_probe._open):
        task.cancel()
