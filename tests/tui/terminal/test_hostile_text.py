"""Hostile text from nodes: it cannot control the terminal, crash the program or look like something else."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.events import NodeDenied, NodeLost, NodeWarned, RankFailed, RunEnded
from paceline.tui.command_line.log_printer import log_line
from paceline.tui.command_line.render import render
from paceline.tui.terminal.format import clock, sanitize
from rich.cells import cell_len

from tests.support.screens.hostile import Ears, text, unseen

SEED = 20261121
LONGEST = 500
"""Longest text that is shown, in characters."""


# Lines --------------------------------------------------------------------------------------------------------------------------


RUN: dict[str, Any] = {
    **dict.fromkeys(("run_id", "name", "state", "workload", "metric_name"), "X"),
    **dict.fromkeys(("started", "step", "seconds", "samples_per_second", "loss", "metric")),
    "nodes": ["X", "X"],
    "policies": ["X"],
}
"""A row of ``jobs``."""
DOCUMENTS: dict[str, dict[str, Any]] = {
    "status": {
        "nodes": [
            {"name": "X", "state": "lost", "reason": "X", "hint": "X", "warnings": [], "devices": []},
            {
                "name": "X",
                "state": "ok",
                "reason": None,
                "hint": None,
                "warnings": ["X"],
                "devices": [
                    dict.fromkeys(("index", "name", "kind", "holder", "holder_user", "error"), "X")
                    | dict.fromkeys(("utilization", "memory_used", "memory_total")),
                    dict.fromkeys(("index", "name", "kind", "holder", "holder_user"), "X")
                    | dict.fromkeys(("utilization", "memory_used", "memory_total", "error")),
                ],
            },
        ],
        "warnings": ["X"],
    },
    "jobs": {"runs": [RUN]},
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
    "replay": {
        "recording": "X",
        "events": 1,
        "length": 2.0,
        "marks": [{"at": 1.0, "kind": "alert", "text": "X", "run_id": None}],
        "result": None,
    },
}
"""Documents of verbs, with an X for every text that comes from a node, a file or a person."""


def with_words(value: Any, words: str) -> Any:
    """The document with every X replaced by ``words``."""
    if isinstance(value, dict):
        return {key: with_words(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [with_words(item, words) for item in value]
    return words if value == "X" else value


def show_lines(count: int) -> dict[str, int]:
    """Print ``count`` hostile texts in every way; counts the faults of the output."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("lines", "control characters", "too long", "broken lines", "tracebacks"), 0)
    for number in range(count):
        words, ears = (
            text(random_numbers),
            Ears(),
        )  # a new narrator each time, because one does not repeat the reason of a lost node
        counts["lines"] += 1
        try:
            shown_words = [sanitize(words)]
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
            shown_words += render({"type": verb, **with_words(document, words)}).split("\n")
            counts["broken lines"] += len(shown_words) > 10
        except Exception as error:
            print(f"seed {SEED}, line {number}: {error!r}")
            counts["tracebacks"] += 1
            continue
        counts["control characters"] += sum(len(unseen(one)) for one in shown_words)
        counts["too long"] += len(shown_words[0]) > LONGEST or cell_len(shown_words[0]) > 2 * LONGEST
    print(f"hostile lines, seed {SEED}: {counts}")
    return counts


def test_hostile_lines_are_printed_harmlessly() -> None:
    counts = show_lines(2_000)
    assert sum(counts.values()) == counts["lines"]


@pytest.mark.slow
def test_a_hundred_thousand_hostile_lines_are_printed_harmlessly() -> None:
    counts = show_lines(100_000)
    assert sum(counts.values()) == counts["lines"] == 100_000


@pytest.mark.parametrize("at", [1e308, -1e308, 2.0**53, 253402300800.0, -1e15, float("nan"), None])
def test_a_time_outside_the_calendar_is_unknown(at: float | None) -> None:
    run = {**RUN, "state": "done", "started": at, "seconds": 1.0, "samples_per_second": 1.0, "loss": 0.1, "metric": 0.5}
    assert "—" in render({"type": "jobs", "runs": [run]})
    assert clock(at) == "--:--:--"
    assert log_line("n0", None, at, "x", False) == "n0  x"


def test_a_long_text_is_truncated_with_an_ellipsis() -> None:
    assert sanitize("y" * 501) == "y" * 499 + "…"
    assert sanitize("\u200b" * 10_000 + "x" * 600).endswith("…")
    assert sanitize("語" * 600) == "語" * 499 + "…"


@pytest.mark.parametrize(
    "words", [("cancel", "\x1b[31m\u202e\x07"), ("\x1b]0;x\x07",), ("--only", "\x9b31m"), ("replay", "/\x1b[2J")]
)
def test_an_error_on_the_command_line_contains_no_control_characters(words: tuple[str, ...], tmp_path: Path) -> None:
    node = '[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0, memory = "1GiB" }]\n'
    (tmp_path / "nodes.toml").write_text(node)
    command = [sys.executable, "-m", "paceline.tui", "--batch", *words]
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    for stream in (ended.stdout, ended.stderr):
        assert unseen(stream.decode().replace("\n", "")) == []
    assert ended.returncode not in (0, -6)
    assert b"Traceback" not in ended.stderr
