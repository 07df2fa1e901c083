"""How far long work is, told a few times a second at most: how much of how much, and the time that is left at the pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..events import Event, Progress

SPACING = 0.3
"""Seconds between two tellings."""
WONDER = 0.5
"""Seconds that parcels may take before a word is said of them."""
Publish = Callable[[Event], None]


class ProgressReporter:
    """So much of a whole is done. The phase keeps its name; what grows is its fraction."""

    def __init__(
        self, phase: str, whole: float, publish: Publish, unit: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``unit``: of the whole, as people count it, such as ``nodes``; ``bytes`` are told in MiB; empty: only the fraction is."""
        self._phase, self._whole, self._publish, self._unit, self._clock = phase, whole, publish, unit, clock
        self._done = 0.0
        self._began = self._told = clock()
        publish(Progress(phase=phase, fraction=0.0 if whole > 0 else None, detail=amount(0.0, whole, unit)))

    def add(self, more: float) -> None:
        """So much more is done."""
        self.at(self._done + more)

    def at(self, done: float) -> None:
        """So much is done by now."""
        if done == self._done:
            return
        self._done = done
        now = self._clock()
        if self._whole <= 0 or now - self._told < SPACING:
            return
        self._told = now
        fraction = min(1.0, self._done / self._whole)
        left = (now - self._began) * (1.0 - fraction) / fraction if fraction > 0 else None
        detail = amount(self._done, self._whole, self._unit)
        self._publish(Progress(phase=self._phase, fraction=fraction, seconds_left=left, detail=detail))


class TransferProgress:
    """Bytes on their way to several machines at once, told as one; of what is quickly there nothing is said."""

    def __init__(self, phase: str, publish: Publish, clock: Callable[[], float] = time.monotonic) -> None:
        self._phase, self._publish, self._clock = phase, publish, clock
        self._open = self._whole = self._done = 0
        self._began = self._told = 0.0
        self._is_told = False

    @contextmanager
    def part(self, size: int) -> Iterator[Callable[[int], None]]:
        """One more parcel of so many bytes: what is given hears how many more of them were taken. One that fails is not counted."""
        if not self._open:
            self._whole = self._done = 0
            self._began = self._clock()
            self._told = self._began + WONDER - SPACING
        self._open += 1
        self._whole += size
        left = size

        def sent(more: int) -> None:
            nonlocal left
            left -= more
            self._done += more
            self._tell()

        try:
            yield sent
        finally:
            self._open -= 1
            self._whole -= left
            if not self._open and self._is_told:
                self._is_told = False
                self._publish(Progress())

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told < SPACING or self._whole <= 0:
            return
        self._told, self._is_told = now, True
        fraction = min(1.0, self._done / self._whole)
        left = (now - self._began) * (1.0 - fraction) / fraction if fraction > 0 else None
        detail = amount(self._done, self._whole, "bytes")
        self._publish(Progress(phase=self._phase, fraction=fraction, seconds_left=left, detail=detail))


def amount(done: float, whole: float, unit: str) -> str:
    """``3.1 of 12.3 MiB``, ``2 of 4 nodes``; nothing where there is no unit or no whole."""
    if not unit or whole <= 0:
        return ""
    if unit != "bytes":
        return f"{done:.0f} of {whole:.0f} {unit}"
    scale, name = (2**20, "MiB") if whole >= 2**20 else (2**10, "KiB")
    return f"{done / scale:.1f} of {whole / scale:.1f} {name}"
