"""Frames of one asking, between the link that hears them and the follower that writes them down; never more than was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from ...protocol.frames import FrameRefused
from ...ssh.link import Link

WINDOW = 4 << 20
"""Bytes on their way that are not written down yet: what a link of 100 ms carries at 40 MB/s."""
GENERATIONS = itertools.count(1)
"""One number an asking, never used again by this process: an agent serves one process."""


class FrameQueue:
    """Takes the frames of one generation from a link's listener."""

    def __init__(self) -> None:
        self.gen = next(GENERATIONS)
        self._frames: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._held = 0

    def hear(self, frame: Any) -> None:
        """A listener of the link: keeps what belongs to this asking, whatever else a node may send."""
        if isinstance(frame, dict) and frame.get("gen") == self.gen:
            self._held += _size(frame)
            self._frames.put_nowait(frame if self._held <= 2 * WINDOW else {**frame, "data": None})

    @contextlib.contextmanager
    def open(self, link: Link) -> Iterator[None]:
        """Hear this link until the block ends. A link lives on for many askings: nothing of us stays with it."""
        stop = link.on_frame(self.hear)
        link.lost.add_done_callback(self._hang_up)
        try:
            yield
        finally:
            link.lost.remove_done_callback(self._hang_up)
            stop()

    def _hang_up(self, lost: asyncio.Future[str]) -> None:
        self._frames.put_nowait(None)

    async def next(self) -> dict[str, Any] | None:
        """The next frame; None when the link is lost. Raises FrameRefused when the node sent more than it may."""
        frame = await self._frames.get()
        if frame is None:
            return None
        if self._held > 2 * WINDOW:
            raise FrameRefused(f"{self._held >> 20} MiB came at once, though {WINDOW >> 20} were asked for")
        self._held -= _size(frame)
        return frame


def _size(frame: dict[str, Any]) -> int:
    data = frame.get("data")
    return len(data) if isinstance(data, str) else 0
