"""Progress of long work, published a few times a second at most: the fraction done and the time left at the rate so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..events import Progress
from .bus import Publish

MIN_PUBLISH_INTERVAL = 0.3
"""Seconds between two progress events."""
MIN_TRANSFER_SECONDS = 0.5
"""Transfers shorter than this, in seconds, publish nothing."""


class ProgressReporter:
    """Progress of one phase with a known total."""

    def __init__(
        self, phase: str, total: float, publish: Publish, unit: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``unit`` of the total, such as ``nodes``; ``bytes`` are shown in MiB; empty: no amount is shown, only the fraction."""
        self._phase, self._total, self._publish, self._unit, self._clock = phase, total, publish, unit, clock
        self._done = 0.0
        self._started_at = self._published_at = clock()
        publish(Progress(phase=phase, fraction=0.0 if total > 0 else None, detail=format_amount(0.0, total, unit)))

    def add(self, more: float) -> None:
        """Add to the amount done."""
        self.update(self._done + more)

    def update(self, done: float) -> None:
        """Set the amount done."""
        if done == self._done:
            return
        self._done = done
        now = self._clock()
        if self._total <= 0 or now - self._published_at < MIN_PUBLISH_INTERVAL:
            return
        self._published_at = now
        fraction = min(1.0, self._done / self._total)
        left = (now - self._started_at) * (1.0 - fraction) / fraction if fraction > 0 else None
        detail = format_amount(self._done, self._total, self._unit)
        self._publish(Progress(phase=self._phase, fraction=fraction, seconds_left=left, detail=detail))


class TransferProgress:
    """Progress of concurrent transfers to several machines, published as one phase. Short transfers publish nothing."""

    def __init__(self, phase: str, publish: Publish, clock: Callable[[], float] = time.monotonic) -> None:
        self._phase, self._publish, self._clock = phase, publish, clock
        self._open = self._total = self._done = 0
        self._started_at = self._published_at = 0.0
        self._is_shown = False

    @contextmanager
    def transfer(self, size: int) -> Iterator[Callable[[int], None]]:
        """Count one transfer of ``size`` bytes. The yielded function takes each number of bytes sent. Failed ones do not count."""
        if not self._open:
            self._total = self._done = 0
            self._started_at = self._clock()
            self._published_at = self._started_at + MIN_TRANSFER_SECONDS - MIN_PUBLISH_INTERVAL
        self._open += 1
        self._total += size
        unsent = size

        def sent(more: int) -> None:
            nonlocal unsent
            unsent -= more
            self._done += more
            self._publish_progress()

        try:
            yield sent
        finally:
            self._open -= 1
            self._total -= unsent
            if not self._open and self._is_shown:
                self._is_shown = False
                self._publish(Progress())

    def _publish_progress(self) -> None:
        now = self._clock()
        if now - self._published_at < MIN_PUBLISH_INTERVAL or self._total <= 0:
            return
        self._published_at, self._is_shown = now, True
        fraction = min(1.0, self._done / self._total)
        left = (now - self._started_at) * (1.0 - fraction) / fraction if fraction > 0 else None
        detail = format_amount(self._done, self._total, "bytes")
        self._publish(Progress(phase=self._phase, fraction=fraction, seconds_left=left, detail=detail))


def format_amount(done: float, total: float, unit: str) -> str:
    """``3.1 of 12.3 MiB``, ``2 of 4 nodes``; empty without a unit or a total."""
    if not unit or total <= 0:
        return ""
    if unit != "bytes":
        return f"{done:.0f} of {total:.0f} {unit}"
    scale, name = (2**20, "MiB") if total >= 2**20 else (2**10, "KiB")
    return f"{done / scale:.1f} of {total / scale:.1f} {name}"
