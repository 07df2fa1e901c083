"""Random run directories beside a good run: every question is answered, and about the good one as ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import PacelineError
from paceline.engine.wire import dumps

from tests.support.ssh.hostile_nodes import write_run

GOOD = "20260101-0000-aaaaaa"
ANSWER_LIMIT_S = 30.0
"""Seconds after which a question counts as hanging; it takes milliseconds."""
NAMES: tuple[str, ...] = (
    "start.json",
    "spec.json",
    "plan.json",
    "exit.json",
    "lease.json",
    "events.jsonl",
    "out.log",
    "ranks/0.jsonl",
    "ranks",
)
NAMES += ("sessions.json", "members.jsonl", ".copies.json", "private", "private/socket", "private/temporary", "ranks/x", "a\udcffb")
QUESTIONS = ("list_runs", "stat_files", "read_plan", "list_files", "list_storage", "list_checkpoints", "take_lease")


class Draw:
    """Random contents and kinds of file."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """A JSON value of any type, with figures that are wild."""
        draw = self.random
        if depth < 3 and draw.random() < 0.4:
            if draw.random() < 0.5:
                return [self.value(depth + 1) for _ in range(draw.randrange(4))]
            keys = ("pid", "boot_id", "start_time", "nodes", "name", "epoch", "state", "data", "exit", "kind", "step", "session")
            return {draw.choice(keys): self.value(depth + 1) for _ in range(draw.randrange(5))}
        figures = (0, 1, -1, os.getpid(), 1 << 70, -(1 << 70), 0.5, float("nan"), float("inf"), 10**400)
        return draw.choice((None, True, "", "x", "\udcff", "a" * 5000, "../../etc", "done", "\x1b[2J", *figures))

    def content(self) -> bytes:
        """Bytes of a file: JSON, some of it damaged, or noise."""
        draw = self.random
        kind = draw.randrange(7)
        if kind == 0:
            return draw.randbytes(draw.randrange(3000))
        if kind == 1:
            return b"[" * draw.choice((10, 5000, 200_000))
        if kind == 2:
            return b'{"kind": "StepsTaken", "step": ' * draw.randrange(9) + b"\n\x00\xff\n"
        lines = b"\n".join(json.dumps(self.value()).encode() for _ in range(draw.randrange(1, 4)))
        if kind == 3:
            return lines[: draw.randrange(len(lines) + 1)]
        return lines if kind == 4 else lines + b"\n"

    def spoil(self, path: Path) -> None:
        """Put something else in the place of a file."""
        draw = self.random
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError, ValueError):
            path.parent.mkdir(parents=True, exist_ok=True)
            match draw.randrange(10):
                case 0:
                    path.mkdir()
                    (path / "deep").mkdir()
                case 1:
                    os.mkfifo(path)
                case 2:
                    path.symlink_to(
                        draw.choice((".", "..", "nowhere", path.name, "/dev/zero", "/dev/full", "/proc/self/mem", "/etc/passwd"))
                    )
                case 3:
                    with socket.socket(socket.AF_UNIX) as listener:
                        listener.bind(str(path))
                case 4:
                    with path.open("wb") as file:
                        file.truncate(draw.choice((1 << 20, 16 << 30)))
                case 5:
                    path.write_bytes(self.content())
                    path.chmod(draw.choice((0, 0o111, 0o4777)))
                case 6:
                    pass
                case _:
                    path.write_bytes(self.content())


async def nobody(frame: dict[str, Any]) -> None:
    """Frames go nowhere."""


async def answers_beside(seed: int, place: Path, *more: str) -> None:
    """Spoil a run by a seed, and ask everything about it and about the good one beside it; ``more``: dearer questions."""
    draw = Draw(seed)
    home = StateDir(place / "n0", "n0")
    write_run(home.runs / GOOD, ("n0",), 0, None)
    odd = home.runs / "20260101-0001-bbbbbb"
    write_run(odd, ("n0",), 0, None)
    for name in draw.random.sample(NAMES, draw.random.randrange(1, 6)):
        draw.spoil(odd / name)

    async def ask(word: str, run_id: str) -> Any:
        body = {"run_id": run_id, "epoch": 1, "holder": "x"}
        async with asyncio.timeout(ANSWER_LIMIT_S):
            try:
                answer = await REQUESTS[word](home, body, nobody)
            except PacelineError as error:
                return str(error)
        return json.loads(dumps(answer))

    usual = [row for row in (await ask("list_runs", GOOD))["runs"] if row["run_id"] == GOOD]
    assert usual[0]["exit"]["state"] == "done"
    for word in (*QUESTIONS, *more):
        with contextlib.suppress(OSError):  # the agent answers with its text
            await ask(word, odd.name)
    assert [row for row in (await ask("list_runs", GOOD))["runs"] if row["run_id"] == GOOD] == usual
    assert (await ask("read_plan", GOOD))["plan"]["run_id"] == GOOD
    assert "exit.json" in (await ask("stat_files", GOOD))["files"]
    assert any(entry["name"] == "exit.json" for entry in (await ask("list_files", GOOD))["entries"])


async def test_random_directories_hide_only_themselves(tmp_path: Path, seed: int) -> None:
    for number in range(12):
        with_seed = seed + number
        try:
            await answers_beside(with_seed, tmp_path / str(number))
        except Exception as error:
            raise AssertionError(f"seed {with_seed}") from error


@pytest.mark.slow
async def test_two_hundred_random_directories_hide_only_themselves(tmp_path: Path) -> None:
    for number in range(200):
        try:
            await answers_beside(number, tmp_path / str(number), *(() if number % 20 else ("cancel",)))
        except Exception as error:
            raise AssertionError(f"seed {number}") from error
        shutil.rmtree(tmp_path / str(number))
