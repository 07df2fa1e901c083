"""The one border between a training and what only watches it: timing, balancing, alerts and telling never end a training.

What fails there is told once, as an event of the rank and with its trace on standard error, which is the run's log; then the
training goes on without it. Nothing that computes a gradient belongs inside.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Literal, TypeVar

from ..events import RankEvent, WatchingFailed
from .rank_log import RankLog

Part = Literal["timing", "balancing", "alerts", "telling", "checkpoints"]
T = TypeVar("T")

MAX_REASON = 300
"""Characters of an error's text that the event carries; the log has all of it."""


class Border:
    """Catches what fails in the watching parts of one rank, and tells each part's first failure of a case."""

    def __init__(self, log: RankLog) -> None:
        self._log = log
        self._told: set[tuple[str, str]] = set()

    def attempt(self, part: Part, deed: Callable[..., T], *args: object, otherwise: T) -> T:
        """Return what ``deed(*args)`` returns, or ``otherwise`` where it raises."""
        try:
            return deed(*args)
        except Exception as error:
            self.tell(part, error)
            return otherwise

    def write(self, event: RankEvent) -> None:
        """Write an event into the rank's file. On a full disk the line is missing, and standard error says so."""
        self.attempt("telling", self._log.write, event, otherwise=None)

    def tell(self, part: Part, error: Exception) -> None:
        """Tell a failure, once a part and case. Never raises: a message that cannot be written anywhere is dropped."""
        key = (self._log.case, part)
        if key in self._told:
            return
        self._told.add(key)
        with contextlib.suppress(Exception):
            print(f"{part} failed; the training goes on without it:", file=sys.stderr)
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
        with contextlib.suppress(Exception):
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._log.write(WatchingFailed(part=part, reason=reason[:MAX_REASON]))
