"""Went wrong: the whole tree of errors, each with what failed, where, and what to do next.

Runs on both sides and imports the standard library only. An error stops one action; expected trouble is an event instead.
"""

from __future__ import annotations


class PacelineError(Exception):
    """Something a person can act on. Printed as one line: ``node: reason (hint)``."""

    exit_status = 1

    def __init__(self, reason: str, *, node: str | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.node = node
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        then = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.reason}{then}"


class WorkFailed(PacelineError):
    """The work itself failed: a rank died, training raised, a full disk ended it."""


class StorageFailed(WorkFailed):
    """A file could not be written; what was there before is untouched."""


class UsageError(PacelineError):
    """The command line asks for something that does not exist."""

    exit_status = 2


class ConfigurationError(UsageError):
    """nodes.toml or a job file is wrong; the reason names file, line and key."""


class DataRefused(UsageError):
    """Input data are broken or missing; the reason names the file and the line. Data are never replaced silently."""


class NodeUnreachable(PacelineError):
    """A node does not answer. What runs on it is not touched by that."""

    exit_status = 3


class NodeRefused(PacelineError):
    """A node answered and said no: authentication failed or its host key is not the one we know."""

    exit_status = 4


class PlanImpossible(PacelineError):
    """What was asked cannot be done with these devices: too little memory, a batch smaller than its ranks."""

    exit_status = 5


class NotProfiled(PlanImpossible):
    """What is asked needs a profile that is not there; a launch measures it first by itself."""


class DeviceInUse(PlanImpossible):
    """Another run holds a device, or a stranger's process computes on it."""


class Interrupted(PacelineError):
    """A person pressed Ctrl-C."""

    exit_status = 130


class WaitGivenUp(Interrupted):
    """A person does not want to wait for devices any more; nothing was started."""


STATUS_ORDER = (130, 4, 3, 5, 2, 1, 6)
"""Which exit status wins where several apply."""
