"""Checkpoints: whole or absent wherever a writer is stopped, the newest sound one found, training never waits for the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from paceline.engine.errors import DataRefused, StorageFailed
from paceline.engine.events import CheckpointWritten, RankEvent
from paceline.engine.protocol import checkpoints
from paceline.engine.protocol.checkpoints import CheckpointInfo, checkpoints_to_remove, list_checkpoints, newest_sound
from paceline.engine.training.checkpoints.writer import Checkpointer, load_checkpoint, seconds_left, write_checkpoint


def state(value: float) -> dict[str, Any]:
    return {"format": 1, "model": {"weight": torch.full((8, 8), value)}, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}


class Stopped(BaseException):
    """Stands for a process that was killed at a call."""


CALLS: tuple[tuple[Any, str], ...] = (
    (os, "open"),
    (torch, "save"),
    (os, "fsync"),
    (os, "rename"),
    (os, "write"),
    (Path, "unlink"),
)
"""Everything that a writer asks of the system, in the order of a checkpoint."""


@pytest.mark.parametrize("failure", [Stopped(), OSError(errno.ENOSPC, "No space left on device")], ids=["kill", "full disk"])
@pytest.mark.parametrize("number", range(1, 13))
def test_a_writer_stopped_at_any_call_leaves_the_sound_one_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, failure: BaseException
) -> None:
    write_checkpoint(tmp_path, state(1.0), case="hybrid", epoch=0, step=10)
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise failure
            return call(*args, **kwargs)

        return run

    with monkeypatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        with contextlib.suppress(Stopped, OSError, StorageFailed):
            write_checkpoint(tmp_path, state(2.0), case="hybrid", epoch=1, step=20)
    found = newest_sound(tmp_path)
    assert found is not None
    loaded = load_checkpoint(tmp_path / found.name)
    assert float(loaded["model"]["weight"][0, 0]) == {10: 1.0, 20: 2.0}[found.step]
    checkpoints.remove_half_written(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(list_checkpoints(tmp_path))


def test_one_flipped_byte_or_a_cut_file_is_no_sound_checkpoint(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, state(step), case="", epoch=0, step=step)
    flipped, cut = tmp_path / "step-000000003.pt", tmp_path / "step-000000002.pt"
    content = bytearray(flipped.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1])
    found = newest_sound(tmp_path)
    assert found is not None
    assert found.step == 1


def test_spoilt_or_foreign_files_beside_checkpoints_are_passed_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(1.0), case="", epoch=0, step=5)
    (tmp_path / "step-000000009.json").write_text('{"name": "../../etc/passwd", "step": 9}')
    (tmp_path / "step-000000008.json").write_text("[1]")
    (tmp_path / "step-000000007.json").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert [info.step for info in list_checkpoints(tmp_path)] == [5]
    assert list_checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "can be read"),
        (b"not a checkpoint", "can be read"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(DataRefused, match=reason):
        load_checkpoint(tmp_path / "x.pt")


def test_code_in_a_checkpoint_is_never_run_and_a_later_format_is_named(tmp_path: Path) -> None:
    torch.save({"format": 1, "model": Path("x")}, tmp_path / "code.pt")
    torch.save({"format": 99}, tmp_path / "later.pt")
    torch.save({"weights": 1}, tmp_path / "foreign.pt")
    for name, reason in (("code", "can be read"), ("later", "format 99"), ("foreign", "no checkpoint of Paceline")):
        with pytest.raises(DataRefused, match=reason):
            load_checkpoint(tmp_path / f"{name}.pt")


def test_the_last_ones_and_the_best_stay() -> None:
    infos = [
        CheckpointInfo(name=f"s{step}", epoch=0, step=step, size=1, sha256="", written=0.0, score=score)
        for step, score in ((50, 0.8), (40, None), (30, 0.9), (20, 0.9), (10, 0.1))
    ]
    assert [info.step for info in checkpoints_to_remove(infos, 2)] == [20, 10]
    assert [info.step for info in checkpoints_to_remove(infos, 0)] == [40, 20, 10]


def test_a_checkpoint_holds_what_the_weights_were_when_the_step_asked_for_it(tmp_path: Path) -> None:
    events: list[RankEvent] = []
    now = 100.0
    writer = Checkpointer(tmp_path, events.append, every_steps=10, every_seconds=60.0, keep=2, clock=lambda: now)
    weight = torch.ones(1000)
    assert not writer.is_due(9)
    assert writer.is_due(10)
    writer.save({"model": {"weight": weight}, "seeds": [1, 2]}, case="hybrid", epoch=0, step=10)
    weight.zero_()
    writer.wait()
    assert float(load_checkpoint(tmp_path / "step-000000010.pt")["model"]["weight"].sum()) == 1000.0
    assert not writer.is_due(19)
    now = 161.0
    assert writer.is_due(11)
    for step in (20, 30, 40):
        writer.save({"model": {}}, case="hybrid", epoch=0, step=step)
    writer.wait()
    assert [info.step for info in list_checkpoints(tmp_path)] == [40, 30]
    assert [event.step for event in events if isinstance(event, CheckpointWritten)] == [10, 20, 30, 40]


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    events: list[RankEvent] = []
    writer = Checkpointer(blocked / "checkpoints", events.append, every_steps=1)
    for step in (1, 2):
        writer.save({"model": {}}, case="", epoch=0, step=step)
        writer.wait()
    (event,) = events
    assert isinstance(event, CheckpointWritten)
    assert "Not a directory" in event.error


def test_before_the_end_of_its_time_a_run_writes_one_more_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    wall = 1e9
    monkeypatch.setenv("PACELINE_ENDS_AT", str(wall + 600.0))
    monkeypatch.setattr("paceline.engine.training.checkpoints.writer.time.time", lambda: wall)
    writer = Checkpointer(tmp_path, lambda event: None, every_steps=1000, clock=lambda: now)
    now = 509.0
    assert not writer.is_due(7)
    now = 511.0
    assert writer.is_due(7)
    writer.save({"model": {}}, case="", epoch=0, step=7)
    writer.wait()
    assert not writer.is_due(8)
    assert seconds_left({"PACELINE_ENDS_AT": "soon"}, 0.0) is None
