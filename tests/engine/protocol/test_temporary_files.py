"""Temporary files of a run lie in the run or in a directory of its own, and go with it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.protocol.run_files import PRIVATE_DIR
from paceline.engine.protocol.runner_socket import bind, connect, remove_private
from paceline.engine.protocol.temporary_files import MAX_TEMPORARY_PATH_BYTES, TEMPORARY_NOTE, make_temporary, remove_temporary


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory of the node, empty, with a path that is short enough for a socket."""
    monkeypatch.delenv("TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


def run_of(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_a_run_with_a_short_path_holds_them(elsewhere: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        run = run_of(Path(short) / "r")
        place = make_temporary(run)
        assert place.parent == run / PRIVATE_DIR
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "pymp-x").mkdir()
        remove_private(run)
        assert list(run.iterdir()) == list(elsewhere.iterdir()) == []


def test_a_long_path_leaves_room_for_the_sockets_of_multiprocessing(tmp_path: Path, elsewhere: Path) -> None:
    run = run_of(tmp_path / ("x" * MAX_TEMPORARY_PATH_BYTES))
    place = make_temporary(run)
    assert place.parent == elsewhere
    assert place.stat().st_mode & 0o777 == 0o700
    (place / "file").write_text("x")
    remove_temporary(run)
    assert not place.exists()
    remove_temporary(run)
    remove_private(run)


def test_the_place_that_a_person_names_is_used(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", None)
    run = run_of(tmp_path / "r")
    assert make_temporary(run).parent == elsewhere
    remove_private(run)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("value", ["/nowhere", "/proc", "/dev/null", ""])
def test_a_place_that_is_none_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TMPDIR", value)
    monkeypatch.setattr(tempfile, "tempdir", None)
    run = run_of(tmp_path / "r")
    place = make_temporary(run)
    assert os.access(place, os.W_OK)
    remove_private(run)
    assert not place.exists()


def test_a_directory_that_is_not_ours_is_never_removed(tmp_path: Path, elsewhere: Path) -> None:
    run, other = run_of(tmp_path / "r"), run_of(tmp_path / "paceline-dear")
    (run / PRIVATE_DIR).mkdir()
    for target in (tmp_path, Path("/"), tmp_path / "missing", elsewhere):
        (run / PRIVATE_DIR / TEMPORARY_NOTE).write_text(str(target))
        remove_temporary(run)
    (elsewhere / "paceline-link").symlink_to(other)
    (run / PRIVATE_DIR / TEMPORARY_NOTE).write_text(str(elsewhere / "paceline-link"))
    remove_private(run)
    assert other.is_dir()
    assert elsewhere.is_dir()


def test_socket_and_files_of_a_long_path_go_together(tmp_path: Path, elsewhere: Path) -> None:
    run = run_of(tmp_path / ("y" * 100))
    with bind(run):
        make_temporary(run)
        with connect(run, 1.0) as connection:
            assert connection.family == socket.AF_UNIX
        assert len(list(elsewhere.iterdir())) == 2
    remove_private(run)
    assert list(elsewhere.iterdir()) == list(run.iterdir()) == []
