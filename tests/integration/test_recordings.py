"""The recordings that the project keeps: readable by every version, and shown with no cluster and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paceline.engine.events import ResultDerived, RunPlanned
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.messages import View
from paceline.tui.views.results.table import result_runs

from tests.support.places import CHECKOUT

KEPT = sorted((CHECKOUT / "data" / "demo").glob("*.jsonl"))
QUIET_REPLAY = """
import sys
from paceline.tui.command_line.cli import main
status = main(["--batch", "--json", "replay", sys.argv[1]])
heavy = {"torch", "asyncssh", "textual", "pandas"} & set(sys.modules)
sys.exit(status or f"imported: {heavy}" if heavy else status)
"""


def test_there_is_a_recording_of_the_embedded_lab() -> None:
    assert [path.name for path in KEPT] == ["reference-lab.jsonl"]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_recording_is_whole_and_says_that_it_is_emulated(path: Path) -> None:
    recording = Recording(path)
    events = list(recording)
    assert (recording.unknown, recording.is_cut) == ({}, False)
    state = State()
    for event in events:
        state = reduce(state, event)
    run = state.run
    assert run is not None
    assert (run.state, run.is_emulated, state.unknown) == ("done", True, 0)
    assert {event.is_emulated for event in events if isinstance(event, RunPlanned)} == {True}
    assert {event.document["emulated"] for event in events if isinstance(event, ResultDerived)} == {True}
    assert state.profiles["digits-cnn"]["emulated"] is True
    shown = result_runs(View(state))
    assert shown == [run.run_id], "a profiling has no place among the results"


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_recording_names_no_machine_and_no_path_of_one(path: Path) -> None:
    text = path.read_text()
    assert not [root for root in ("/home/", "/root/", "/tmp/", "/Users/") if root in text]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_replay_needs_no_cluster_and_no_torch(path: Path) -> None:
    command = [sys.executable, "-c", QUIET_REPLAY, str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["cases"]) == 4
