"""Who measures when: ranks wait for one another at the run's store, where a rank that is late or gone holds nobody up for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.distributed import Store  # type: ignore[attr-defined]

POLL = 0.02
"""Seconds between two looks at a key: next to no CPU, so that who waits disturbs nobody's measurement."""


@dataclass(slots=True)
class Turns:
    """One rank's view of the store at which all have met."""

    rank: int
    store: Store

    def say(self, key: str, value: str = "") -> None:
        """Let the others read something."""
        self.store.set(f"profile/{key}/{self.rank}", value or "-")

    def hear(self, key: str, ranks: Sequence[int], limit: float) -> dict[int, str]:
        """What these ranks have said, waiting for all of them for so many seconds; who said nothing is not among the answers."""
        deadline = time.monotonic() + limit
        missing = list(ranks)
        heard: dict[int, str] = {}
        while missing:
            for rank in list(missing):
                if self.store.check([name := f"profile/{key}/{rank}"]):
                    heard[rank] = self.store.get(name).decode().removeprefix("-")
                    missing.remove(rank)
            if missing:
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL)
        return heard

    def one_by_one(self, key: str, ranks: Sequence[int], act: Callable[[], None], longest: float) -> None:
        """Those of ``ranks`` act alone, one after another; each is waited for as long as one may take."""
        for rank in ranks:
            if rank == self.rank:
                try:
                    act()
                finally:
                    self.say(key)
                return  # who comes later disturbs nobody who is done
            self.hear(key, [rank], longest)
