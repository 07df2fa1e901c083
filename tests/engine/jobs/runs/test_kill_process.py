"""The verb kill: only a process of the same user and only the one described, SIGTERM first, never on a read_only node."""

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

IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"


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


async def run_kill(pid: int, started: int | None = None, is_agreed: bool = True, is_read_only: bool = False, **lies: Any) -> Any:
    fleet: Any = Node(**lies)
    return await kill("n0", pid, started, fleet=fleet, is_agreed=is_agreed, is_read_only=is_read_only)


async def test_a_process_is_described_and_ended_only_once_confirmed(child: subprocess.Popen[bytes]) -> None:
    document = await run_kill(child.pid, is_agreed=False)
    assert (document["state"], document["started"], document["run_id"]) == ("running", start_time(child.pid), None)
    assert paths(document) | {"schema"} == documented("kill")
    assert child.poll() is None
    assert (await run_kill(child.pid, document["started"]))["state"] == "ended"
    assert child.wait() == -15


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", IGNORES_SIGTERM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process_kill.terminate(process.pid, start_time(process.pid) or 0, grace=0.1) == "killed"
        assert process.wait() == -9


async def test_another_process_with_the_same_pid_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    with pytest.raises(UsageError, match="another process has its number"):
        await run_kill(child.pid, started=(start_time(child.pid) or 0) - 1)
    with pytest.raises(UsageError, match="another process has its number"):
        await run_kill(child.pid, describe_process={"started": 1})
    assert process_kill.terminate(child.pid, 1) == "ended"  # the one that was meant
    assert child.poll() is None


async def test_a_process_of_another_user_or_of_this_connection_is_refused(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (os.getpid(), os.getppid()):
        with pytest.raises(UsageError, match=r"carries this connection|belongs to"):
            await run_kill(pid)
    for pid in (0, 1, 1 << 40):
        with pytest.raises(UsageError, match="no process"):
            await run_kill(pid)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(UsageError, match="belongs to"):
        await run_kill(child.pid)
    assert child.poll() is None


async def test_a_read_only_node_refuses_a_kill(child: subprocess.Popen[bytes]) -> None:
    assert (await run_kill(child.pid, is_agreed=False, is_read_only=True))["state"] == "running"
    with pytest.raises(UsageError, match="n0 is read_only"):
        await run_kill(child.pid, is_read_only=True)
    assert child.poll() is None


async def test_an_invalid_answer_of_a_node_is_an_error(child: subprocess.Popen[bytes]) -> None:
    answers: list[dict[str, Any]] = [{"describe_process": {}}, {"kill": {"state": "[b]gone"}}]
    for lies in answers:
        with pytest.raises(WorkFailed):
            await run_kill(child.pid, **lies)


def test_a_process_that_stays_is_a_failure() -> None:
    assert (exit_status({"state": "stayed"}), exit_status({"state": "killed"}), exit_status({"state": "running"})) == (1, 0, 0)


@pytest.mark.slow
def test_the_command_only_describes_until_yes_is_given(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    document = paceline("--batch", "--json", "kill", "demo1", str(child.pid), cwd=tmp_path)
    assert (document.returncode, child.poll()) == (0, None)
    started = json.loads(document.stdout)["started"]
    done = paceline("--batch", "kill", "demo1", str(child.pid), "--started", str(started), "--yes", cwd=tmp_path)
    assert (done.returncode, child.wait()) == (0, -15)
    assert "has ended" in done.stdout
