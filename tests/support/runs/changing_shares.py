"""Shares that are drawn anew for every batch, ranks without samples among them, in place of the balancer's."""

from __future__ import annotations

import itertools
import random

import torch
from paceline.engine.script.balance import Balance
from paceline.engine.script.recorder import ScriptRecorder
from paceline.engine.script.session import ScriptSession
from paceline.engine.script.timing import timer_for


class ChangingShares(Balance):
    """The same draws on every rank. ``low``: least samples of a rank, 0 for none."""

    def __init__(self, global_batch_size: int, world: int, seed: int = 0, least: int = 0) -> None:
        super().__init__("dynamic", global_batch_size, world, 1)
        self._draw, self._world, self._least = random.Random(seed), world, least

    @property
    def sizes(self) -> tuple[int, ...]:
        return (-1,) * self._world  # no step is one of the balancer's

    def sizes_for(self, samples: int) -> tuple[int, ...]:
        spare = samples - self._least * self._world
        if spare < 0:
            return (samples, *[0] * (self._world - 1))
        cuts = [0, *sorted(self._draw.choices(range(spare + 1), k=self._world - 1)), spare]
        return tuple(self._least + right - left for left, right in itertools.pairwise(cuts))


def script_session(rank: int, world: int, *, is_library: bool = False) -> ScriptSession:
    device = torch.device("cpu")
    recorder = ScriptRecorder()
    return ScriptSession(
        rank=rank, world=world, device=device, timer=timer_for(device), policy="dynamic", is_library=is_library, recorder=recorder
    )
