"""The notice when a run ends: one command, once, told what happened, and never in the way."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paceline.engine.agent.system.processes import boot_id, is_alive, start_time
from paceline.engine.errors import UsageError, WorkFailed
from paceline.engine.events import Event, RunEnded, Warned
from paceline.engine.jobs.runs.on_end_hook import run_hook, shell_command, with_on_end_hook

from tests.support.waiting import until


class Stream:
    """Events in, events out."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self.heard: list[Event] = []
        self.run_id: str | None = "r1"

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def publish(self, event: Event) -> None:
        self.heard.append(event)
        for listener in tuple(self.listeners):
            listener(event)


@pytest.fixture
def told(tmp_path: Path) -> tuple[str, Path]:
    """A command that writes down its environment, and where."""
    path = tmp_path / "told"
    program = f"import os; open({str(path)!r}, 'a').write(repr([os.environ[f'PACELINE_{{k}}'] for k in ('RUN','STATE','REASON')]))"
    return shlex.join([sys.executable, "-c", program]), path


async def test_the_command_runs_once_with_run_state_and_reason_in_its_environment(told: tuple[str, Path]) -> None:
    command, path = told
    stream = Stream()
    async with with_on_end_hook(stream, command):
        stream.publish(RunEnded(run_id="r1", state="failed", reason="rank 1: $(touch /x) `id` \x1b[31m\n"))
        assert not path.exists()
    assert path.read_text() == repr(["r1", "failed", "rank 1: $(touch /x) `id`  [31m "])
    assert stream.listeners == []


async def test_it_is_run_after_a_verb_that_failed_with_its_run(told: tuple[str, Path]) -> None:
    stream = Stream()

    async def fail() -> None:
        async with with_on_end_hook(stream, told[0]):
            stream.publish(RunEnded(run_id="r1", state="failed"))
            raise WorkFailed("no result")

    with pytest.raises(WorkFailed):
        await fail()
    assert told[1].exists()


async def test_a_profiling_that_ended_before_the_launch_is_no_end(told: tuple[str, Path]) -> None:
    stream = Stream()
    for run_id in (None, "r2"):  # refused before it was launched; launched and lost sight of
        async with with_on_end_hook(stream, told[0]):
            stream.publish(RunEnded(run_id="r1", state="done"))
            stream.run_id = run_id
    assert not told[1].exists()


async def test_without_an_end_the_command_does_not_run(told: tuple[str, Path]) -> None:
    async with with_on_end_hook(Stream(), told[0]):
        pass
    assert not told[1].exists()


@pytest.mark.parametrize(("command", "said"), [("/nowhere/it", "no such command"), (f"{sys.executable} -c 'exit(3)'", "status 3")])
async def test_a_command_that_fails_is_one_line(command: str, said: str) -> None:
    stream = Stream()
    async with with_on_end_hook(stream, command):
        stream.publish(RunEnded(run_id="r1"))
    (line,) = [event.reason for event in stream.heard if isinstance(event, Warned)]
    assert said in line


async def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    program = f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600"
    trouble = await run_hook(["/bin/sh", "-c", program], RunEnded(run_id="r1"), timeout_s=1.0)
    assert trouble == "killed after 1 s"
    child = int((tmp_path / "pid").read_text())

    def has_ended() -> bool:
        started = start_time(child)
        return started is None or not is_alive(child, boot_id(), started)

    await until(has_ended)


@pytest.mark.parametrize("command", ["", "   ", "'open"])
def test_a_command_that_cannot_be_read_is_a_usage_error(command: str) -> None:
    with pytest.raises(UsageError):
        shell_command(command)


async def test_the_command_may_use_the_syntax_of_a_shell(tmp_path: Path) -> None:
    stream = Stream()
    line = f"echo $PACELINE_STATE > {tmp_path}/a && cat < {tmp_path}/a | tr a-z A-Z >> {tmp_path}/b; X=1 true"
    async with with_on_end_hook(stream, line):
        stream.publish(RunEnded(run_id="r1", state="failed", reason="`touch {tmp_path}/evil`; $(exit 3)"))
    assert (tmp_path / "b").read_text() == "FAILED\n"
    assert [event.reason for event in stream.heard if isinstance(event, Warned)] == []
