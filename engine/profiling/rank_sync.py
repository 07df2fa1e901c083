"""Synchronisation of ranks through the run's store: measuring in turn, with a timeout for ranks that are late or gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.distributed import Store  # type: ignore[attr-defined]  # torch re-exports it implicitly

SYNC_POLL_S = 0.02
"""Seconds between two polls of a key: waiting ranks use next to no CPU and disturb no measurement."""


@dataclass(slots=True)
class RankSync:
    """One rank's access to the store that all ranks have joined."""

    rank: int
    store: Store

    def publish(self, key: str, value: str = "") -> None:
        """Publish a value of this rank under a key."""
        self.store.set(f"profile/{key}/{self.rank}", value or "-")

    def collect(self, key: str, ranks: Sequence[int], timeout: float) -> dict[int, str]:
        """Return the values of these ranks, once all are published or after ``timeout`` seconds without the missing ones."""
        deadline = time.monotonic() + timeout
        missing = list(ranks)
        values: dict[int, str] = {}
        while missing:
            for rank in list(missing):
                if self.store.check([name := f"profile/{key}/{rank}"]):
                    values[rank] = self.store.get(name).decode().removeprefix("-")
                    missing.remove(rank)
            if missing:
                if time.monotonic() > deadline:
                    break
                time.sleep(SYNC_POLL_S)
        return values

    def run_in_turn(self, key: str, ranks: Sequence[int], action: Callable[[], None], timeout: float) -> None:
        """Run ``action`` on these ranks one after another; ``timeout``: seconds to wait for each rank before this one."""
        for rank in ranks:
            if rank == self.rank:
                try:
                    action()
                finally:
                    self.publish(key)
                return  # a rank that is done need not wait for later ones
            self.collect(key, [rank], timeout)
