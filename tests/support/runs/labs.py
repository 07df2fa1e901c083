"""A real embedded lab in a directory of its own: real SSH, real torchrun, the real command line in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from paceline.engine.agent.system.processes import pids_of_run, start_time
from paceline.engine.protocol.json_files import read_json

from tests.support.runs.played_torchrun import python_that_plays
from tests.support.waiting import until_sync

NODE = """
[[node]]
name = "{name}"
kind = "embedded"
devices = [{{ name = "{device}", speed = {speed}, memory = "4GiB" }}]
"""


class LabDirectory:
    """Where nodes.toml, logs and data of one test lie."""

    def __init__(self, path: Path, speeds: dict[str, float]) -> None:
        self.path = path
        nodes = [NODE.format(name=f"n{i}", device=device, speed=speed) for i, (device, speed) in enumerate(speeds.items())]
        (path / "nodes.toml").write_text("".join(nodes))
        self.env = {**os.environ, "HOME": str(path)}

    def play_torchrun(self) -> None:
        """Have torchrun and the ranks of all nodes played."""
        nodes = self.path / "nodes.toml"
        kind = 'kind = "embedded"'
        nodes.write_text(nodes.read_text().replace(kind, f'{kind}\npython = "{python_that_plays(self.path)}"'))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command in the background; its narration goes to a file, so that no pipe can fill."""
        with (self.path / "narration.txt").open("a") as log:
            command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
            return subprocess.Popen(
                command, cwd=self.path, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The command to its end: status and document."""
        process = self.start(*words)
        out, _ = process.communicate()
        return process.returncode, json.loads(out) if out else {}

    def narration(self) -> str:
        """Everything written to standard error so far."""
        return (self.path / "narration.txt").read_text()

    def wait_for(self, text: str, process: subprocess.Popen[str]) -> None:
        """Wait until the narration contains the text. Fails if the process ends before."""

        def is_written() -> bool:
            has_ended = process.poll() is not None
            narration = self.narration()
            assert text in narration or not has_ended, narration
            return text in narration

        until_sync(is_written)

    def run_id(self) -> str:
        """The id of the newest run."""
        return max(path.name for path in (self.path / "logs" / "runs").iterdir() if not path.name.startswith("."))

    def node(self, name: str) -> Path:
        """The root of a node."""
        return self.path / "logs" / "nodes" / name

    def marked(self, run_id: str) -> list[int]:
        """All processes of a run, on any node, except the runners."""
        return [pid for root in (self.path / "logs" / "nodes").iterdir() for pid in pids_of_run(run_id, root)]

    def runner(self, name: str, run_id: str) -> int | None:
        """Pid of the runner, None when it is gone."""
        start = read_json(self.node(name) / "runs" / run_id / "start.json")
        return start["pid"] if start and start_time(start["pid"]) == start["start_time"] else None

    def end_runs(self) -> None:
        """Kill what a failed test left: runs outlive the process that launched them."""
        for start in (self.path / "logs" / "nodes").glob("*/runs/*/start.json"):
            self.kill_everything_of(start.parents[2].name, start.parent.name)

    def kill_everything_of(self, name: str, run_id: str) -> None:
        """Kill runner, torchrun and ranks of a node at once, as a power cut would."""
        runner = self.runner(name, run_id)
        # The runner first: it would tell its peers of the others' end. And a rank goes with its torchrun.
        for pid in [*([runner] if runner else []), *pids_of_run(run_id, self.node(name))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
