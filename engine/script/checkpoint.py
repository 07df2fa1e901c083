"""The checkpoints of a library script: a file of its own after every epoch, and under Paceline those of the run.

The checkpoints of the run are written beside training, as those of a workload are, and a later run goes on from one in the middle
of an epoch, on any devices. docs/design/durable-runs.md
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..errors import DataRefused, StorageFailed
from ..training.checkpoints.writer import Checkpointer

FORMAT = 1


class RunCheckpoints:
    """What one rank writes of the checkpoints of its run, and the one that the run goes on from."""

    def __init__(self, writer: Checkpointer | None, resumed: dict[str, Any] | None, *, workload: str, case: str) -> None:
        """``writer``: None on a rank that writes none; ``resumed``: the state of another run, on all ranks."""
        self._writer, self._resumed = writer, resumed
        self._workload, self._case = workload, case
        self._steps_before = 0 if resumed is None else int(resumed["step"])

    @property
    def is_resumed(self) -> bool:
        """Whether the run goes on from a checkpoint."""
        return self._resumed is not None

    def restore(self, parts: dict[str, Any]) -> tuple[int, int]:
        """Load the resumed state into all parts; return its epoch and the samples of it that are trained.

        Raises DataRefused where it lacks a part.
        """
        assert self._resumed is not None
        load_parts(parts, self._resumed, "the checkpoint to resume from")
        place = self._resumed["place"]
        return int(place["epoch"]), int(place["offset"])

    def save_if_due(self, parts: dict[str, Any], epoch: int, offset: int, steps: int) -> None:
        """Write a checkpoint if its time has come. ``offset``: trained samples of the epoch; ``steps``: taken in this run."""
        if self._writer is not None and parts and self._writer.is_due(self._steps_before + steps):
            self.save(parts, epoch, offset, steps)

    def save(self, parts: dict[str, Any], epoch: int, offset: int, steps: int) -> None:
        """Write a checkpoint; its failure is an event and does not end the training."""
        if self._writer is None or not parts:
            return
        state = {
            "workload": self._workload,
            "parts": {name: part.state_dict() for name, part in parts.items()},
            "place": {"epoch": epoch, "offset": offset},
            "random": torch.get_rng_state(),
        }
        self._writer.save(state, case=self._case, epoch=epoch, step=self._steps_before + steps)

    def close(self) -> None:
        """Wait until the last one is written."""
        if self._writer is not None:
            self._writer.wait()


def load_parts(parts: dict[str, Any], state: dict[str, Any], source: str) -> None:
    """Load a state into what a script keeps. Raises DataRefused where it lacks a part, or holds one of another shape."""
    missing = sorted(set(parts) - set(state.get("parts", {})))
    if missing:
        raise DataRefused(f"{source} holds no {', '.join(missing)}", hint="keep what it was written with, or begin again")
    for name, part in parts.items():
        try:
            part.load_state_dict(state["parts"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DataRefused(f"{name} does not take what {source} holds: {reason}", hint="begin again") from None
    torch.set_rng_state(state["random"].cpu())


class Checkpoint:
    """What a script keeps, and the file it is kept in."""

    def __init__(self, path: Path | None, rank: int, world: int, device: torch.device) -> None:
        self.path, self._rank, self._world, self._device = path, rank, world, device
        self.parts: dict[str, Any] = {}

    def restore(self) -> int:
        """Load the file into all parts on every rank, if rank 0 has one; return the epochs that are done. Collective.

        Raises DataRefused where it is another script's.
        """
        if self.path is None:
            return 0
        state: dict[str, Any] | None = None
        if self._rank == 0 and self.path.exists():
            try:
                state = torch.load(self.path, map_location=self._device, weights_only=True)
            except Exception as error:
                raise DataRefused(f"{self.path} cannot be read: {error}", hint="remove it to begin again") from None
        if self._world > 1 and dist.is_initialized():
            box = [state]
            dist.broadcast_object_list(box, device=self._device if self._device.type == "cuda" else None)
            state = box[0]
        if state is None:
            return 0
        load_parts(self.parts, state, str(self.path))
        return int(state["epochs"])

    def save(self, epochs: int) -> None:
        """Write the file aside and rename it, on rank 0. Raises StorageFailed."""
        if self.path is None or self._rank != 0:
            return
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        aside = self.path.with_name(f".{self.path.name}.part")
        try:
            with aside.open("wb") as file:
                torch.save({"format": FORMAT, "epochs": epochs, "parts": parts, "random": torch.get_rng_state()}, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise StorageFailed(f"cannot write {self.path}: {error.strerror}", hint="free some space there") from None
