"""Where the options of ours end on a command line, and those of a script begin."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.errors import ConfigurationError, UsageError
from paceline.engine.jobs.launch.job_options import train_spec
from paceline.engine.specs import ScriptSpec
from paceline.tui.command_line.commands import VERBS, parse
from paceline.tui.command_line.script_words import split_script


@pytest.mark.parametrize(
    ("line", "ours", "script"),
    [
        ("train.py", [], ScriptSpec("train.py")),
        (
            "--policy equal train.py --lr 1 --policy x",
            ["--policy", "equal"],
            ScriptSpec("train.py", ("--lr", "1", "--policy", "x")),
        ),
        ("--wait -m pkg.train --devices 3", ["--wait"], ScriptSpec("pkg.train", ("--devices", "3"), is_module=True)),
        ("--csv a.py --epochs=2 dir/t.py -h", ["--csv", "a.py", "--epochs=2"], ScriptSpec("dir/t.py", ("-h",))),
        ("job.toml --epochs 2", ["job.toml", "--epochs", "2"], None),
        ("--epochs 2", ["--epochs", "2"], None),
    ],
)
def test_words_after_the_script_are_its_own(line: str, ours: list[str], script: ScriptSpec | None) -> None:
    assert split_script(VERBS["train"].arguments, line.split()) == (ours, script)


@pytest.mark.parametrize("line", ["-m", "-m --x", "-m not/a.module"])
def test_a_module_needs_a_name(line: str) -> None:
    with pytest.raises(UsageError, match="-m needs the name of a module"):
        split_script(VERBS["train"].arguments, line.split())


def test_a_typed_script_and_one_of_a_job_file_give_the_same_job(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('script = "train.py"\nargs = ["--lr", "0.1"]\nstrict = true\npolicy = "dynamic"\n')
    _, typed = parse(f"train --strict --policy dynamic {tmp_path}/train.py --lr 0.1")
    verb, read = parse(f"run {job}")
    assert verb.name == "train"
    assert train_spec("train", vars(read)) == train_spec("train", vars(typed))
    spec = train_spec("train", vars(read))
    assert spec.workload == "train.py"
    assert spec.script == ScriptSpec(f"{tmp_path}/train.py", ("--lr", "0.1"), is_strict=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('script = "a.py"\nmodule = "b"\n', "one of script and module"),
        ('args = ["x"]\n', "a script or a module beside it"),
        ('script = "a.py"\nargs = "x"\n', "a list of texts"),
    ],
)
def test_a_job_file_with_half_a_script_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "job.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        parse(f"train {tmp_path / 'job.toml'}")
