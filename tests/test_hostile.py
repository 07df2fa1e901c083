"""Whatever a node says: nothing of it acts on the terminal, breaks a program of ours or passes for what it is not."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.frames import FrameRefused, read_frame
from paceline.engine.agent.mesh import Mesh, introduce
from paceline.engine.events import EVENTS, Event, NodeDenied, NodeLost, NodeWarned, RankFailed, RunEnded
from paceline.engine.jobs.derived import events_of
from paceline.engine.jobs.inbox import Inbox
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh.link import Link
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.wire import decode, dumps, encode
from paceline.tui.app import PacelineApp
from paceline.tui.format import cell_len, untrusted
from paceline.tui.narration import Narrator
from paceline.tui.render import render

from . import story
from .hostile import text, unseen
from .test_tui import MODES, screen_text, shown, until

SEED = 20261121
LONGEST = 500
"""Characters of one shown text."""


class Ears:
    """A session that a narrator listens to, whose words are kept."""

    def __init__(self) -> None:
        self.said = io.StringIO()
        self._narrator = Narrator(self.said, self._take)

    def _take(self, listener: Any) -> None:
        self.hear = listener

    def take(self) -> list[str]:
        """The lines said since the last time."""
        lines = self.said.getvalue().splitlines()
        self.said.seek(0)
        self.said.truncate()
        return lines


# Lines --------------------------------------------------------------------------------------------------------------------------


DOCUMENTS: dict[str, dict[str, Any]] = {
    "status": {
        "nodes": [
            {"name": "X", "state": "lost", "reason": "X", "devices": []},
            {
                "name": "X",
                "state": "ok",
                "reason": None,
                "devices": [
                    dict.fromkeys(("index", "name", "kind", "holder", "holder_user"), "X")
                    | {"utilization": None, "memory_used": None, "memory_total": None}
                ],
            },
        ]
    },
    "jobs": {"runs": [{"run_id": "X", "state": "X", "workload": "X", "nodes": ["X", "X"], "started": None, "step": None}]},
    "cancel": {"run_id": "X", "state": "X", "survivors": [{"node": "X", "pid": "X"}]},
    "fetch": {
        "directory": "X",
        "nodes": [{"name": "X", "reason": "X"}],
        "files": [{"node": "X", "name": "X", "state": "X", "reason": "X", "size": 1}],
    },
    "clean": {
        "removed": False,
        "bytes": 1,
        "nodes": [{"name": "X", "reason": "X"}],
        "things": [{"node": "X", "kind": "runs", "name": "X", "size": 1, "state": "kept", "reason": "X"}],
    },
    "replay": {"recording": "X", "events": 1, "result": None},
}
"""Documents as verbs give them, with an X wherever a node, a file or a person chose the words."""


def with_words(value: Any, words: str) -> Any:
    """The same with other words for every X."""
    if isinstance(value, dict):
        return {key: with_words(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [with_words(item, words) for item in value]
    return words if value == "X" else value


def show_lines(count: int) -> dict[str, int]:
    """So many hostile texts through every gate; counts of what came out."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("lines", "control characters", "too long", "broken lines", "tracebacks"), 0)
    ears = Ears()
    for number in range(count):
        words = text(random_numbers)
        counts["lines"] += 1
        try:
            shown_words = [untrusted(words)]
            for event in (
                NodeLost(node=words, reason=words),
                NodeDenied(node="n", reason=words),
                NodeWarned(node=words, reason=words, hint=words),
                RankFailed(node=words, reason=words),
                RunEnded(run_id=words, reason=words, state=words),
            )[number % 5 :][:1]:
                ears.hear(event)
                said = ears.take()
                counts["broken lines"] += len(said) != 1
                shown_words += said
            verb, document = list(DOCUMENTS.items())[number % len(DOCUMENTS)]
            shown_words += render(verb, with_words(document, words)).split("\n")
            counts["broken lines"] += len(shown_words) > 10
        except Exception as error:
            print(f"seed {SEED}, line {number}: {error!r}")
            counts["tracebacks"] += 1
            continue
        counts["control characters"] += sum(len(unseen(one)) for one in shown_words)
        counts["too long"] += len(shown_words[0]) > LONGEST or cell_len(shown_words[0]) > 2 * LONGEST
    print(f"hostile lines, seed {SEED}: {counts}")
    return counts


def test_hostile_lines_reach_the_screen_as_harmless_ones() -> None:
    counts = show_lines(2_000)
    assert sum(counts.values()) == counts["lines"]


@pytest.mark.slow
def test_a_hundred_thousand_hostile_lines_reach_the_screen_as_harmless_ones() -> None:
    counts = show_lines(100_000)
    assert sum(counts.values()) == counts["lines"] == 100_000


def test_a_long_line_is_cut_with_a_mark_and_ends_where_it_is_cut() -> None:
    assert untrusted("y" * 501) == "y" * 499 + "…"
    assert untrusted("\u200b" * 10_000 + "x" * 600).endswith("…")
    assert untrusted("語" * 600) == "語" * 499 + "…"


@pytest.mark.parametrize(
    "words", [("cancel", "\x1b[31m\u202e\x07"), ("\x1b]0;x\x07",), ("--only", "\x9b31m"), ("replay", "/\x1b[2J")]
)
def test_an_error_on_the_command_line_says_nothing_to_the_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    node = '[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0, memory = "1GiB" }]\n'
    (tmp_path / "nodes.toml").write_text(node)
    command = [sys.executable, "-m", "paceline.tui", "--batch", *words]
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    for stream in (ended.stdout, ended.stderr):
        assert unseen(stream.decode().replace("\n", "")) == []
    assert ended.returncode not in (0, -6)
    assert b"Traceback" not in ended.stderr


# Screens ------------------------------------------------------------------------------------------------------------------------


def told_by_a_stranger(value: Any, before: str) -> Any:
    """The same event or value with every text of it hostile, and equal texts still equal."""
    if isinstance(value, str):
        return before + value if value else value
    if isinstance(value, dict):
        return {key: told_by_a_stranger(item, before) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(told_by_a_stranger(item, before) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keep = ("kind", "state", "device_kind", "policy", "metric_name", "severity")  # words of ours, checked elsewhere
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name not in keep}
        return dataclasses.replace(value, **{name: told_by_a_stranger(item, before) for name, item in fields.items()})
    return value


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (160, 50)])
async def test_every_screen_draws_strangers_words_harmlessly(size: tuple[int, int]) -> None:
    before = "[red]\x1b[31m\u202e\u200b語e\u0301[/\x9b"
    events = [told_by_a_stranger(event, before) for event in (*story.healthy(), *story.trouble())]
    async with PacelineApp(story.StorySession(events)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for mode in MODES:
            await app.action_visit(mode)
            await until(pilot, lambda mode=mode: app.current_mode == mode)
            assert unseen(screen_text(app).replace("\n", "")) == []
        app.tell(before * 100)
        await app.action_visit("run")
        app.action_cancel()
        await pilot.pause()
        assert unseen(screen_text(app).replace("\n", "")) == []


async def draw_mad_sessions(count: int) -> int:
    """So many sessions in which nodes say impossible things, on every screen; how many paints held a control character."""
    random_numbers = random.Random(SEED)
    found = 0
    for _ in range(count):
        events: list[Event] = []
        for event in (*story.healthy(), *story.trouble()):
            events.append(event)
            if random_numbers.random() < 0.3:
                with contextlib.suppress(ValueError):
                    mad = decode(dumps(mutated(json.loads(encode(event)), random_numbers)))
                    events += [dataclasses.replace(mad, at=event.at)] if mad is not None else []
        async with PacelineApp(story.StorySession(events)).run_test(size=random_numbers.choice(((80, 24), (160, 50)))) as pilot:
            app = await shown(pilot)
            for mode in MODES:
                await app.action_visit(mode)
                await until(pilot, lambda mode=mode, app=app: app.current_mode == mode)
                found += unseen(screen_text(app).replace("\n", "")) != []
    print(f"sessions of nodes that lost their mind, seed {SEED}: {count}, paints with control characters: {found}")
    return found


async def test_screens_survive_what_cannot_be() -> None:
    assert await draw_mad_sessions(3) == 0


@pytest.mark.slow
async def test_screens_survive_a_hundred_sessions_of_what_cannot_be() -> None:
    assert await draw_mad_sessions(100) == 0


# Frames -------------------------------------------------------------------------------------------------------------------------


SAID = [
    *{type(event): event for event in (*story.healthy(), *story.trouble())}.values(),
    *(kind() for kind in EVENTS.values()),
]
"""One event of every kind, with values where the story has some."""
FRAME = {"run_id": "r", "gen": 1, "file": "out.log", "offset": 0, "len": 3, "crc32": 0, "data": "AAAA"}
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        -(2**63),
        10**30,
        0.0,
        -0.5,
        1e308,
        1e-320,
        "",
        "x",
        "ok",
        "done",
        "\x1b[31m\u202e",
    ),
    *([], {}, [[]], [None], {"a": 1}, [{}], ["x"] * 50, [1, 2, 3], [-1, -1, -1, -1]),
)


def mutated(plain: Any, random_numbers: random.Random) -> Any:
    """A JSON value with one or more of its parts changed, removed or exchanged."""
    plain = copy.deepcopy(plain)
    for _ in range(random_numbers.choice((1, 1, 1, 2, 3, 6))):
        place = plain
        while isinstance(place, dict | list) and place:
            key = random_numbers.choice(sorted(place)) if isinstance(place, dict) else random_numbers.randrange(len(place))
            if not isinstance(place[key], dict | list) or random_numbers.random() < 0.3:
                if random_numbers.random() < 0.1:
                    del place[key]
                else:
                    place[key] = copy.deepcopy(random_numbers.choice((*VALUES, text(random_numbers, 3))))
                break
            place = place[key]
    return plain


def broken(line: bytes, random_numbers: random.Random) -> bytes:
    """A line as a bad disk or a bad mind would send it."""
    kind = random_numbers.random()
    if kind < 0.6:
        return line
    at = random_numbers.randrange(len(line) + 1)
    if kind < 0.7:
        return line[:at]
    if kind < 0.8:
        return line[:at] + random_numbers.randbytes(random_numbers.randint(1, 8)) + line[at:]
    if kind < 0.9:
        return line[:at] + bytes([random_numbers.randrange(256)]) + line[at + 1 :]
    return random_numbers.choice(
        (b"", b"[" * 100_000, b"NaN", b"1e999", b'{"a":' * 5_000, b"null", b'"\\ud800"', b"9" * 5_000, b"\xff\xfe")
    )


def lines_of_a_node(random_numbers: random.Random) -> Iterator[bytes]:
    """Endless lines of an agent that lost its mind."""
    plains = [json.loads(encode(event)) for event in SAID]
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


async def hear_lines(count: int) -> dict[str, int]:
    """So many broken lines into a link, its listeners, the copies, the state and the narration; counts of what came of it."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("frames", "heard", "refused", "tracebacks", "control characters"), 0)
    ears = Ears()
    state = State()

    def hear(event: Event) -> None:
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
        made = Link(NodeSpec("n0"), None, hear)  # type: ignore[arg-type]
        made.on_frame(inbox.hear)
        made.on_frame(read)
        made._take(b'{"hello": {"hostname": "x"}}')
        made._waiting = {number: asyncio.get_running_loop().create_future() for number in (1, 2)}
        return made

    inbox = Inbox()
    inbox.gen = 1
    node = link()
    for line in lines_of_a_node(random_numbers):
        if counts["frames"] == count:
            break
        counts["frames"] += 1
        try:
            try:
                node._take(line)
            except ValueError:  # the link is closed and opened again
                counts["refused"] += 1
                inbox = Inbox()
                inbox.gen = 1
                node = link()
            for event in events_of([line], "n0", "r"):
                hear(event)
            if counts["frames"] % 5_000 == 0:
                state = State()
        except Exception as error:
            print(f"seed {SEED}, frame {counts['frames']}: {error!r}: {line[:300]!r}")
            counts["tracebacks"] += 1
    for future in node._waiting.values():
        future.cancel()
    print(f"broken frames, seed {SEED}: {counts}")
    return counts


async def test_broken_frames_end_in_an_event_or_a_refusal() -> None:
    counts = await hear_lines(3_000)
    assert (counts["tracebacks"], counts["control characters"]) == (0, 0)
    assert min(counts["heard"], counts["refused"]) > 100


@pytest.mark.slow
async def test_a_hundred_thousand_broken_frames_end_in_an_event_or_a_refusal() -> None:
    counts = await hear_lines(100_000)
    assert (counts["frames"], counts["tracebacks"], counts["control characters"]) == (100_000, 0, 0)


def test_an_agent_cannot_speak_for_the_centre_nor_a_rank_for_the_run() -> None:
    lines = [encode(kind()).encode() for kind in EVENTS.values()]
    kinds = {type(event).__name__ for line in lines for event in events_of([line], "n0", "r")}
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
    assert {"StepsTaken", "RunnerEnded", "ReadingsKept", "PeerLost"} <= kinds


def test_an_agent_answers_after_any_number_of_broken_requests(tmp_path: Path) -> None:
    random_numbers = random.Random(SEED)
    words = ("runs", "files", "follow", "cancel", "introduce", "listing", "read", "seal", "stored", "remove", "lease", *VALUES)
    asked = []
    for _ in range(400):
        plain = {"id": 1, "ask": random_numbers.choice(words), "run_id": "r", "name": "x", "offset": 0, "things": [{"kind": "x"}]}
        asked.append(broken(dumps(mutated(plain, random_numbers)).encode(), random_numbers).replace(b"\n", b" "))
    last = b'{"id": 77, "ask": "runs"}'
    command = [sys.executable, "-m", "paceline.engine.agent", str(tmp_path / "root"), "n0"]
    setup = b'{"setup": {"interval": 1000}}'
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        out, _ = agent.communicate(b"\n".join([setup, *asked, last]) + b"\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [line for line in answers if line.get("id") == 77] == [{"id": 77, "answer": {"runs": []}}]
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


async def test_a_runner_listens_to_its_peers_after_any_number_of_strangers() -> None:
    random_numbers = random.Random(SEED)
    heard: list[Any] = []
    mesh = Mesh("n0", "secret", lambda peer, message: heard.append(peer))
    port = await mesh.listen("127.0.0.1")
    for line in lines_of_a_node(random_numbers):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line.replace(b"secret", b"") + b"\n")
        assert await reader.read() == b""
        writer.close()
        heard.append(None)
        if len(heard) == 300:
            break
    await introduce("127.0.0.1", port, "secret", {"n0": ["127.0.0.1", port]})
    assert await mesh.peers == {"n0": ("127.0.0.1", port)}
    assert set(heard) == {None}
    await mesh.close()
