"""Devices of a node whose processes were lost: when each is started again, and which of the new processes are ready to join.

A device whose process is lost again and again is started again more and more rarely: every return costs the run a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from math import inf
from typing import Any

from ...errors import WorkFailed
from ..system.timeout import with_timeout

RETURN_DELAYS_S = (1.0, 10.0, 60.0, 300.0)
"""Seconds until a device is started again after its first loss, its second, and so on; the last one counts for all later ones."""
COMPANY_S = 5.0
"""Seconds for which a process that is ready waits for others of its node, so that one change takes in all of them."""
LONGEST_WAIT_S = 3600.0

Message = dict[str, Any]


class Returns:
    """The lost devices of one node. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._losses: dict[int, int] = {}
        self._due: dict[int, float] = {}
        """When each is to be started; infinite: its process is on its way."""
        self._ready: dict[int, tuple[float, asyncio.Future[Message]]] = {}
        self._changed = asyncio.Event()
        self._is_over = False

    def lose(self, device: int) -> None:
        """The process of the rank has ended: start it again after a delay. A loss that is reported twice counts once."""
        if self._due.get(device, inf) != inf:
            return
        self._losses[device] = self._losses.get(device, 0) + 1
        _, answer = self._ready.pop(device, (0.0, None))
        if answer is not None:
            answer.cancel()
        self._due[device] = self._clock() + RETURN_DELAYS_S[min(self._losses[device], len(RETURN_DELAYS_S)) - 1]
        self._changed.set()

    def start_now(self, device: int) -> None:
        """A person wants it back: nothing that was lost before counts."""
        self._losses.pop(device, None)
        self._due[device] = self._clock()
        self._changed.set()

    def is_expected(self, device: int) -> bool:
        """Whether a new process of it is due, on its way or ready."""
        return device in self._due or device in self._ready

    def rest(self) -> None:
        """Start nothing again until further notice; processes that are ready end."""
        self._due.clear()
        for _, answer in self._ready.values():
            if not answer.done():
                answer.set_exception(WorkFailed("the run goes on without this process"))
        self._ready.clear()

    def end(self) -> None:
        """The run is over."""
        self._is_over = True
        self.rest()
        self._changed.set()

    async def next_start(self) -> Message:
        """Wait for the next device to start: {"rank"}, or {"is_over"}."""
        while not self._is_over:
            self._changed.clear()
            due, device = min(((due, device) for device, due in self._due.items()), default=(inf, -1))
            if due <= self._clock():
                self._due[device] = inf  # on its way
                return {"rank": device}
            with contextlib.suppress(asyncio.TimeoutError):
                await with_timeout(min(due - self._clock(), LONGEST_WAIT_S), self._changed.wait())
        return {"is_over": True}

    async def join(self, device: int) -> Message:
        """A new process is ready: wait until the run takes it in, and return the group. Raises WorkFailed where it never will."""
        if device not in self._due:
            raise WorkFailed("the run goes on without this process")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._due.pop(device, None)
        self._ready[device] = self._clock(), answer
        return await answer

    def ready(self) -> tuple[int, ...]:
        """Devices that may join now: all that are ready, unless others of this node are about to be."""
        now = self._clock()
        is_alone = not any(due == inf or due - now < COMPANY_S for due in self._due.values())
        is_patience_over = any(now - since >= COMPANY_S for since, _ in self._ready.values())
        return tuple(sorted(self._ready)) if is_alone or is_patience_over else ()

    def admit(self, device: int, group: Message) -> bool:
        """The run has taken a device in. Returns whether its process is still there."""
        _, answer = self._ready.pop(device, (0.0, None))
        if answer is None or answer.done():
            return False
        answer.set_result(group)
        return True
