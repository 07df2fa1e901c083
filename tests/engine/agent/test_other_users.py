"""Another user of a node: what he puts into directories, environments and the way of files has no effect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paceline.engine.agent.runs.cleanup import list_stored
from paceline.engine.agent.runs.tail import is_gone
from paceline.engine.agent.system.process_tree import ProcessTree
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import StorageFailed
from paceline.engine.ssh.link import start_command

from tests.support.ssh.hostile_nodes import write_run
from tests.support.waiting import until_sync

NOBODY = 65534
RUN = "20260101-0000-aaaaaa"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


@pytest.fixture
def home(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "n", "n")
    made.prepare()
    return made


@needs_root
def test_marks_in_the_environment_of_another_user_count_nothing(home: StateDir) -> None:
    write_run(home.runs / RUN, ("n",), 0, None)
    sleep = shutil.which("sleep")
    program = f"import os; os.setgid({NOBODY}); os.setuid({NOBODY}); os.execv({sleep!r}, ['sleep', '600'])"
    forged = {"PACELINE_RUN_ID": RUN, "PACELINE_ROOT": str(home.root), "PATH": os.environ["PATH"]}
    with subprocess.Popen([sys.executable, "-S", "-c", program], env=forged, start_new_session=True) as process:
        try:
            until_sync(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
            assert pids_of_run(RUN, home.root) == []
            assert ProcessTree(home.runs / RUN).terminate(0.0) == []
            assert is_gone(home.runs / RUN)
            assert [item["use"] for item in list_stored(home)] == [""]
            assert process.poll() is None
        finally:
            process.kill()


@needs_root
@pytest.mark.parametrize("name", ["runs", "data", "bundles", ""])
def test_a_state_directory_of_another_user_is_refused(home: StateDir, name: str) -> None:
    os.chown(home.root / name, NOBODY, NOBODY)
    with pytest.raises(StorageFailed, match="belongs to another user: other users could run code here"):
        home.prepare()


@pytest.mark.parametrize("name", ["runs", "bundles", "", ".."])
def test_a_state_directory_that_everybody_may_write_is_refused(home: StateDir, name: str) -> None:
    (home.root / name).chmod(0o777)
    with pytest.raises(StorageFailed, match="every user may write to"):
        home.prepare()
    (home.root / name).chmod(0o1777 if name == ".." else 0o775)
    home.prepare()


@needs_root
@pytest.mark.parametrize("owned", ["bundles", "bundles/x.zip"])
def test_a_bundle_of_another_user_is_never_run(home: StateDir, tmp_path: Path, owned: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    python.chmod(0o755)
    (home.bundles / "x.zip").touch()
    os.chown(home.root / owned, NOBODY, NOBODY)
    command = start_command(str(home.root), str(python), "n", "x.zip")
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    run = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "paceline bundle missing"
    assert not (tmp_path / "ran").exists()
    os.chown(home.root / owned, 0, 0)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert (tmp_path / "ran").exists()
