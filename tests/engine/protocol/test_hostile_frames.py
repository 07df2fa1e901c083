"""Malformed lines, requests and documents of a node: each ends in an event or an error, and the reader continues."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import itertools
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runner.identity import Identity
from paceline.engine.agent.runner.peer_mesh import PeerMesh
from paceline.engine.errors import WorkFailed
from paceline.engine.events import EVENTS, Event, RankEvent
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.jobs.mirror.event_log import parse_events
from paceline.engine.jobs.mirror.frame_queue import FrameQueue
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.jobs.runs.listing import list_runs
from paceline.engine.jobs.runs.result import derive_result
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.protocol.frames import FrameRefused, read_frame
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh.link import Link
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.wire import dumps, encode, to_plain
from paceline.tui.command_line.render import render

from tests.support.screens import story
from tests.support.screens.hostile import VALUES, Ears, broken, mutated, unseen
from tests.support.waiting import until

SEED = 20261121
EVENTS_OF_ALL_KINDS = [
    *{type(event): event for event in (*story.healthy(), *story.trouble())}.values(),
    *(kind() for kind in EVENTS.values()),
]
"""One event of every kind, with values where the story has some."""
FRAME = {"run_id": "r", "gen": 1, "file": "out.log", "offset": 0, "len": 3, "crc32": 0, "data": "AAAA"}


def malformed_lines(random_numbers: random.Random) -> Iterator[bytes]:
    """Yield lines of a broken or hostile agent, without end."""
    plains = [json.loads(encode(event)) for event in EVENTS_OF_ALL_KINDS]
    while True:
        kind = random_numbers.random()
        if kind < 0.7:
            plain: Any = mutated(random_numbers.choice(plains), random_numbers)
        elif kind < 0.85:
            plain = {"frame": mutated(FRAME, random_numbers)}
        elif kind < 0.95:
            answer = {
                "id": random_numbers.choice((1, 2, -1, 10**30, "1", None, [], {})),
                "answer": copy.deepcopy(random_numbers.choice(VALUES)),
            }
            plain = mutated({**answer, "error": {"type": "OSError", "reason": "x"}}, random_numbers)
        else:
            plain = mutated({"hello": {"hostname": "x", "addresses": {"lo": "127.0.0.1"}}}, random_numbers)
        yield broken(dumps(plain).encode(), random_numbers)


async def send_malformed_lines(count: int) -> dict[str, int]:
    """Send ``count`` malformed lines through a link, its listeners, the event log, the state and the narration. Returns counts."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("frames", "heard", "refused", "tracebacks", "control characters"), 0)
    ears = Ears()
    state = State()

    def on_event(event: Event) -> None:
        nonlocal state
        counts["heard"] += 1
        state = reduce(state, dataclasses.replace(event, at=float(counts["frames"])))
        ears.hear(event)
        counts["control characters"] += sum(len(unseen(line)) for line in ears.take())

    def read(frame: Any) -> None:
        if isinstance(frame, dict):
            with contextlib.suppress(FrameRefused):
                read_frame(frame)

    def link() -> Link:
        made = Link(NodeSpec("n0"), None, on_event)  # type: ignore[arg-type]  # a test double
        made.on_frame(inbox.on_frame)
        made.on_frame(read)
        made._on_line(b'{"hello": {"hostname": "x"}}')
        made._pending = {number: asyncio.get_running_loop().create_future() for number in (1, 2)}
        for future in made._pending.values():
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # these answers are not awaited
        return made

    inbox = FrameQueue()
    inbox.gen = 1
    node = link()
    for line in malformed_lines(random_numbers):
        if counts["frames"] == count:
            break
        counts["frames"] += 1
        try:
            try:
                node._on_line(line)
            except ValueError:  # the link is closed and opened again
                counts["refused"] += 1
                inbox = FrameQueue()
                inbox.gen = 1
                node = link()
            for event in parse_events([line], "n0", "r"):
                on_event(event)
            if counts["frames"] % 5_000 == 0:
                state = State()
        except Exception as error:
            print(f"seed {SEED}, frame {counts['frames']}: {error!r}: {line[:300]!r}")
            counts["tracebacks"] += 1
    for future in node._pending.values():
        future.cancel()
    print(f"broken frames, seed {SEED}: {counts}")
    return counts


async def test_broken_frames_end_in_an_event_or_a_refusal() -> None:
    counts = await send_malformed_lines(2_000)
    assert (counts["tracebacks"], counts["control characters"]) == (0, 0)
    assert min(counts["heard"], counts["refused"]) > 100


@pytest.mark.slow
async def test_a_hundred_thousand_broken_frames_end_in_an_event_or_a_refusal() -> None:
    counts = await send_malformed_lines(100_000)
    assert (counts["frames"], counts["tracebacks"], counts["control characters"]) == (100_000, 0, 0)


FACTS = {
    "run_id": "20260101-0000-abcdef",
    "workload": "digits-cnn",
    "policies": ["equal"],
    "nodes": ["n0", "n1"],
    "started": 1.0,
    "is_launched": True,
    "is_alive": False,
    "is_full": False,
    "exit": {"state": "failed", "reason": "x", "rank": 1, "failed_node": "n1", "survivors": [1]},
    "step": 7,
    "epoch": 1,
    "holder": "me",
}


class MalformedFleet:
    """A fleet of one node with a malformed list of runs."""

    def __init__(self, runs: Any) -> None:
        self._runs = runs

    async def link(self, name: str, patience: float) -> MalformedFleet:
        return self

    async def ask(self, word: str) -> dict[str, Any]:
        return {"runs": self._runs}


async def test_of_a_malformed_list_of_runs_the_valid_part_is_read(tmp_path: Path) -> None:
    random_numbers = random.Random(SEED)
    names = ("..", "../../x", ".", "a/b", "/etc", "x", FACTS["run_id"])
    for _ in range(500):
        rows = [mutated(FACTS, random_numbers) | {"run_id": random_numbers.choice(names)}, random_numbers.choice(VALUES)]
        copied = tmp_path / "x" / "nodes" / "n1"
        copied.mkdir(parents=True, exist_ok=True)
        for name in ("plan.json", "exit.json"):
            (copied / name).write_bytes(broken(dumps(mutated(FACTS["exit"], random_numbers)).encode(), random_numbers))
        for row in await list_runs(MalformedFleet(random_numbers.choice((rows, None, {}, 7))), tmp_path, ["n0"]):  # type: ignore[arg-type]  # a test double
            assert row["run_id"] in ("x", FACTS["run_id"])
            assert row["state"] in ("starting", "running", "done", "failed", "cancelled", "unreachable")
            assert unseen(render({"type": "jobs", "runs": [row]}).replace("\n", "")) == []


def derive_many(count: int, runs: Path) -> dict[str, int]:
    """Derive the results of ``count`` runs with malformed files. Returns counts of results and errors."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("runs", "derived", "refused", "control characters", "tracebacks"), 0)
    ranks = [f"n{rank}" for rank in range(4)]
    nodes = tuple(NodePlan(name, i, (i,), "127.0.0.1", "lo", "python3") for i, name in enumerate(ranks))
    devices = tuple(RankPlan(i, name, i, 0, 0, "emulated", f"device {i}") for i, name in enumerate(ranks))
    cases = tuple(CasePlan(name, name) for name in ("equal", "hybrid"))
    plan = Plan("r", "digits-cnn", cases, nodes, devices, DataPlan("0" * 16, "made up", 1437, "0" * 64), 8, 384, is_bench=True)
    rank_events = [event for event in story.healthy() if isinstance(event, RankEvent)]
    for number in range(count):
        counts["runs"] += 1
        run = runs / str(number)
        for i, name in enumerate(ranks):
            (run / "nodes" / name / "ranks").mkdir(parents=True)
            plain = to_plain(dataclasses.replace(plan, is_bench=number % 2 == 0))
            plain = mutated(plain, random_numbers) if random_numbers.random() < 0.1 else plain
            (run / "nodes" / name / "plan.json").write_text(dumps(plain))
            lines = [encode(event).encode() for event in rank_events if event.rank == i]
            for at in random_numbers.sample(range(len(lines)), len(lines) // 50):
                lines[at] = dumps(mutated(json.loads(lines[at]), random_numbers)).encode()
            (run / "nodes" / name / "ranks" / f"{i}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
            ended = mutated({"state": "done", "reason": "", "rank": None}, random_numbers) if number % 3 else {"state": "done"}
            (run / "nodes" / name / "exit.json").write_text(dumps(ended))
        directory = RunMirror(runs, str(number))
        try:
            document, report = derive_result(directory)
            counts["derived"] += 1
            shown = render(document)
            counts["control characters"] += len(unseen(shown.replace("\n", ""))) + len(unseen(report.replace("\n", "")))
        except WorkFailed:
            counts["refused"] += 1
        except Exception as error:
            print(f"seed {SEED}, run {number}: {error!r}")
            counts["tracebacks"] += 1
        finally:
            directory.close()
            shutil.rmtree(run)
    print(f"results of malformed runs, seed {SEED}: {counts}")
    return counts


def test_a_result_is_derived_from_the_valid_part_or_refused_in_one_line(tmp_path: Path) -> None:
    counts = derive_many(30, tmp_path)
    assert (counts["tracebacks"], counts["control characters"]) == (0, 0)
    assert counts["derived"] > 10


def test_an_agent_cannot_speak_for_the_centre_nor_a_rank_for_the_run() -> None:
    lines = [encode(kind()).encode() for kind in EVENTS.values()]
    kinds = {type(event).__name__ for line in lines for event in parse_events([line], "n0", "r")}
    assert not kinds & {
        "InventoryRead",
        "Ticked",
        "NodeConnected",
        "NodeReported",
        "RunPlanned",
        "RunEnded",
        "ResultDerived",
        "RunListed",
    }
    assert {"StepsTaken", "RunnerEnded", "ReadingsRecorded", "PeerLost"} <= kinds


def test_an_agent_answers_after_any_number_of_broken_requests(tmp_path: Path) -> None:
    random_numbers = random.Random(SEED)
    requests = ("list_runs", "stat_files", "follow", "cancel", "connect_peers", "list_files", "read_file", "checksum")
    words = (*requests, "list_storage", "remove_stored", "take_lease", *VALUES)
    asked = []
    for _ in range(400):
        plain = {"id": 1, "ask": random_numbers.choice(words), "run_id": "r", "name": "x", "offset": 0, "things": [{"kind": "x"}]}
        asked.append(broken(dumps(mutated(plain, random_numbers)).encode(), random_numbers).replace(b"\n", b" "))
    last = b'{"id": 77, "ask": "runs"}'
    command = [sys.executable, "-m", "paceline.engine.agent", str(tmp_path / "root"), "n0"]
    setup = b'{"setup": {"interval": 1000}}'
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(b"\n".join([setup, *asked, last]) + b"\n")
        agent.stdin.flush()
        answers = (json.loads(line) for line in agent.stdout)
        assert next(answer for answer in answers if answer.get("id") == 77) == {"id": 77, "answer": {"runs": []}}
        agent.stdin.close()
        agent.stdout.read()
    assert agent.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


async def test_a_runner_accepts_its_peers_after_any_number_of_strangers(tmp_path: Path) -> None:
    random_numbers = random.Random(SEED)
    heard: list[Any] = []
    strangers: list[str] = []
    certificates = make_certificates("a run", ["n0", "n1"])
    meshes = [
        PeerMesh(
            node,
            certificates,
            Identity(tmp_path / node, own),
            lambda *said: heard.append(said),
            lambda *who: strangers.append(who[0]),
        )
        for node, own in certificates.items()
    ]
    ports = [mesh.listen("127.0.0.1") for mesh in meshes]
    for line in itertools.islice(malformed_lines(random_numbers), 100):
        _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(line + b"\n")
        writer.close()
    await until(lambda: len(strangers) == 100)
    for mesh in meshes:
        mesh.introduce({node: ["127.0.0.1", port] for node, port in zip(certificates, ports, strict=True)})
    await asyncio.gather(meshes[0].join([], 60.0), meshes[1].join(["n0"], 60.0))
    assert heard == []
    for mesh in meshes:
        await mesh.close()
