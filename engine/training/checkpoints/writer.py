"""Checkpoints written beside training: a step waits only until the weights are copied off the device.

One thread writes the copy aside, syncs it, renames it, and makes it visible last (protocol/checkpoints.py). A write that fails, for
instance on a full disk, is reported once and does not end the run. See docs/design/durable-runs.md.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import DataRefused
from ...events import CheckpointWritten, RankEvent
from ...protocol.checkpoints import (
    CHECKPOINT_FORMAT,
    CheckpointInfo,
    checkpoint_name,
    checkpoints_to_remove,
    digest_of_file,
    list_checkpoints,
    remove_checkpoint,
    remove_half_written,
    write_info,
)
from ...protocol.run_files import ENDS_AT_VARIABLE

LAST_CALL_S = 90.0
"""Seconds before the end of its time at which a run writes one more checkpoint."""


def seconds_left(environment: Mapping[str, str], now: float) -> float | None:
    """Seconds until a scheduler stops this run, by its environment; None: it has no time limit. Pure. ``now``: since 1970."""
    try:
        return float(environment[ENDS_AT_VARIABLE]) - now
    except (KeyError, ValueError):
        return None


def copy_off_device(value: Any) -> Any:
    """The same nested value with every tensor copied to the memory of the host, detached from what training changes."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_off_device(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copy_off_device(item) for item in value)
    return value


class Checkpointer:
    """Writes the checkpoints of one rank; every other step costs it one comparison."""

    def __init__(
        self,
        directory: Path,
        write_event: Callable[[RankEvent], None],
        *,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``every_steps`` and ``every_seconds``: None for no limit of that kind. ``keep``: last ones that stay, beside the best."""
        self._directory, self._write_event, self._clock = directory, write_event, clock
        self._every_steps, self._every_seconds, self._keep = every_steps, every_seconds, keep
        self._last_step, self._last_time = 0, clock()
        left = seconds_left(os.environ, time.time())
        self._last_call = None if left is None else clock() + left - LAST_CALL_S
        """When one more checkpoint is due, as the run will be stopped soon; None: nobody stops it, or that one is written."""
        self._thread: threading.Thread | None = None
        self._failure = ""
        remove_half_written(directory)

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after so many steps. Not while the last one is still written."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._last_call is not None and self._clock() >= self._last_call:
            return step > self._last_step
        by_steps = self._every_steps is not None and step - self._last_step >= self._every_steps
        return by_steps or (self._every_seconds is not None and self._clock() - self._last_time >= self._every_seconds)

    def save(self, state: Mapping[str, Any], *, case: str, epoch: int, step: int, score: float | None = None) -> None:
        """Copy the state and write it beside training. Waits for the write before, so that copies never pile up."""
        started = self._clock()
        self.wait()
        copied = copy_off_device({**state, "format": CHECKPOINT_FORMAT, "case": case, "epoch": epoch, "step": step})
        stall = self._clock() - started
        self._last_step, self._last_time = step, self._clock()
        if self._last_call is not None and self._last_time >= self._last_call:
            self._last_call = None
        self._thread = threading.Thread(
            target=self._write, args=(copied, case, epoch, step, score, stall), name="checkpoint", daemon=True
        )
        self._thread.start()

    def withdraw(self, step: int) -> None:
        """Remove the checkpoints after a step that turned out void: their place in the data is beyond what was trained."""
        self.wait()
        for info in list_checkpoints(self._directory):
            if info.step > step:
                remove_checkpoint(self._directory, info)

    def wait(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, state: dict[str, Any], case: str, epoch: int, step: int, score: float | None, stall: float) -> None:
        started = self._clock()
        try:
            info = write_checkpoint(self._directory, state, case=case, epoch=epoch, step=step, score=score)
            for old in checkpoints_to_remove([one for one in list_checkpoints(self._directory) if one.case == case], self._keep):
                remove_checkpoint(self._directory, old)
        except Exception as error:  # no failure of a checkpoint may end the training
            self._report_failure(step, f"{type(error).__name__}: {error}")
            return
        self._failure = ""
        with contextlib.suppress(Exception):
            self._write_event(
                CheckpointWritten(
                    name=info.name,
                    epoch=epoch,
                    step=step,
                    size=info.size,
                    sha256=info.sha256,
                    stall_seconds=stall,
                    write_seconds=self._clock() - started,
                )
            )

    def _report_failure(self, step: int, reason: str) -> None:
        """Publish a failure once, and again only after a checkpoint that succeeded."""
        if not self._failure:
            with contextlib.suppress(Exception):
                self._write_event(CheckpointWritten(step=step, error=reason[:500]))
        self._failure = reason


def write_checkpoint(
    directory: Path, state: Mapping[str, Any], *, case: str, epoch: int, step: int, score: float | None = None
) -> CheckpointInfo:
    """Write a checkpoint, complete or not at all. Raises OSError, StorageFailed, or RuntimeError of torch."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / checkpoint_name(step)
    aside = directory / f".{path.name}.{os.getpid()}"
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        size, sha256 = digest_of_file(aside)
        with contextlib.suppress(FileNotFoundError):  # an earlier one of this step, invisible from here on
            path.with_suffix(".json").unlink()
        os.rename(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    info = CheckpointInfo(
        name=path.name, epoch=epoch, step=step, size=size, sha256=sha256, written=time.time(), case=case, score=score
    )
    write_info(directory, info)
    return info


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint. Only tensors and plain values are read, never code.

    Raises DataRefused for a file that is no checkpoint of this format or a later one.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataRefused(f"{path.name} is no checkpoint that can be read: {reason[:200]}", hint="name another one") from None
    if not isinstance(state, dict) or "format" not in state:
        raise DataRefused(f"{path.name} is no checkpoint of Paceline", hint="name another one")
    if state["format"] != CHECKPOINT_FORMAT:
        raise DataRefused(f"{path.name} has format {state['format']}, this version reads {CHECKPOINT_FORMAT}")
    return state
