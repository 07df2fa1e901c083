"""OpenSSH's own server, the real agent, and a connection that is cut again and again; and one log of a gigabyte."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from paceline.engine.agent.system.processes import boot_id, start_time
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.events import Event, RunnerEnded, StepsTaken
from paceline.engine.jobs.mirror import follow
from paceline.engine.jobs.mirror.follow import Follower
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.protocol.json_files import write_json
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh import connect
from paceline.engine.wire import encode

from tests.support.runs.fault_histories import RUN, PlayedFleet
from tests.support.ssh.fault_proxy import Fault, FaultProxy
from tests.support.ssh.sshd import needs_sshd, sshd

pytestmark = needs_sshd
CUTS = ("cut", "reset", "half-close")
MEBI = 1 << 20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead peer shows within a second, and is tried again at once."""
    monkeypatch.setattr(connect, "KEEPALIVE_INTERVAL", 0.3)
    monkeypatch.setattr(follow, "RECONNECT_INTERVAL_S", 0.01)


class Node:
    """A run directory below a real sshd, reached through a proxy."""

    def __init__(self, path: Path, name: str, target: int, faults: Iterator[Fault | None], seed: int) -> None:
        self.name = name
        self.home = StateDir(path / "state" / name, name)
        self.run = self.home.runs / RUN
        (self.run / "ranks").mkdir(parents=True)
        write_json(self.run / "start.json", {"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())})
        self.proxy = FaultProxy(target, faults, random.Random(seed))

    def spec(self, path: Path, pin: str) -> NodeSpec:
        return NodeSpec(
            self.name,
            host="127.0.0.1",
            port=self.proxy.port,
            user=getpass.getuser(),
            key=str(path / "key"),
            host_key=pin,
            state_dir=str(path / "state"),
            python=sys.executable,
        )


@asynccontextmanager
async def lab(path: Path, faults: list[Iterator[Fault | None]]) -> AsyncIterator[tuple[list[Node], PlayedFleet]]:
    """One real sshd, and a node a sequence of faults."""
    host_key, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(str(path / "key"))
    (path / "key").chmod(0o600)
    async with sshd(path / "sshd", [host_key], client, MaxSessions="100") as server:
        nodes = [Node(path, f"n{i}", server.port, each, i) for i, each in enumerate(faults)]
        for node in nodes:
            await node.proxy.start()
        fleet = PlayedFleet({}, {node.name: node.spec(path, host_key.get_fingerprint()) for node in nodes})
        try:
            yield nodes, fleet
        finally:
            await fleet.close()
            for node in nodes:
                await node.proxy.close()


def cuts(rng: random.Random, count: int) -> Iterator[Fault | None]:
    """Connections that break after the handshake, one after the other."""
    for _ in range(count):
        yield Fault(rng.choice(CUTS), int(2 ** rng.uniform(11.5, 17)), is_answer=True)


async def write(node: Node, rng: random.Random, count: int) -> None:
    """Output and steps until the node's connection was cut so often, then the end."""
    with (node.run / "out.log").open("ab") as log, (node.run / "ranks" / "0.jsonl").open("ab") as steps:
        for number in itertools.count():
            log.write(rng.randbytes(rng.randrange(8000)))
            steps.write(encode(StepsTaken(step=number)).encode() + b"\n")
            log.flush()
            steps.flush()
            if len(node.proxy.acted) >= count:
                break
            await asyncio.sleep(0.02)
    write_json(node.run / "exit.json", RunnerEnded(state="done"))


async def cut_again_and_again(path: Path, nodes: int, each: int) -> str:
    """What is counted when runs on so many nodes are followed while every connection breaks so often."""
    seeds = [random.Random(f"cuts {number}") for number in range(nodes)]
    async with lab(path, [cuts(rng, each) for rng in seeds]) as (made, fleet):
        directory = RunMirror(path / "runs", RUN)
        events_seen: list[Event] = []
        writing = [asyncio.ensure_future(write(node, rng, each)) for node, rng in zip(made, seeds, strict=True)]
        verdict = await Follower(directory, tuple(node.name for node in made), fleet, events_seen.append).run()  # type: ignore[arg-type]  # a test double
        directory.close()
        await asyncio.gather(*writing)
        assert verdict.state == "done"
        wrong = total = 0
        for node in made:
            for file in (file for file in node.run.rglob("*") if file.is_file()):
                total += file.stat().st_size
                wrong += (path / "runs" / RUN / "nodes" / node.name / file.relative_to(node.run)).read_bytes() != file.read_bytes()
            taken = [event.step for event in events_seen if isinstance(event, StepsTaken) and event.node == node.name]
            assert taken == list(range(len(taken)))
            assert len(taken) == (node.run / "ranks" / "0.jsonl").read_bytes().count(b"\n")
        assert wrong == 0
        events = sum(isinstance(event, StepsTaken) for event in events_seen)
        acted = sum(len(node.proxy.acted) for node in made)
        return (
            f"{acted} cuts, {fleet.opened} connections, {total} bytes: 0 files differ; {events} events: 0 lost, doubled, reordered"
        )


@pytest.mark.usefixtures("hasty")
async def test_a_real_sshd_connection_is_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    print("\n" + await cut_again_and_again(tmp_path, nodes=2, each=5))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("hasty")
async def test_a_thousand_cuts_of_a_real_sshd_connection(tmp_path: Path) -> None:
    print("\n" + await cut_again_and_again(tmp_path, nodes=8, each=125))


def peak(pid: int | str) -> int:
    """Largest resident memory of a process so far, in bytes; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def agents(root: Path) -> list[int]:
    """Pids of the agents below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"paceline.engine.agent\0" in command and str(root).encode() in command:
                found.append(int(entry.name))
    return found


async def bring_home(path: Path, size: int, faults: Iterator[Fault | None]) -> dict[str, Any]:
    """One log of this size, followed to its end: seconds, and what memory it took at most."""
    async with lab(path, [faults]) as ((node,), fleet):
        block = "".join(f"step {i} loss {1 / (i + 1):.6f} rate {i * 7919 % 10007}\n" for i in range(32_000)).encode()[:MEBI]
        origin = hashlib.sha256()
        with (node.run / "out.log").open("wb") as log:
            for number in range(size // MEBI):
                piece = f"block {number:8}\n".encode() + block[15:]
                log.write(piece)
                origin.update(piece)
        write_json(node.run / "exit.json", RunnerEnded(state="done"))
        await fleet.link("n0")  # the modules are there, the agent has started
        before, most = peak("self"), 0
        directory = RunMirror(path / "runs", RUN)
        began = time.monotonic()
        following = asyncio.ensure_future(
            Follower(directory, ("n0",), fleet, lambda event: None).run()  # type: ignore[arg-type]  # a test double
        )
        while not following.done():
            most = max(most, *(peak(pid) for pid in agents(node.home.root)), 0)
            await asyncio.wait({following}, timeout=0.5)
        seconds = time.monotonic() - began
        assert following.result().state == "done"
        directory.close()
        copy = hashlib.sha256()
        with (path / "runs" / RUN / "nodes" / "n0" / "out.log").open("rb") as file:
            while data := file.read(MEBI):
                copy.update(data)
        assert copy.digest() == origin.digest()
        return {"seconds": seconds, "agent": most, "centre": peak("self") - before, "cuts": len(node.proxy.acted)}


def gigabyte_faults() -> Iterator[Fault | None]:
    """Four cuts on the way of a gigabyte, packed as it travels."""
    rng = random.Random(1)
    return iter([Fault(rng.choice(CUTS), rng.randrange(20 * MEBI, 60 * MEBI), is_answer=True) for _ in range(4)])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("hasty")
async def test_a_log_of_a_gigabyte_comes_home_through_cuts_in_little_memory(tmp_path: Path) -> None:
    found = await bring_home(tmp_path, 1 << 30, gigabyte_faults())
    print(
        f"\n1 GiB in {found['seconds']:.1f} s through {found['cuts']} cuts: agent {found['agent'] >> 20} MiB at most, "
        f"centre {found['centre'] >> 20} MiB more than before"
    )
    assert found["agent"] < 128 * MEBI
    assert found["centre"] < 128 * MEBI
