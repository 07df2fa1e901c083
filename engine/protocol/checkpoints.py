"""Checkpoints of a run on disk: their names, how they become visible, and which of them is the newest sound one.

A checkpoint is ``checkpoints/step-<step>.pt`` and, written last, ``step-<step>.json`` with its size and SHA-256. Without that file
it is a half one and counts as absent, wherever the writer was stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .json_files import read_json, write_json
from .regular_files import open_regular

CHECKPOINT_DIR = "checkpoints"
"""Directory of a run, on each node that keeps a copy."""
CHECKPOINT_FORMAT = 1
RESUME_FILE = "checkpoint.pt"
"""The checkpoint of a resumed run, in ``data/<its SHA-256>`` of every node."""
_NAME = re.compile(r"step-\d{9}\.json")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What stands beside a checkpoint."""

    name: str
    """Of the file, such as ``step-000000120.pt``."""
    epoch: int
    """Of the next step, from 0."""
    step: int
    """Steps taken."""
    size: int
    sha256: str
    written: float
    """Clock of the node, seconds since 1970."""
    case: str = ""
    score: float | None = None
    """How good the model is by its validation, higher is better; None where it was not evaluated. The best one is kept."""

    @property
    def is_well_named(self) -> bool:
        """Whether the name is that of its step, and so no path to somewhere else."""
        return self.name == checkpoint_name(self.step)


def checkpoint_name(step: int) -> str:
    """Name of the file after a number of steps."""
    return f"step-{step:09d}.pt"


def write_info(directory: Path, info: CheckpointInfo) -> None:
    """Make a written checkpoint visible. Raises StorageFailed."""
    write_json(directory / Path(info.name).with_suffix(".json").name, asdict(info))


def list_checkpoints(directory: Path) -> list[CheckpointInfo]:
    """The complete checkpoints of a directory, newest first. Content is not read: see ``is_sound``."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if _NAME.fullmatch(name) and (info := read_info(directory, name)) is not None:
                found.append(info)
    return sorted(found, key=lambda info: info.step, reverse=True)


def is_sound(directory: Path, info: CheckpointInfo) -> bool:
    """Whether the file has the length and SHA-256 that stand beside it. Reads all of it."""
    try:
        return digest_of_file(directory / info.name) == (info.size, info.sha256)
    except OSError:
        return False


def newest_sound(directory: Path) -> CheckpointInfo | None:
    """The newest checkpoint of a directory whose content is whole; None if there is none."""
    return next((info for info in list_checkpoints(directory) if is_sound(directory, info)), None)


def digest_of_file(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file. Raises OSError."""
    digest, length = hashlib.sha256(), 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            length += len(block)
    return length, digest.hexdigest()


def remove_checkpoint(directory: Path, info: CheckpointInfo) -> None:
    """Remove a checkpoint, the file beside it first: what is left of an interrupted removal counts as absent."""
    for name in (Path(info.name).with_suffix(".json").name, info.name):
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()


def remove_half_written(directory: Path) -> None:
    """Remove what interrupted writers left: temporary files, and checkpoints without the file beside them."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            is_half = name.endswith(".pt") and not (directory / Path(name).with_suffix(".json").name).exists()
            if name.startswith(".") or is_half:
                with contextlib.suppress(OSError):
                    (directory / name).unlink()


def checkpoints_to_remove(infos: list[CheckpointInfo], keep: int) -> list[CheckpointInfo]:
    """Those that are neither among the last ``keep`` nor the best by its score. ``infos``: newest first, of one case. Pure."""
    scores = [info.score for info in infos if info.score is not None]
    best = next((info for info in infos if scores and info.score == max(scores)), None)
    return [info for info in infos[max(1, keep) :] if info is not best]


def read_info(directory: Path, name: str) -> CheckpointInfo | None:
    """What stands beside a checkpoint; None where it is missing or no such document. ``name``: of that file."""
    document: dict[str, Any] | None = read_json(directory / name)
    known = {field.name for field in fields(CheckpointInfo)}
    try:
        info = CheckpointInfo(**{key: value for key, value in (document or {}).items() if key in known})
        is_valid = info.name == Path(name).with_suffix(".pt").name and info.is_well_named
        return info if is_valid and isinstance(info.size, int) and isinstance(info.sha256, str) else None
    except (TypeError, ValueError):
        return None
