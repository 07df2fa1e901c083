"""Queue of the frames of one stream, between the link that receives them and the reader; bounded by the flow window."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from ...protocol.frames import FrameRefused
from ...protocol.messages import Frame
from ...ssh.link import Link

FLOW_WINDOW_BYTES = 4 << 20
"""Bytes in flight that are not acknowledged yet: a link with 100 ms round trip carries 40 MB/s with it."""
GENERATIONS = itertools.count(1)
"""A number per stream, never used twice by this process; an agent serves one process."""


class FrameQueue:
    """Receives the frames of one stream."""

    def __init__(self) -> None:
        self.gen = next(GENERATIONS)
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._queued_bytes = 0

    def on_frame(self, frame: Any) -> None:
        """Listener of the link: queues the frames of this stream and ignores all others."""
        if isinstance(frame, dict) and frame.get("gen") == self.gen:
            self._queued_bytes += _size(frame)
            self._frames.put_nowait(frame if self._queued_bytes <= 2 * FLOW_WINDOW_BYTES else {**frame, "data": None})

    @contextlib.contextmanager
    def listen(self, link: Link) -> Iterator[None]:
        """Receive frames of this link until the block ends. The link outlives the stream, so the listeners are removed."""
        stop = link.on_frame(self.on_frame)
        link.lost.add_done_callback(self._on_link_lost)
        try:
            yield
        finally:
            link.lost.remove_done_callback(self._on_link_lost)
            stop()

    def _on_link_lost(self, lost: asyncio.Future[str]) -> None:
        self._frames.put_nowait(None)

    async def next_frame(self) -> Frame | None:
        """The next frame; None when the link is lost. Raises FrameRefused when the node exceeded the window."""
        frame = await self._frames.get()
        if frame is None:
            return None
        if self._queued_bytes > 2 * FLOW_WINDOW_BYTES:
            raise FrameRefused(
                f"{self._queued_bytes >> 20} MiB arrived unacknowledged, the window is {FLOW_WINDOW_BYTES >> 20} MiB"
            )
        self._queued_bytes -= _size(frame)
        return frame


def _size(frame: Frame) -> int:
    data = frame.get("data")
    return len(data) if isinstance(data, str) else 0
