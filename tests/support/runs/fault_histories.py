"""Seeded histories of faults: a run writes, a centre follows through a proxy that breaks, and then all bytes and events count.

Real SSH channels, the real link, the real tails and the real follower. Only the agent's process is spared: its requests are served
in the SSH server's own process, so that a history costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import json
import os
import random
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.runs import tail
from paceline.engine.agent.system.processes import boot_id, start_time
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeRefused, NodeUnreachable, PacelineError, StorageFailed
from paceline.engine.events import Event, LaunchStarted, RunEnded, RunnerEnded, StepsTaken
from paceline.engine.jobs.mirror import follow, frame_queue
from paceline.engine.jobs.mirror.follow import Follower
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.protocol.json_files import write_json
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh import connect
from paceline.engine.ssh import link as link_module
from paceline.engine.ssh.link import HOME_PREFIX, Link
from paceline.engine.wire import decode, encode

from tests.support.ssh.fault_proxy import KINDS, FaultProxy, random_fault

RUN = "20260101-0000-faults"
FULL_DISK = "full disk"
ALL_KINDS = (*KINDS, FULL_DISK)


@dataclasses.dataclass
class Tally:
    """What many histories came to."""

    histories: int = 0
    connections: int = 0
    centres: int = 0
    """Control centres it took: one more whenever one was killed or its disk was full."""
    acted: Counter[str] = dataclasses.field(default_factory=Counter)
    bytes: int = 0
    wrong_files: int = 0
    events: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {self.acted[kind]}" for kind in ALL_KINDS)
        return (
            f"{self.histories} histories, {self.connections} connections, {self.centres} centres; faults that acted: {kinds}\n"
            f"{self.bytes} bytes: {self.wrong_files} files differ; {self.events} events: "
            f"{self.lost} lost, {self.doubled} doubled, {self.reordered} reordered"
        )


def hurry(patch: pytest.MonkeyPatch) -> None:
    """All waits short and all portions small, so that a few kilobytes are many frames. A power cut is not played: no fsync."""
    patch.setattr(tail, "TAIL_POLL_S", 0.004)
    patch.setattr(tail, "MAX_CHUNK_BYTES", 1500)
    patch.setattr(tail, "MAX_BURST_BYTES", 3000)
    patch.setattr(frame_queue, "FLOW_WINDOW_BYTES", 12000)
    patch.setattr(follow, "FLOW_WINDOW_BYTES", 12000)
    patch.setattr(follow, "RECONNECT_INTERVAL_S", 0.002)
    patch.setattr(follow, "SYNC_INTERVAL_S", 0.02)
    patch.setattr(connect, "KEEPALIVE_INTERVAL", 0.1)
    patch.setattr(connect, "CONNECT_TIMEOUT", 1.0)
    patch.setattr(connect, "LOGIN_TIMEOUT", 1.0)
    patch.setattr(link_module, "HELLO_TIMEOUT", 1.0)
    patch.setattr(link_module, "CLOSE_TIMEOUT", 0.2)
    patch.setattr(os, "fsync", lambda handle: None)


class Server:
    """An SSH server whose command is the agent's requests, served in this process."""

    def __init__(self) -> None:
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self.homes: dict[str, StateDir] = {}
        """The nodes it serves, by name."""

    async def __aenter__(self) -> Server:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.client_key.export_public_key().decode()),
            process_factory=self._serve,
            encoding=None,
            config=[],
            gss_host=None,
            login_timeout=3,
            keepalive_interval=0.2,
        )
        self.port = self._acceptor.get_port()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One agent for one channel: hello, then answers and frames."""
        home = self.homes[shlex.split(shlex.split(process.command or "")[-1])[-1]]
        generations: set[int] = set()
        answering: set[asyncio.Task[None]] = set()

        async def send(message: dict[str, Any]) -> None:
            with contextlib.suppress(OSError, asyncssh.Error):
                process.stdout.write(json.dumps(message).encode() + b"\n")
                await process.stdout.drain()

        async def answer(message: dict[str, Any]) -> None:
            try:
                found = await REQUESTS[message["ask"]](home, message, lambda frame: send({"frame": frame}))
                await send({"id": message["id"], "answer": found})
            except PacelineError as error:
                await send({"id": message["id"], "error": {"type": type(error).__name__, "reason": error.reason, "hint": None}})

        try:
            process.stdout.write(HOME_PREFIX + str(home.root).encode() + b"\n")
            await send({"hello": {"hostname": "played"}})
            while line := await process.stdin.readline():
                message = json.loads(line) if line.strip() else {}  # the first line is empty: for a start file that reads one
                if "ask" in message:
                    generations.add(message.get("gen", 0))
                    task = asyncio.ensure_future(answer(message))
                    answering.add(task)
                    task.add_done_callback(answering.discard)
        except (OSError, asyncssh.Error, ValueError):
            pass
        finally:
            for gen in generations:
                await REQUESTS["unfollow"](home, {"gen": gen}, send)
            process.close()


class PlayedFleet:
    """Links through the proxy, one a node, opened when they are asked for, without any back-off."""

    def __init__(self, gates: dict[str, Any], specs: dict[str, NodeSpec] | None = None) -> None:
        """``gates``: key, host key and port of each played node; ``specs``: real nodes."""
        self.opened = 0
        self._gates, self._specs = gates, specs or {}
        self._links: dict[str, Link] = {}

    async def link(self, name: str, patience: float = 30.0) -> Link:
        link = self._links.get(name)
        if link is None or link.lost.done():
            if link is not None:
                del self._links[name]
                await link.close()
            self.opened += 1
            try:
                spec = self._specs.get(name) or NodeSpec(name, kind="embedded")
                link = await Link.open(spec, self._gates.get(name), lambda event: None)
            except NodeRefused as error:  # a broken handshake may look like a refusal; a fleet would say so and stop here
                raise NodeUnreachable(error.reason, node=name) from None
            self._links[name] = link
        return link

    def login_of(self, name: str) -> str | None:
        """No node is a slot of a cluster."""
        return None

    async def close(self) -> None:
        """End all links."""
        for link in self._links.values():
            await link.close()


class Written:
    """A run directory of one node, and the one who writes there."""

    def __init__(self, home: StateDir, rng: random.Random) -> None:
        self.run = home.runs / RUN
        (self.run / "ranks").mkdir(parents=True)
        self._rng = rng
        write_json(self.run / "spec.json", {"workload": "digits-cnn"})
        identity = {"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())}
        write_json(self.run / "start.json", identity)
        log = rng.randbytes(rng.randrange(12_000)) + b"x" * rng.randrange(12_000)
        self._content: dict[str, bytes] = {"out.log": log}
        for name in ("events.jsonl", "ranks/0.jsonl", "ranks/1.jsonl")[: rng.randrange(1, 4)]:
            count = rng.randrange(0, 60)
            events: list[Event] = [_numbered(name, number) for number in range(count)]
            self._content[name] = b"".join(encode(event).encode() + b"\n" for event in events)

    async def write(self) -> None:
        """Everything, in pieces that begin and end anywhere; exit.json last."""
        left = {name: memoryview(data) for name, data in self._content.items()}
        for name in left:
            (self.run / name).touch()
        while left:
            name = self._rng.choice(list(left))
            size = self._rng.randrange(1, 4000)
            with (self.run / name).open("ab") as file:
                file.write(left[name][:size])
            left[name] = left[name][size:]
            if not left[name]:
                del left[name]
            await asyncio.sleep(self._rng.uniform(0, 0.004))
        write_json(self.run / "exit.json", RunnerEnded(state="done"))

    def expected(self, name: str) -> list[Event]:
        """The events of a file."""
        found = [decode(line) for line in self._content.get(name, b"").splitlines()]
        return [event for event in found if event is not None]


def _numbered(name: str, number: int) -> Event:
    return LaunchStarted(pid=number) if name == "events.jsonl" else StepsTaken(step=number, rank=int(name[6]))


class FullDisk:
    """Room for so many bytes, then none; as a file system does, the last write may fit in part."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.was_full = False

    def write(self, handle: int, data: memoryview) -> int:
        if not self._room and data:
            self.was_full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(handle, data[: self._room])
        self._room -= written
        return written


async def history(seed: int, server: Server, path: Path, tally: Tally) -> None:
    """One run, its faults, and what came home of it."""
    rng = random.Random(seed)
    names = [f"n{i}-{seed}" for i in range(1 if rng.random() < 0.8 else 2)]
    wanted = [ALL_KINDS[(seed + i * 5) % len(ALL_KINDS)] for i in range(rng.randrange(1, 4))]
    writers, proxies, gates = {}, [], {}
    for name in names:
        faults = [random_fault(rng, kind, 30_000, 0.05) for kind in wanted if kind != FULL_DISK]
        proxy = FaultProxy(server.port, iter(faults), random.Random(seed))
        await proxy.start()
        proxies.append(proxy)
        gates[name] = SimpleNamespace(client_key=server.client_key, host_key=server.host_key, port=proxy.port)
        server.homes[name] = StateDir(path / "nodes" / name, name)
        writers[name] = Written(server.homes[name], rng)
    fleet = PlayedFleet(gates)
    writing = [asyncio.ensure_future(writer.write()) for writer in writers.values()]
    disks = iter([FullDisk(rng.randrange(6000)) for kind in wanted if kind == FULL_DISK])
    kills = iter([rng.uniform(0.0, 0.06) for _ in range(rng.randrange(3))])
    try:
        has_ended = False
        while not has_ended:
            disk = next(disks, None)
            life = next(kills, None) if disk is None else None
            has_ended = await _centre(path / "runs", tuple(names), fleet, disk, life, tally)
        await asyncio.gather(*writing)
    finally:
        await fleet.close()
        for proxy in proxies:
            await proxy.close()
            tally.acted.update(proxy.acted)
    tally.histories += 1
    tally.connections += fleet.opened
    _count(path / "runs" / RUN, writers, tally)


async def _centre(runs: Path, nodes: tuple[str, ...], fleet: Any, disk: FullDisk | None, life: float | None, tally: Tally) -> bool:
    """One control centre, from its start until the end of the run, its death or a full disk; whether the run has ended."""
    tally.centres += 1
    directory = RunMirror(runs, RUN)
    if disk is not None:
        directory._write = disk.write
    heard: list[Event] = []
    following = asyncio.ensure_future(Follower(directory, nodes, fleet, heard.append).run())
    try:
        done, _ = await asyncio.wait({following}, timeout=life)
        if not done:  # killed: nothing is written down any more, and what lay in buffers is gone
            with open(os.devnull, "wb") as nowhere:
                if (file := directory._event_log._file) is not None:
                    os.dup2(nowhere.fileno(), file.fileno())
            return False
        following.result()
    except StorageFailed:
        if disk is None or not disk.was_full:
            raise
        tally.acted[FULL_DISK] += 1
        return False
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        directory.close()
    return True


def _count(copies: Path, writers: dict[str, Written], tally: Tally) -> None:
    """Compare what is here with what was written."""
    derived = [event for line in (copies / "events.jsonl").read_bytes().splitlines() if (event := decode(line)) is not None]
    assert [type(event) for event in derived].count(RunEnded) == 1
    for node, writer in writers.items():
        for path in sorted(path for path in writer.run.rglob("*") if path.is_file()):
            copy = copies / "nodes" / node / path.relative_to(writer.run)
            tally.bytes += path.stat().st_size
            tally.wrong_files += not copy.is_file() or copy.read_bytes() != path.read_bytes()
        own = [event for event in derived if event.node == node]
        launches = [event.pid for event in own if isinstance(event, LaunchStarted)]
        _compare([event.pid for event in writer.expected("events.jsonl") if isinstance(event, LaunchStarted)], launches, tally)
        for name, rank in (("ranks/0.jsonl", 0), ("ranks/1.jsonl", 1)):
            steps = [event.step for event in own if isinstance(event, StepsTaken) and event.rank == rank]
            _compare([event.step for event in writer.expected(name) if isinstance(event, StepsTaken)], steps, tally)


def _compare(expected: list[int], found: list[int], tally: Tally) -> None:
    counts = Counter(found)
    tally.events += len(expected)
    tally.lost += sum(number not in counts for number in expected)
    tally.doubled += sum(count - 1 for count in counts.values())
    first = list(dict.fromkeys(found))
    tally.reordered += sum(a > b for a, b in itertools.pairwise(first))


async def play(seeds: Iterator[int] | range, path: Path, at_once: int = 8) -> Tally:
    """Many histories, some of them at a time."""
    tally = Tally()
    gate = asyncio.Semaphore(at_once)

    async def one(seed: int) -> None:
        async with gate:
            try:
                await asyncio.wait_for(history(seed, server, path / str(seed), tally), 60)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    async with Server() as server:
        await asyncio.gather(*(one(seed) for seed in seeds))
    return tally
