"""The scripts of the demo sessions: whole, readable, about screens and events that exist, on labs that say what is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.demo.script_file import CAPTION_SCREENS, DemoScript, read_script, told
from paceline.engine.demo.sessions import SCRIPTS, SESSION_FILE, SESSIONS, find_recording, lab_directory, prepare_lab
from paceline.engine.errors import ConfigurationError
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.tui.command_line.commands import parse
from paceline.tui.views.bars import SCREENS

from tests.support.places import CHECKOUT


def script_of(name: str) -> DemoScript:
    return read_script(SCRIPTS / name / SESSION_FILE)


def test_every_session_has_a_folder_and_every_folder_is_a_session() -> None:
    assert {path.name for path in SCRIPTS.iterdir() if path.is_dir()} == set(SESSIONS)
    assert set(CAPTION_SCREENS) - {""} <= {screen.name for screen in SCREENS}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_has_an_emulated_lab_acts_that_parse_and_something_to_look_at(name: str) -> None:
    inventory = read_inventory(SCRIPTS / name / "nodes.toml")
    assert {node.kind for node in inventory.nodes} == {"embedded"}
    script = script_of(name)
    for act in script.acts:
        assert parse(act.run.replace("{lab}", "lab"))[0].acts
    assert sum(bool(text) for act in script.acts for text in (act.say, act.then)) + len(script.moments) >= 3
    known = {node.name for node in inventory.nodes}
    assert {node for moment in script.moments for node in (moment.lose, moment.back) if node} <= known


def test_the_lab_of_the_policies_is_the_one_that_the_checkout_ships() -> None:
    ours, shipped = (read_inventory(path / "nodes.toml").nodes for path in (SCRIPTS / "policies", CHECKOUT))
    assert ours == shipped


def test_the_straggler_is_scripted_in_the_lab_and_nowhere_else() -> None:
    faulty = [node.name for node in read_inventory(SCRIPTS / "straggler" / "nodes.toml").nodes if node.faults]
    assert faulty == ["demo2"]
    assert "demo2" not in (SCRIPTS / "straggler" / SESSION_FILE).read_text()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("title = 1 2", "Expected newline"),
        ("[[act]]\nrun = 'bench'", "missing key 'title'"),
        ("title = 'x'\n[[act]]\nsay = 'x'", "missing key 'run'"),
        ("title = 'x'\n[[act]]\nrun = 'bench'\nsays = 'x'", "unknown key 'says'"),
        ("title = 'x'\n[[act]]\nrun = 'bench'\nlook = 'moon'", "no screen 'moon'"),
        ("title = 'x'\n[[act]]\nrun = 'bench'\n[[moment]]\nwhen = 'Moonrise'", "no event 'Moonrise'"),
        ("title = 'x'\n[[act]]\nrun = 'bench'\n[[moment]]\nwhen = 'NodeLost'\nsay = '{colour}'", "no field 'colour'"),
        ("title = 'x'\n[[act]]\nrun = 'bench'\n[[moment]]\nwhen = 'NodeLost'\nwhere = { colour = 1 }", "no field 'colour'"),
    ],
)
def test_a_wrong_script_is_refused_with_its_key(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / SESSION_FILE
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=fault):
        read_script(path)


def test_a_sentence_takes_the_values_that_it_names_and_says_what_is_unknown() -> None:
    values = {"cases": [{"rate": 2.0}, {"rate": None}], "before": (42, 14), "cause": "a {brace}"}
    assert told("{cases[0][rate]:.1f}x, {cases[1][rate]:.1f}, {cases[7][rate]:.1f}", values) == "2.0x, —, —"
    assert told("{before} because of {cause}", values) == "42/14 because of a {brace}"
    assert told("{nothing:.0%} and {nothing[deep]}", {}) == "— and —"


def test_the_lab_lies_in_the_checkout_or_in_the_state_of_a_person(tmp_path: Path) -> None:
    assert lab_directory("loss", CHECKOUT, tmp_path) == CHECKOUT / "logs" / "demo" / "loss"
    lab = lab_directory("script", tmp_path / "no-checkout", tmp_path)
    assert lab == tmp_path / "demo" / "script"
    for _ in range(2):  # over the files of an earlier session
        assert prepare_lab("script", lab).parent == lab
        assert (lab / "project" / "train.py").exists()
        (lab / SESSION_FILE).write_text("changed")
    prepare_lab("script", lab)
    assert read_script(lab / SESSION_FILE) == script_of("script")


def test_a_recording_is_found_by_its_file_or_by_the_name_of_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "data" / "demo" / "loss.pace"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    own = tmp_path / "mine"
    own.write_text("")
    assert find_recording(Path("loss"), tmp_path) == kept
    (tmp_path / "here" / "loss").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert find_recording(Path("loss"), tmp_path) == kept, "a folder of that name is no recording"
    assert find_recording(Path("*"), tmp_path) == Path("*")
    assert find_recording(own, tmp_path) == own
    for missing in (Path("moon"), tmp_path / "loss"):
        assert find_recording(missing, tmp_path) == missing
