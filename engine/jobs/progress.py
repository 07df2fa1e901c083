"""How far a phase of a launch is, told at most once a second, with the time that is left at the pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..events import Event, RunPrepared

SPACING = 1.0
"""Seconds between two tellings."""


class Progress:
    """So much of a whole is done. The phase keeps its name; what grows is its fraction."""

    def __init__(
        self, phase: str, whole: float, publish: Callable[[Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._phase, self._whole, self._publish, self._clock = phase, whole, publish, clock
        self._done = 0.0
        self._began = self._told = clock()
        publish(RunPrepared(phase=phase, fraction=0.0 if whole > 0 else None))

    def add(self, amount: float) -> None:
        """So much more is done."""
        self._done += amount
        now = self._clock()
        if self._whole <= 0 or now - self._told < SPACING:
            return
        self._told = now
        fraction = min(1.0, self._done / self._whole)
        left = (now - self._began) * (1.0 - fraction) / fraction if fraction > 0 else None
        self._publish(RunPrepared(phase=self._phase, fraction=fraction, seconds_left=left))
