"""The command line: what it refuses, and with which status."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.events import CaseStarted, NodeConnected, NodeLost, NodeReported, Progress, RunPlanned, StepsTaken, Ticked
from paceline.engine.telemetry.bus import Bus
from paceline.engine.telemetry.progress import ProgressReporter, TransferProgress
from paceline.tui.command_line import cli
from paceline.tui.command_line.batch import exit_status
from paceline.tui.command_line.cli import main
from paceline.tui.command_line.commands import VERBS, parse
from paceline.tui.command_line.narration import Narrator

EMBEDDED = '[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0, memory = "1GiB" }]\n'


def paceline(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal, in a directory of its own."""
    env = {**os.environ, "HOME": str(cwd)}
    command = [sys.executable, "-m", "paceline.tui", *words]
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a verb"),
        (("sing",), "sing"),
        (("--only",), "--only"),
        (("train", "--epochs", "0"), "at least 1"),
        (("train", "--policy", "best"), "best"),
        (("train", "--workload", "nothing"), "unknown workload 'nothing'"),
        (("bench", "--policies", "equal,equal"), "equal"),
        (("--nodes", "missing.toml", "status"), "missing.toml"),
        (("--only", "mars", "status"), "mars"),
        (("--only", "", "status"), "not a node set"),
        (("--patience", "nan", "status"), "nan"),
        (("train", "--seed", "99999999999999999999"), "--seed"),
        (("replay", "missing.jsonl"), "missing.jsonl"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line_with_status_2(
    tmp_path: Path, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(list(words)) == 2  # in this process: the next test starts the command itself
    out, err = capsys.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("paceline: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert "Traceback" not in err


def test_a_broken_nodes_file_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED + "speeed = 3\n")
    done = paceline("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "nodes.toml:5" in done.stderr
    assert "speeed" in done.stderr


def test_status_of_an_embedded_node_is_one_json_document_on_stdout(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    done = paceline("--batch", "--json", "status", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    (node,) = document["nodes"]
    assert (node["name"], node["state"]) == ("demo1", "ok")
    (device,) = node["devices"]
    assert (device["index"], device["name"], device["kind"], device["memory_total"]) == (0, "A", "emulated", 1 << 30)
    assert device["utilization"] == 0.0, "a reading of the node, and not what nodes.toml declares"


def test_a_node_that_is_down_is_told_and_gives_status_3(tmp_path: Path) -> None:
    down = (
        '[[node]]\nname = "gone"\nhost = "127.0.0.1"\nport = 9\nhost_key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"\n'
    )
    (tmp_path / "nodes.toml").write_text(EMBEDDED + down)
    done = paceline("--batch", "--json", "status", cwd=tmp_path)
    assert done.returncode == 3
    assert [node["state"] for node in json.loads(done.stdout)["nodes"]] == ["ok", "lost"]
    launch = paceline("--batch", "train", cwd=tmp_path)
    assert launch.returncode == 3
    assert "gone" in launch.stderr.splitlines()[-1]
    assert not list((tmp_path / "logs").glob("runs/2*"))


def test_output_ends_quietly_when_its_reader_leaves(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    command = f"{sys.executable} -m paceline.tui --batch --json status | true"
    done = subprocess.run(command, shell=True, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", *(pytest.param(one, marks=pytest.mark.slow) for one in ("<&-", "2>&-"))])
def test_a_stream_that_is_closed_is_no_fault(tmp_path: Path, closed: str) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    command = f"{sys.executable} -m paceline.tui --batch status {closed}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_work_goes_on_when_nobody_hears_the_narration() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    bus = Bus(lambda: 0.0)
    with os.fdopen(writer, "w") as stream:
        narrator = Narrator(stream, bus.subscribe)
        bus.publish(Progress(phase="preparing"))
        narrator.close()
        with pytest.raises(BrokenPipeError):  # what could not be written is still there when the file is closed
            stream.close()


@pytest.mark.parametrize("line", ["", "sing", "bench --epochs x", "train 'open"])
def test_a_line_that_is_no_verb_is_refused_at_the_prompt_too(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line)


def noting(notes: list[Any]) -> Callable[..., int]:
    """Opens nothing: notes what it was called with and returns status 0."""

    def note(*words: Any) -> int:
        notes.append(words)
        return 0

    return note


def outcome(line: str) -> str:
    """The verb a line names, or why it is refused."""
    try:
        return parse(line)[0].name
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("statsu",), "paceline: there is no verb 'statsu' (did you mean status?)"),
        (("atach", "x"), "paceline: there is no verb 'atach' (did you mean attach?)"),
        (("help", "jbos"), "paceline: there is no verb 'jbos' (did you mean jobs?)"),
        (("train", "--epocs", "3"), "paceline: train knows no option --epocs (did you mean --epochs?)"),
        (("train", "--epoch=3"), "paceline: train knows no option --epoch (did you mean --epochs?)"),
        (("--bach", "jobs"), "paceline: there is no option --bach (did you mean --batch?)"),
        (("jobs", "all"), "paceline: jobs knows no argument 'all' here (see paceline jobs --help)"),
        (("logs",), "paceline: logs: the following arguments are required: RUN (see paceline logs --help)"),
    ],
)
def test_a_wrong_word_is_named_with_the_word_that_was_meant(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == 2
    assert capsys.readouterr().err.splitlines() == [told]


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if not verb.is_drawn])
def test_a_verb_that_asks_prints_in_a_terminal_and_one_that_launches_opens_the_screen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    opened: list[Any] = []
    monkeypatch.setattr(cli, "has_terminal", lambda: True)
    monkeypatch.setattr("paceline.tui.command_line.batch.run", noting(printed))
    line = [name, *("x" for argument in VERBS[name].arguments if argument.is_required)]
    line[2:] = ["4711"] * len(line[2:])  # kill NODE PID
    assert main(line, noting(opened)) == 0
    asks = {"status", "advise", "plan", "jobs", "logs", "cancel", "fetch", "clean", "kill", "compare", "data", "example", "report"}
    asks |= {"export", "setup", "drain", "grow"}
    assert (len(printed), len(opened)) == ((1, 0) if name in asks else (0, 1))
    assert main(["--batch", *line], noting(opened)) == 0
    assert len(printed) == (2 if name in asks else 1)


@pytest.mark.parametrize("line", ["--json -q status", "status --json -q", "status -q --json"])
def test_options_of_every_verb_stand_before_or_after_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("paceline.tui.command_line.batch.run", noting(seen))
    assert main(line.split()) == 0
    args = seen[0][0]
    assert (args.json, args.quiet) == (True, True)


def test_options_of_a_script_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("paceline.tui.command_line.batch.run", noting(seen))
    assert main(["train", "--json", "--epochs", "2", "mine.py", "--batch", "--only", "x"]) == 0
    args = seen[0][0]
    assert (args.json, args.batch, args.only, args.epochs) == (True, False, None, 2)
    assert args.script.args == ("--batch", "--only", "x")


def test_quiet_prints_the_answer_and_no_narration(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    done = paceline("-q", "status", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo1" in done.stdout


def test_a_replay_is_told_without_a_screen_too() -> None:
    recording = Path(__file__).parents[3] / "data" / "demo" / "reference-lab.jsonl"
    command = [sys.executable, "-m", "paceline.tui", "--plain", "replay", str(recording), "--speed", "1e9"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a replay: type pause")
    assert "result of hybrid" in done.stdout


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_parses_alone_or_says_what_it_lacks(name: str) -> None:
    assert outcome(name) == name or "required" in outcome(name)


def test_the_worst_status_wins() -> None:
    assert exit_status({"nodes": [{"state": "ok"}]}) == 0
    assert exit_status({"nodes": [{"state": "lost"}, {"state": "refused"}]}) == 4
    assert exit_status({"state": "failed"}) == 1
    assert exit_status({"state": "done"}) == 0
    assert exit_status({"type": "cancel", "state": "cancelled", "survivors": []}) == 0


def talk(typed: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A talk without a screen, typed in one go."""
    env = {**os.environ, "HOME": str(cwd)}
    command = [sys.executable, "-m", "paceline.tui", "--plain", *words]
    return subprocess.run(command, cwd=cwd, env=env, input=typed, capture_output=True, text=True, check=False)


def test_a_talk_says_one_sentence_an_event_and_obeys_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    done = talk("status\nsing\nhelp", cwd=tmp_path)
    said = done.stdout.splitlines()
    assert any("demo1 connected" in line for line in said)
    assert any(line.startswith("demo1 ") and "emulated" in line for line in said)
    assert any("there is no verb 'sing'" in line for line in said)
    assert all(any(line.startswith(f"{verb.name}: {verb.summary}") for line in said) for verb in VERBS.values())
    assert not {"\r", "\x1b", "━"} & set(done.stdout)
    assert done.stderr == ""


def test_a_talk_stays_until_its_verb_is_done_and_ends_with_its_status(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    done = talk("", "train", "--workload", "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown workload 'nothing'" in done.stdout


@pytest.mark.parametrize("mode", ["--batch", "--plain"])
def test_read_only_refuses_before_anything_is_reached(tmp_path: Path, mode: str) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    done = paceline(mode, "--read-only", "train", cwd=tmp_path)
    assert done.returncode == 2
    assert "train is refused: this session is read-only" in done.stderr
    assert not (tmp_path / "logs").exists()


def test_a_preference_for_read_only_holds_headless_too_and_a_wrong_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    config = tmp_path / ".config" / "paceline" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("read_only = true\n")
    assert "read-only" in paceline("--batch", "cancel", "x", cwd=tmp_path).stderr
    config.write_text("read_onli = true\n")
    done = paceline("--batch", "status", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'read_only'?" in done.stderr


def test_a_phase_is_said_once_and_its_quarters_where_no_bar_is_drawn() -> None:
    bus, said = Bus(lambda: 0.0), io.StringIO()
    Narrator(said, bus.subscribe)
    for share in (0.0, 0.1, 0.3, 0.4, 0.8):
        bus.publish(Progress(phase="bringing data", fraction=share, seconds_left=9.0))
    bus.publish(Progress())
    told = [line.split("  ", 1)[1] for line in said.getvalue().splitlines()]
    assert told == ["bringing data", *(f"bringing data: {share} %, 0:09 left" for share in (10, 30, 40, 80))]


def test_who_listens_is_told_each_quarter_only() -> None:
    bus, said = Bus(lambda: 0.0), io.StringIO()
    Narrator(said, bus.subscribe, is_plain=True)
    for share in (0.0, 0.1, 0.3, 0.4, 0.8):
        bus.publish(Progress(phase="bringing data", fraction=share, detail=f"{10 * share:.1f} of 10.0 MiB"))
    told = [line.split("  ", 1)[1] for line in said.getvalue().splitlines()]
    assert told == ["bringing data", "bringing data: 30 %, 3.0 of 10.0 MiB", "bringing data: 80 %, 8.0 of 10.0 MiB"]


def test_where_no_bar_is_drawn_each_tenth_of_a_run_is_told_with_the_time_that_is_left() -> None:
    bus, said = Bus(lambda: 0.0), io.StringIO()
    Narrator(said, bus.subscribe)
    common: dict[str, Any] = {"run_id": "r1", "case": "hybrid"}
    bus.publish(RunPlanned(run_id="r1", cases=("hybrid",), epochs=10, global_batch_size=100, samples_per_epoch=1000))
    bus.publish(CaseStarted(policy="hybrid", **common))
    for step in range(100):
        bus.publish(StepsTaken(step=step, steps=1, samples=100, step_seconds=1.0, **common))
        bus.publish(Ticked())
    told = [line for line in said.getvalue().splitlines() if "run r1: " in line and line.endswith(" left")]
    assert len(told) == 9
    assert "run r1: 11 %, " in told[0]  # a little is left for what follows the last step


def test_what_is_predicted_and_what_is_emulated_are_told_before_the_launch() -> None:
    bus, said = Bus(lambda: 0.0), io.StringIO()
    Narrator(said, bus.subscribe)
    planned = RunPlanned(run_id="r1", cases=("equal", "hybrid"), predicted=(None, 1234.5), is_emulated=True, global_batch_size=384)
    bus.publish(replace(planned, is_network_emulated=True))
    bus.publish(replace(planned, predicted=()))
    both, devices = said.getvalue().splitlines()
    assert "on 0 devices, emulated (network too), global batch" in both
    assert both.endswith("; predicted before launch: hybrid 1,234 samples/s")
    assert "emulated, global" in devices
    assert "predicted" not in devices


def test_a_node_that_is_not_there_is_said_once_for_every_reason() -> None:
    bus, said = Bus(lambda: 0.0), io.StringIO()
    Narrator(said, bus.subscribe)
    for reason in ("refused", "refused", "no route", "no route"):
        bus.publish(NodeLost(node="atlas", reason=reason))
    bus.publish(NodeConnected(node="atlas"))
    bus.publish(NodeLost(node="atlas", reason="no route"))
    told = [line.split("  ", 1)[1] for line in said.getvalue().splitlines()]
    assert told[:2] == ["atlas lost: refused", "atlas lost: no route"]
    assert told[3:] == ["atlas lost: no route"]


def test_a_node_that_falls_silent_is_said_once_and_that_it_is_heard_again() -> None:
    times = iter((0.0, 0.0, 2.0, 4.0, 6.0, 7.0, 8.0, 9.0))
    bus, said = Bus(lambda: next(times)), io.StringIO()
    Narrator(said, bus.subscribe)
    for event in (NodeReported(node="atlas"), *(Ticked() for _ in range(4)), *(NodeReported(node="atlas") for _ in range(2))):
        bus.publish(event)
    told = [line.split("  ", 1)[1] for line in said.getvalue().splitlines()]
    assert told == ["atlas: no response for 6 s; its runs go on", "atlas responds again"]


def test_progress_is_told_a_few_times_a_second_with_the_time_that_is_left() -> None:
    times = iter((0.0, 0.1, 1.0, 1.2, 4.0))
    told: list[Any] = []
    progress = ProgressReporter("bringing data", 64.0, told.append, "bytes", lambda: next(times))
    for _ in range(4):
        progress.add(8.0)
    assert [(event.fraction, event.seconds_left) for event in told] == [(0.0, None), (0.25, 3.0), (0.5, 4.0)]
    assert told[1].detail == "0.0 of 0.1 KiB"


def test_parcels_are_told_as_one_but_not_where_they_are_soon_there() -> None:
    now = 0.0
    told: list[Any] = []
    parcels = TransferProgress("bringing our modules", told.append, lambda: now)
    with parcels.transfer(2**20) as sent:
        sent(2**20)
    assert told == []
    with parcels.transfer(2**20) as first, contextlib.suppress(OSError):
        now = 1.0
        first(2**19)
        with parcels.transfer(2**20) as second:
            now = 2.0
            second(2**18)
            raise OSError("the link broke")
        first(2**19)
    assert [(event.phase, event.detail) for event in told] == [
        ("bringing our modules", "0.5 of 1.0 MiB"),
        ("bringing our modules", "0.8 of 2.0 MiB"),
        ("", ""),
    ]


@pytest.mark.slow
def test_a_python_that_cannot_train_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without site-packages: no torch, no numpy
    bare.chmod(0o755)
    (tmp_path / "nodes.toml").write_text(EMBEDDED + f'python = "{bare}"\n')
    told = paceline("status", cwd=tmp_path)
    assert told.returncode == 0
    assert "warned" in told.stdout
    assert "has no torch and no numpy" in told.stdout
    assert "set python in nodes.toml" in told.stdout
    for verb in ("train", "plan"):
        done = paceline(verb, "--epochs", "1", cwd=tmp_path)
        assert done.returncode == 5, done.stderr
        assert "paceline: demo1: its Python" in done.stderr
        assert "set python in nodes.toml" in done.stderr
    assert not list((tmp_path / "logs").glob("**/data/*"))
    assert not list((tmp_path / "logs").glob("**/runs/2*"))
