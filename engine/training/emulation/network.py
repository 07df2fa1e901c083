"""An emulated network: each all-reduce completes when a ring of such links would have carried it.

The real sum runs first; then its bytes take latency and bandwidth of the emulated link, one message after another, as on a wire. A
thread completes the futures, so computation goes on in the meantime and overlap is real. No other module reads the emulated link of
a plan: profiles measure through it.
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

_MIN_JITTER_FACTOR = 0.2
"""Lower bound of the jitter factor: every message takes some time."""

Future = torch.futures.Future[Any]


class EmulatedLink:
    """This rank's end of the ring. Every rank draws the same delays, because a ring is as slow as its slowest hop."""

    def __init__(self, spec: LinkSpec, world_size: int, seed: int) -> None:
        self._spec, self._world_size = spec, world_size
        self._random = random.Random(f"link {seed}")
        self._free_at = 0.0
        """Time at which the wire has carried all messages."""
        self._due: list[tuple[float, int, Future, Any]] = []
        self._sequence = itertools.count()
        self._condition = threading.Condition()
        threading.Thread(target=self._deliver, daemon=True).start()

    def ring_seconds(self, size: int) -> float:
        """Draw the seconds of an all-reduce of that many bytes on an idle wire."""
        hops = 2 * (self._world_size - 1)
        return self._jittered(hops * self._spec.latency + hops / self._world_size * size / self._spec.bandwidth)

    def hop_seconds(self, size: int) -> float:
        """Draw the seconds of one message of that many bytes to one peer."""
        return self._jittered(self._spec.latency + size / self._spec.bandwidth)

    def deliver_after(self, done: Future, seconds: float) -> Future:
        """Return a future with the value of ``done``, ready after the wire carried all earlier messages and it for these seconds.

        Draw the seconds in the same order on all ranks, so that all ranks draw the same.
        """
        delivered: Future = torch.futures.Future()

        def begin(finished: Future) -> None:
            with self._condition:
                self._free_at = max(self._free_at, time.perf_counter()) + seconds
                heapq.heappush(self._due, (self._free_at, next(self._sequence), delivered, finished))
                self._condition.notify()

        done.add_done_callback(begin)
        return delivered

    def _jittered(self, seconds: float) -> float:
        return seconds * max(_MIN_JITTER_FACTOR, self._random.gauss(1.0, self._spec.jitter)) if self._spec.jitter else seconds

    def _deliver(self) -> None:
        while True:
            with self._condition:
                while not self._due:
                    self._condition.wait()
                at, _, delivered, finished = self._due[0]
                left = at - time.perf_counter()
                if left > 0:
                    self._condition.wait(left)
                    continue
                heapq.heappop(self._due)
            try:
                delivered.set_result(finished.value())
            except Exception as error:  # the sum failed: raise in the waiting thread, not in this one
                delivered.set_exception(error)
