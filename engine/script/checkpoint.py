"""The checkpoint of a library script: one file after every epoch, complete or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ..errors import DataRefused, StorageFailed

FORMAT = 1


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
        missing = sorted(set(self.parts) - set(state.get("parts", {})))
        if missing:
            raise DataRefused(f"{self.path} holds no {', '.join(missing)}", hint="remove it to begin again")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["random"].cpu())
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
