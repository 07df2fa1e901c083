"""One process is ended: only ours, only the one that was told, gently first; nodes that may only be read are left alone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc import process_kill
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.system.processes import start_time
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import UsageError, WorkFailed
from paceline.engine.jobs.runs.kill_process import kill
from paceline.tui.command_line.batch import exit_status

from tests.support.screens.documents import documented, paths
from tests.tui.command_line.test_cli import EMBEDDED, paceline

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


class Node:
    """A fleet of one node that answers with the agent's own functions."""

    node = "n0"

    def __init__(self, **lies: Any) -> None:
        self._lies = lies

    async def link(self, name: str, patience: float) -> Node:
        return self

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        if word in self._lies:
            return dict(self._lies[word])
        return await REQUESTS[word](StateDir(Path("/nowhere"), "n0"), body, lambda frame: asyncio.sleep(0))


async def asked(pid: int, started: int | None = None, is_agreed: bool = True, is_read_only: bool = False, **lies: Any) -> Any:
    return await kill("n0", pid, started, is_agreed, Node(**lies), is_read_only)  # type: ignore[arg-type]


async def test_a_process_is_told_and_ended_only_when_that_is_agreed(child: subprocess.Popen[bytes]) -> None:
    told = await asked(child.pid, is_agreed=False)
    assert (told["state"], told["started"], told["run_id"]) == ("running", start_time(child.pid), None)
    assert paths(told) | {"schema"} == documented("kill")
    assert child.poll() is None
    assert (await asked(child.pid, told["started"]))["state"] == "ended"
    assert child.wait() == -15


def test_who_does_not_listen_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        assert process_kill.terminate(deaf.pid, start_time(deaf.pid) or 0, grace=0.1) == "killed"
        assert deaf.wait() == -9


async def test_another_process_with_the_same_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    with pytest.raises(UsageError, match="another one has its number"):
        await asked(child.pid, started=(start_time(child.pid) or 0) - 1)
    with pytest.raises(UsageError, match="another one has its number"):
        await asked(child.pid, process={"started": 1})
    assert process_kill.terminate(child.pid, 1) == "ended"  # the one that was meant
    assert child.poll() is None


async def test_what_is_not_ours_or_carries_us_is_refused(child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (os.getpid(), os.getppid()):
        with pytest.raises(UsageError, match=r"carries this connection|not ours"):
            await asked(pid)
    for pid in (0, 1, 1 << 40):
        with pytest.raises(UsageError, match="no process"):
            await asked(pid)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(UsageError, match="and not ours"):
        await asked(child.pid)
    assert child.poll() is None


async def test_a_node_that_may_only_be_read_ends_nothing(child: subprocess.Popen[bytes]) -> None:
    assert (await asked(child.pid, is_agreed=False, is_read_only=True))["state"] == "running"
    with pytest.raises(UsageError, match="read_only of n0"):
        await asked(child.pid, is_read_only=True)
    assert child.poll() is None


async def test_a_node_that_says_nothing_of_use_is_told_so(child: subprocess.Popen[bytes]) -> None:
    for lies in ({"process": {}}, {"kill": {"state": "[b]gone"}}):
        with pytest.raises(WorkFailed):
            await asked(child.pid, **lies)


def test_a_process_that_stays_is_a_failure() -> None:
    assert (exit_status({"state": "stayed"}), exit_status({"state": "killed"}), exit_status({"state": "running"})) == (1, 0, 0)


def test_the_command_only_tells_until_it_is_told_yes(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    told = paceline("--batch", "--json", "kill", "demo1", str(child.pid), cwd=tmp_path)
    assert (told.returncode, child.poll()) == (0, None)
    started = json.loads(told.stdout)["started"]
    done = paceline("--batch", "kill", "demo1", str(child.pid), "--started", str(started), "--yes", cwd=tmp_path)
    assert (done.returncode, child.wait()) == (0, -15)
    assert "has ended" in done.stdout
