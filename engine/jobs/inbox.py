"""Frames of one asking, between the link that hears them and the follower that writes them down; never more than was asked for."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from ..agent.frames import FrameRefused

WINDOW = 4 << 20
"""Bytes on their way that are not written down yet: what a link of 100 ms carries at 40 MB/s."""
GENERATIONS = itertools.count(1)
"""One number an asking, never used again by this process: an agent serves one process."""


class Inbox:
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

    def close(self) -> None:
        """The link is no more."""
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
