"""No phase of a link waits for ever on a node that stops answering, and no line that a node can say breaks anything."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paceline.engine.errors import NodeUnreachable, PacelineError
from paceline.engine.events import Event, NodeConnected
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh import embedded, link, sftp, upload
from paceline.engine.ssh.bundle import bundle
from paceline.engine.ssh.embedded import EmbeddedNode
from paceline.engine.ssh.flood import Allowance, FloodGate
from paceline.engine.ssh.link import Link, start_command

from tests.support.waiting import loop_turns, until


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    served = EmbeddedNode(tmp_path / "demo1", asyncssh.generate_private_key("ssh-ed25519"))
    await served.start()
    yield served
    await served.close()


async def opened(node: EmbeddedNode, **what: Any) -> Link:
    return await Link.open(NodeSpec("demo1", kind="embedded", **what), node, lambda event: None)


def stand_in(tmp_path: Path, script: str) -> str:
    """A program in the place of Python."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return str(python)


async def test_an_agent_that_never_says_hello_times_out(
    node: EmbeddedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HELLO_TIMEOUT", 0.5)
    with pytest.raises(NodeUnreachable, match="demo1: no hello from the agent"):
        await opened(node, python=stand_in(tmp_path, "echo Welcome; exec sleep 600"))


async def test_a_start_command_that_never_ends_times_out(node: EmbeddedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HELLO_TIMEOUT", 0.5)
    monkeypatch.setattr(link, "start_command", lambda *_: "echo paceline home /; echo paceline bundle missing; sleep 600")
    with pytest.raises(NodeUnreachable, match="demo1: no hello from the agent"):
        await opened(node)


async def test_an_sftp_channel_that_never_opens_times_out(node: EmbeddedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(sftp, "SFTP_TIMEOUT", 0.1)
    monkeypatch.setattr(asyncssh.SSHClientConnection, "start_sftp_client", never)
    with pytest.raises(NodeUnreachable, match="demo1: no SFTP channel: no answer within"):
        await opened(node)


@pytest.mark.parametrize("phase", ["stat", "mkdir", "open", "write", "close", "posix_rename"])
async def test_an_sftp_request_without_an_answer_times_out(node: EmbeddedNode, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(upload, "STALL_TIMEOUT", 0.3)
    monkeypatch.setattr(upload, "CLEANUP_TIMEOUT", 0.1)
    monkeypatch.setattr(embedded._HomeSFTP, phase, never)
    with pytest.raises(NodeUnreachable, match=r"demo1: .*no block was accepted"):
        await opened(node)


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_slow_upload_does_not_time_out_while_it_makes_progress(monkeypatch: pytest.MonkeyPatch, goes_on: bool) -> None:
    loop = asyncio.get_running_loop()
    real, late = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + late)

    async def write_slowly() -> None:
        nonlocal late
        async with upload._uploading(None, "demo1", "/far/away", 1) as went_on:  # type: ignore[arg-type]  # a test double
            for _ in range(20):
                late += 0.8 * upload.STALL_TIMEOUT
                if goes_on:
                    went_on()
                await loop_turns(2)

    if goes_on:
        await write_slowly()
    else:
        with pytest.raises(NodeUnreachable, match="demo1: /far/away could not be written"):
            await write_slowly()


async def test_a_bundle_that_exists_on_the_node_needs_no_sftp_channel(node: EmbeddedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await opened(node)
    await first.close()

    async def refuse(*_: object) -> None:
        raise AssertionError("a channel for files was opened")

    monkeypatch.setattr(asyncssh.SSHClientConnection, "start_sftp_client", refuse)
    again = await opened(node)
    assert (again.home, again.root) == (str(node.directory), str(node.directory))
    assert again.bundle == f"{again.root}/bundles/{bundle().name}"
    await again.close()


@pytest.mark.parametrize("root", ["~", "~/it's here/$HOME `x`", "/srv/a b;c"])
def test_the_start_command_quotes_whatever_a_path_holds(tmp_path: Path, root: str) -> None:
    python = stand_in(tmp_path, 'printf "%s\\n" "$@"')
    home = tmp_path / 'ho"me \\n'
    place = Path(root.replace("~", str(home), 1) if root.startswith("~") else f"{tmp_path}{root}")
    (place / "bundles").mkdir(parents=True)
    given = root if root.startswith("~") else str(place)
    command = start_command(given, python, "n1", "x.zip")
    here = home if home.exists() else tmp_path
    env = {**os.environ, "HOME": str(here)}
    missing = subprocess.run(["sh", "-c", command], cwd="/", env=env, capture_output=True, text=True)
    assert missing.stdout.splitlines() == [f"paceline home {here}", "paceline bundle missing"]
    (place / "bundles" / "x.zip").touch()
    found = subprocess.run(["sh", "-c", command], cwd="/", env=env, capture_output=True, text=True)
    assert found.stdout.splitlines() == [f"paceline home {here}", "-m", "paceline.engine.agent", str(place), "n1"]
    command = start_command(given, python, "n1", "x.zip", is_embedded=True)
    found = subprocess.run(["sh", "-c", command], cwd=here, env={**env, "HOME": "/"}, capture_output=True, text=True)
    assert found.stdout.splitlines()[0] == f"paceline home {here}", "the directory of an embedded node is its home"


HELLO = b'{"hello": {"hostname": "a"}}'
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
MESSAGE = st.dictionaries(
    st.sampled_from(["kind", "hello", "id", "answer", "error", "node", "run_id", "devices", "addresses", "at", "reason"]),
    ANYTHING
    | st.sampled_from(["NodeReported", "NodeWarned", "RunEnded", "NodeLost", 1, {"addresses": {"lo": []}}, {"type": "errors"}]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MESSAGE, max_size=8), st.booleans())
def test_any_message_of_an_agent_is_handled_or_ends_its_own_link(messages: list[dict[str, Any]], has_spoken: bool) -> None:
    async def listen() -> None:
        heard: list[Event] = []
        made = Link(NodeSpec("demo1"), None, heard.append)  # type: ignore[arg-type]  # a test double
        asking = asyncio.get_running_loop().create_future()
        made._pending[1] = asking
        for line in [HELLO] * has_spoken + [json.dumps(message).encode() for message in messages]:
            try:
                made._on_line(line)
            except ValueError:
                break
        assert all(event.node == "demo1" and isinstance(event, (NodeConnected, *link.AGENT_EVENTS)) for event in heard)
        assert all(isinstance(event, NodeConnected) == (number == 0) for number, event in enumerate(heard))
        if asking.done() and asking.exception() is not None:
            assert isinstance(asking.exception(), PacelineError)

    asyncio.run(listen())


async def test_broken_lines_end_their_own_link_with_a_reason(node: EmbeddedNode, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rnd = random.Random(seed)
    for number in range(8):
        noise = tmp_path / f"noise{number}"
        noise.write_bytes(HELLO + b"\n" + bytes(rnd.randrange(256) for _ in range(5000)) + b"\n")
        broken = await opened(node, python=stand_in(tmp_path, f"cat {noise}; exec sleep 600"))
        assert "invalid output" in await broken.lost
        await broken.close()


async def test_a_question_without_an_answer_ends_and_the_next_one_waits_less(
    node: EmbeddedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ASK_TIMEOUT", 0.2)
    monkeypatch.setattr(link, "SILENT_AFTER", 0.1)
    monkeypatch.setattr(link, "SILENT_TIMEOUT", 0.05)
    mute = await opened(node, python=stand_in(tmp_path, f"echo '{HELLO.decode()}'; exec sleep 600"))
    with pytest.raises(NodeUnreachable, match=r"demo1: no answer to 'list_runs' for 0.2 s"):
        await mute.ask("list_runs")
    with pytest.raises(NodeUnreachable, match=r"demo1: no answer to 'list_runs' for 0.05 s"):
        await mute.ask("list_runs")
    mute._on_line(b'{"id": 2, "answer": {}}')
    with pytest.raises(NodeUnreachable, match=r"demo1: no answer to 'list_runs' for 0.05 s"):
        await mute.ask("list_runs")
    await mute.close()


async def test_an_agent_that_neither_reports_nor_answers_counts_as_lost(
    node: EmbeddedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WATCH_INTERVAL", 0.05)
    mute = await opened(node, python=stand_in(tmp_path, f"echo '{HELLO.decode()}'; exec sleep 600"))
    assert "its agent does not answer" in await mute.lost
    await mute.close()


async def test_an_agent_that_answers_but_reports_nothing_stays(
    node: EmbeddedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WATCH_INTERVAL", 0.1)
    answer = '*read_clock*) echo "{\\"id\\":${id%%,*},\\"answer\\":{}}";;'
    asked = f'while read line; do id=${{line#*\\"id\\":}}; case $line in {answer} esac; done'
    busy = await opened(node, python=stand_in(tmp_path, f"echo '{HELLO.decode()}'; {asked}"))
    before = busy._answers_heard
    await until(lambda: busy._answers_heard > before + 2)  # it was asked whether it lives, and answered, more than once
    assert not busy.lost.done()
    await busy.close()


async def test_noise_before_the_hello_is_bounded(node: EmbeddedNode, tmp_path: Path) -> None:
    with pytest.raises(NodeUnreachable, match="more than 1 MiB before the agent started"):
        await opened(node, python=stand_in(tmp_path, "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"))


async def test_readings_and_warnings_beyond_their_allowance_are_dropped_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "WATCH_INTERVAL", 0.01)
    heard: list[Event] = []
    made = Link(NodeSpec("demo1"), None, heard.append)  # type: ignore[arg-type]  # a test double
    made._on_line(HELLO)
    for number in range(1000):
        made._on_line(b'{"kind": "NodeReported"}')
        made._on_line(b'{"kind": "NodeWarned", "reason": "%d"}' % number)
    kinds = [type(event).__name__ for event in heard]
    assert kinds.count("NodeReported") <= 40
    assert kinds.count("NodeWarned") <= 40
    heard.clear()
    watching = asyncio.ensure_future(made._watch())
    while not heard:
        await asyncio.sleep(0.01)
    watching.cancel()
    assert "sends more than is read" in heard[0].reason  # type: ignore[attr-defined]  # the first event is a warning
    assert heard[0].hint == f"{made._gate.dropped} lines so far"  # type: ignore[attr-defined]  # the first event is a warning


def test_an_allowance_fills_with_time_up_to_its_burst() -> None:
    bucket = Allowance(rate=2.0, burst=3.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(11.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(50.0), "a clock that goes back gives nothing"


def test_a_node_that_floods_is_read_a_part_of_the_time() -> None:
    gate = FloodGate(1.0)
    assert gate.rest(0.01, 0.0) == 0.0
    while gate.admits("other", 5.0):
        pass
    assert gate.rest(0.01, 5.1) == pytest.approx(0.03)
    assert gate.rest(0.01, 7.0) == 0.0
    assert (gate.report_due(5.0), gate.report_due(6.0)) == (1, 0)
