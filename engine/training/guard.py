"""Keeps failures of monitoring away from training: timing, balancing, alerts, logging and checkpoints never end a run.

Each such failure is reported once: an event of the rank, and its traceback on standard error, which is the run's log. Nothing that
computes a gradient may be called through the guard.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Literal, TypeVar

from ..events import MonitoringFailed, RankEvent
from .rank_log import RankLog

Part = Literal["timing", "balancing", "alerts", "logging", "checkpoints"]
T = TypeVar("T")

MAX_FAILURE_CHARS = 300
"""Characters of an error's text that the event carries; the log has all of it."""


class Guard:
    """Catches failures of the monitoring parts of one rank, and reports the first one of each part and case."""

    def __init__(self, log: RankLog) -> None:
        self._log = log
        self._reported: set[tuple[str, str]] = set()

    def attempt(self, part: Part, function: Callable[..., T], *args: object, otherwise: T) -> T:
        """Return ``function(*args)``, or ``otherwise`` where it raises."""
        try:
            return function(*args)
        except Exception as error:
            self.report(part, error)
            return otherwise

    def write(self, event: RankEvent) -> None:
        """Write an event into the rank's file. On a full disk the line is missing, and standard error says so."""
        self.attempt("logging", self._log.write, event, otherwise=None)

    def report(self, part: Part, error: Exception) -> None:
        """Report a failure, once a part and case. Never raises: a message that cannot be written anywhere is dropped."""
        key = (self._log.case, part)
        if key in self._reported:
            return
        self._reported.add(key)
        with contextlib.suppress(Exception):
            print(f"{part} failed; the training goes on without it:", file=sys.stderr)
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
        with contextlib.suppress(Exception):
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._log.write(MonitoringFailed(part=part, reason=reason[:MAX_FAILURE_CHARS]))
