"""A job as a TOML file: what it may say, what wins over it, and how it is refused."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest
from paceline.engine.errors import ConfigurationError
from paceline.engine.jobs.launch.job_file import read_job_file
from paceline.engine.jobs.launch.job_options import JOB_OPTIONS, job_file_options, train_spec
from paceline.engine.specs import TrainSpec
from paceline.engine.states import POLICIES
from paceline.tui.command_line.cli import main
from paceline.tui.command_line.commands import VERBS, parse
from paceline.tui.command_line.completion import complete_line, job_files

SEED = 20261121
WHOLE = """\
workload = "agnews-small"
policy = "equal"
policies = ["equal", "hybrid"]
repeats = 3
epochs = 3
global_batch_size = 96
accumulation = 2
compression = "powersgd"
local_steps = 4
seed = 7
csv = "own/news.csv"
devices = ["lab[1-3]", "atlas:0"]
wait = true
on_end = "notify-send over"
"""


def job(place: Path, text: str) -> Path:
    """A file of that text."""
    path = place / "job.toml"
    path.write_text(text)
    return path


def asked(line: str) -> argparse.Namespace:
    return parse(line)[1]


def test_a_file_says_what_the_options_say(tmp_path: Path) -> None:
    path = job(tmp_path, WHOLE)
    options = "--workload agnews-small --epochs 3 --global-batch-size 96 --accumulation 2 --compression powersgd --local-steps 4"
    options += f" --seed 7 --csv {tmp_path}/own/news.csv --devices lab[1-3],atlas:0 --wait --on-end 'notify-send over'"
    for verb, own in (("train", "--policy equal"), ("plan", "--policy equal"), ("bench", "--policies equal,hybrid --repeats 3")):
        found = vars(asked(f"{verb} {path}"))
        assert found == vars(asked(f"{verb} {options} {own}")) | {"job": path}


def test_what_is_typed_wins_wherever_it_stands(tmp_path: Path) -> None:
    path = job(tmp_path, WHOLE)
    for line in (f"train --seed 0 {path} --policy hybrid --share", f"train {path} --share --seed 0 --policy hybrid"):
        found = asked(line)
        assert (found.seed, found.policy, found.share, found.wait) == (0, "hybrid", True, False)
        assert found.epochs == 3


def test_what_a_file_does_not_say_is_as_without_one(tmp_path: Path) -> None:
    path = job(tmp_path, "")
    assert vars(asked(f"train {path}")) == vars(asked("train")) | {"job": path}


def test_every_option_of_a_job_is_a_key() -> None:
    options = {argument.key for name in ("train", "plan", "bench") for argument in VERBS[name].arguments}
    in_files_only = {option.name for option in JOB_OPTIONS if option.is_file_only}
    assert (options - {"job"}) | in_files_only == set(job_file_options())


def test_every_field_of_a_job_has_an_option_with_its_default() -> None:
    not_options = {"is_bench", "script", "resume"}
    assert {option.field for option in JOB_OPTIONS if option.field} == set(TrainSpec.__dataclass_fields__) - not_options
    assert train_spec("train", vars(asked("train"))) == TrainSpec()
    assert train_spec("bench", vars(asked("bench"))) == TrainSpec(policies=POLICIES, is_bench=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nepohs = 3", ":2: epohs: unknown key of a job: did you mean 'epochs'?"),
        ("[train]\nepochs = 3", ":1: train: unknown key of a job: expected one of accumulation, "),
        ("seed = 1\nepochs = '3'", ":2: epochs: expected a whole number from 1 to 999999999, got '3'"),
        ("epochs = 0", ":1: epochs: expected a whole number from 1"),
        ("epochs = true", ":1: epochs: expected a whole number from 1"),
        ("seed = -1", ":1: seed: expected a whole number from 0"),
        ("policy = 'best'", ":1: policy: expected one of equal, proportional, dynamic, hybrid, got 'best'"),
        ("policies = ['equal', 'equal']", ":1: policies: expected a list of different policies: equal, "),
        ("policies = [['equal']]", ":1: policies: expected a list of different policies"),
        ("workload = 'mnist'", ":1: workload: expected one of digits-cnn, "),
        ("compression = 8", ":1: compression: expected one of none, bf16, fp16, powersgd, got 8"),
        ("devices = []", ":1: devices: expected "),
        ("devices = ['a', '']", ":1: devices: expected "),
        ('on_end = "a\\nb"', ":1: on_end: expected text in one line"),
        ("wait = 1", ":1: wait: expected true or false, got 1"),
        ("wait = true\nshare = true", ":2: share: expected one of wait and share, or none"),
        ("epochs = 1\nepochs = 2", ":2: not TOML: "),
        ("epochs = ", ":1: not TOML: Invalid value"),
        ("x = " + "[" * 5000, ":1: not TOML: "),
    ],
)
def test_a_wrong_job_is_refused_with_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = job(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_job_file(path)
    assert str(caught.value).startswith(f"{path}{said}")
    assert "\n" not in str(caught.value)


def test_a_job_that_is_none_is_refused_before_anything_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = tmp_path / "nodes.toml"
    nodes.write_text('[[node]]\nname = "nowhere"\nhost = "nowhere.invalid"\n')
    for content in (b"\xff\xfe", b"epochs = 0"):
        path = tmp_path / "job.toml"
        path.write_bytes(content)
        assert main(["--nodes", str(nodes), "--batch", "train", str(path)]) == 2
    path.unlink()
    assert main(["--nodes", str(nodes), "--batch", "plan", str(path)]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert len(told.splitlines()) == 3
    assert f"{path}:1: expected UTF-8 text" in told
    assert f"{path}: No such file or directory" in told


def test_what_anybody_may_write_is_not_read(tmp_path: Path) -> None:
    path = job(tmp_path, "on_end = 'true'")
    path.chmod(0o666)
    with pytest.raises(ConfigurationError, match="every user of this machine can change it"):
        read_job_file(path)


def test_job_files_complete_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    for name in ("night.toml", "nodes.toml", "notes.txt", "jobs/day.toml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for line, found in (
        ("train ", ["train night.toml"]),
        ("bench --epochs 3 ni", ["bench --epochs 3 night.toml"]),
        ("train jobs/", ["train jobs/day.toml"]),
        ("train nowhere/", []),
        (f"plan {tmp_path}/jobs/d", [f"plan {tmp_path}/jobs/day.toml"]),
        ("cancel ", []),
    ):
        assert complete_line(line, {"JOB": job_files(line)}) == found
    assert job_files(f"logs {tmp_path}/") == [], "no directory is read for a verb that takes no file"


def test_a_mutilated_job_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    path, refusals = job(tmp_path, WHOLE), []
    for number in range(400):
        text = bytearray(WHOLE.encode())
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            text[place : place + chance.randint(0, 6)] = chance.choice(
                [b"", b"\n", b'"', b"[", b"=", b"9" * 30, b"nan", b"\x00", b"\xff"]
            )
        path.write_bytes(text)
        try:
            read_job_file(path)
        except ConfigurationError as error:
            refusals.append((number, str(error)))
    assert 200 < len(refusals) < 400
    for number, said in refusals:
        assert said.startswith(str(path)), f"seed {SEED}, file {number}"
        assert "\n" not in said, f"seed {SEED}, file {number}"
