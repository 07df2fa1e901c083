"""The command line in odd surroundings: full or ASCII-only output, a removed directory, a user without a name or a home."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paceline.tui.command_line import cli
from paceline.tui.command_line.batch import without_surrogates

LAB = '[[node]]\nname = "n0"\nkind = "embedded"\ndevices = [{ name = "RTX 3060", speed = 1.0, memory = "1GiB" }]\n'
WORDS = [sys.executable, "-m", "paceline.tui", "--batch"]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "nodes.toml").write_text(LAB)
    return tmp_path


def test_a_full_output_is_one_line_and_status_1(lab: Path) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run([*WORDS, "jobs"], cwd=lab, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (1, "paceline: cannot write the output: No space left on device")
    assert "Traceback" not in run.stderr


def test_an_ascii_output_gets_what_it_can_show(lab: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    run = subprocess.run([*WORDS, "status"], cwd=lab, env=env, capture_output=True, check=False)
    assert (run.returncode, b"RTX 3060" in run.stdout, run.stdout.isascii()) == (0, True, True)


def test_a_removed_directory_is_one_line_and_status_2(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone}; exec {' '.join(WORDS)} jobs"
    run = subprocess.run(["sh", "-c", script], cwd=gone, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (2, "paceline: the current directory was removed (change to another one: cd ~)\n")


def test_a_user_without_name_and_home_gets_a_number_and_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise KeyError

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    cli._prepare_environment()
    assert (os.environ["LOGNAME"], os.environ["HOME"], getpass.getuser()) == (str(os.getuid()), "/", str(os.getuid()))


def test_json_holds_no_lone_surrogates() -> None:
    document = {"a\udcff": ["x\ud800y", ("\U0001f600",), {"b": 1}], "c": None}
    assert without_surrogates(document) == {"a\ufffd": ["x\ufffdy", ["\U0001f600"], {"b": 1}], "c": None}
    json.dumps(without_surrogates(document), ensure_ascii=False).encode()
