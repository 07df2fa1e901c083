"""A file system without locks, as some of NFS: named with what to do, nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from paceline.engine.agent.runs import device_lock, lease, run_dir
from paceline.engine.errors import StorageFailed


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP], ids=["no locks left", "no locks at all"], autouse=True)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, kind: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_run_directory_is_refused_and_removed(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="run1") as refused:
        run_dir.create(tmp_path / "runs" / "run1", {"plan": {}, "spec": {}})
    assert "local disk" in str(refused.value.hint)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_device_and_a_lease_are_refused(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(StorageFailed, match="lock") as refused:
        device_lock._take(tmp_path / "a.lock", fcntl.LOCK_EX)
    assert "local disk" in str(refused.value.hint)
    with pytest.raises(StorageFailed), lease._exclusive(tmp_path):
        raise AssertionError("it was locked")
