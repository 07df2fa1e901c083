"""The recordings that the project keeps: whole, labelled, of no machine, about what their session promises; shown with no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.demo.script_file import CAPTION_SCREENS, read_script
from paceline.engine.demo.sessions import SCRIPTS, SESSION_FILE, SESSIONS
from paceline.engine.events import (
    BalanceJudged,
    Captioned,
    CaseStarted,
    Event,
    GroupReformed,
    NodeConnected,
    NodeLost,
    ResultDerived,
    RunEnded,
    RunPlanned,
    SharesChanged,
    StragglerEnded,
    StragglerFound,
)
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.engine.wire import encode
from paceline.tui.messages import View
from paceline.tui.views.results.table import result_runs

from tests.support.places import CHECKOUT

KEPT = {path.stem: path for path in sorted((CHECKOUT / "data" / "demo").iterdir())}
MAX_BYTES = 1 << 20
"""Of one recording: git keeps every version."""
QUIET_REPLAY = """
import sys
from paceline.tui.command_line.cli import main
status = main(["--batch", "--json", "replay", sys.argv[1]])
heavy = {"torch", "asyncssh", "textual", "pandas"} & set(sys.modules)
sys.exit(status or f"imported: {heavy}" if heavy else status)
"""


@cache
def events_of(name: str) -> tuple[Event, ...]:
    """All events of a kept recording, which must be whole."""
    recording = Recording(KEPT[name])
    events = tuple(recording)
    assert (recording.unknown, recording.is_cut) == ({}, False)
    return events


def all_of(name: str, kind: type[Event]) -> list[Any]:
    return [event for event in events_of(name) if isinstance(event, kind)]


def test_there_is_a_recording_of_every_session_and_of_the_first_version() -> None:
    assert set(KEPT) == {*SESSIONS, "reference-lab"}
    assert [path.name for path in KEPT.values() if path.stat().st_size > MAX_BYTES] == []


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_recording_is_whole_and_says_that_it_is_emulated(name: str) -> None:
    runs, results = all_of(name, RunPlanned), all_of(name, ResultDerived)
    assert {event.is_emulated for event in runs} == {True}
    assert {event.document["emulated"] for event in results} <= {True}
    assert {event.state for event in all_of(name, RunEnded)} == {"done"}


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_recording_names_no_machine_and_no_path_of_one(name: str) -> None:
    text = "\n".join(map(encode, events_of(name)))
    assert not [root for root in ("/home/", "/root/", "/tmp/", "/Users/", "/work/") if root in text]
    if name in SESSIONS:
        assert {event.hostname for event in all_of(name, NodeConnected)} == {"lab"}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_says_what_its_script_says_with_values_in_place_of_their_names(name: str) -> None:
    script = read_script(SCRIPTS / name / SESSION_FILE)
    texts = [text for act in script.acts for text in (act.say, act.then) if text] + [moment.say for moment in script.moments]
    patterns = [re.compile(".+?".join(map(re.escape, re.split(r"{[^}]*}", text))) or ".+") for text in texts if text]
    captions = all_of(name, Captioned)
    assert len(captions) >= 3
    for caption in captions:
        assert caption.screen in CAPTION_SCREENS
        assert any(pattern.fullmatch(caption.text) for pattern in patterns), caption.text
        assert not re.search(r"[{}]|—", caption.text), "a value that nobody knew"


def test_the_recordings_show_what_their_sessions_are_about() -> None:
    cases = {event.policy: event for event in all_of("policies", CaseStarted)}
    assert list(cases) == ["equal", "proportional", "dynamic", "hybrid"]
    table = {case["policy"]: case for case in all_of("policies", ResultDerived)[-1].document["cases"]}
    assert table["hybrid"]["speedup_over_equal"] > 1.9

    found = max(all_of("straggler", StragglerFound), key=lambda event: event.slowdown)
    assert (found.straggler, found.cause) == (1, "compute")
    assert found.slowdown == pytest.approx(1.8, abs=0.15)
    assert 1 in {event.straggler for event in all_of("straggler", StragglerEnded)}
    moved = [event for event in all_of("straggler", SharesChanged) if 40 <= event.step <= 50]
    assert moved[0].after[1] < moved[0].before[1]

    rates = [
        event.document["samples_per_second"] for event in all_of("advice", ResultDerived) if "samples_per_second" in event.document
    ]
    alone, together = rates[-2:]
    assert together < 0.95 * alone, "the group is slower than its best device, as was foreseen"

    assert "demo4" in {event.node for event in all_of("loss", NodeLost)}
    assert {event.ranks for event in all_of("loss", GroupReformed)} >= {(0, 1, 2)}
    assert len([event for event in all_of("loss", NodeConnected) if event.node == "demo4"]) == 2, "its power came back"

    assert [event.state for event in all_of("script", BalanceJudged)][-1] == "balanced"
    assert all_of("script", SharesChanged)[0].before == (64, 64, 64, 64)


def test_the_recording_of_the_first_version_shows_what_it_showed() -> None:
    state = State()
    for event in events_of("reference-lab"):
        state = reduce(state, event)
    run = state.run
    assert run is not None
    assert (run.state, run.is_emulated, state.unknown) == ("done", True, 0)
    assert state.profiles["digits-cnn"]["emulated"] is True
    assert result_runs(View(state)) == [run.run_id], "a profiling has no place among the results"


@pytest.mark.parametrize(("path", "cases"), [(str(KEPT["reference-lab"]), 4), ("policies", 4)])
def test_a_replay_needs_no_cluster_and_no_torch(path: str, cases: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", QUIET_REPLAY, path]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["cases"]) == cases
