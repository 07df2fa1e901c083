"""A network that is not there: sums of gradients are handed on when a ring of such links would have carried them.

The real sum goes first; then its bytes take latency and bandwidth of the played link, one message after another, as on a wire. A
thread hands them on, so what computes meanwhile goes on computing and overlap stays real. This is the only reader of a declared
link: profiles measure through it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from typing import Any

import torch

from ...specs import LinkSpec

_LEAST = 0.2
"""Bound of jitter from below: no draw makes a message take no time."""

Future = torch.futures.Future[Any]


class EmulatedLink:
    """This rank's end of the ring. Every rank plays the same delays, for a ring is as slow as its slowest hop."""

    def __init__(self, spec: LinkSpec, world_size: int, seed: int) -> None:
        self._spec, self._world_size = spec, world_size
        self._random = random.Random(f"link {seed}")
        self._free_at = 0.0
        """When the wire has carried what is on it."""
        self._due: list[tuple[float, int, Future, Any]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._deliver, daemon=True).start()

    def ring_seconds(self, size: int) -> float:
        """What an all-reduce of so many bytes takes on an idle wire, this time."""
        hops = 2 * (self._world_size - 1)
        return self._jittered(hops * self._spec.latency + hops / self._world_size * size / self._spec.bandwidth)

    def hop_seconds(self, size: int) -> float:
        """What one message of so many bytes to one peer takes, this time."""
        return self._jittered(self._spec.latency + size / self._spec.bandwidth)

    def carry(self, done: Future, seconds: float) -> Future:
        """A future with the value of ``done`` that is ready when the wire has carried it for so many seconds, after all before it.

        Collective where the seconds are drawn: all ranks ask in the same order, so that all draw alike.
        """
        arrived: Future = torch.futures.Future()

        def begin(finished: Future) -> None:
            with self._changed:
                self._free_at = max(self._free_at, time.perf_counter()) + seconds
                heapq.heappush(self._due, (self._free_at, next(self._numbers), arrived, finished))
                self._changed.notify()

        done.add_done_callback(begin)
        return arrived

    def _jittered(self, seconds: float) -> float:
        return seconds * max(_LEAST, self._random.gauss(1.0, self._spec.jitter)) if self._spec.jitter else seconds

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                at, _, arrived, finished = self._due[0]
                left = at - time.perf_counter()
                if left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._due)
            try:
                arrived.set_result(finished.value())
            except Exception as error:  # the sum itself broke: whoever waits is told so, not this thread
                arrived.set_exception(error)
