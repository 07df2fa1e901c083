"""Went wrong: every error class, each with its reason, its node and a hint what to do next.

Runs on both sides and imports the standard library only. An error stops one action; expected trouble is an event instead.
"""

from __future__ import annotations


class PacelineError(Exception):
    """An error that a person can act on. Printed as one line: ``node: reason (hint)``."""

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
    """The work itself failed: a rank died, training raised, the disk was full."""


class StorageFailed(WorkFailed):
    """A file could not be written; its previous content is untouched."""


class UsageError(PacelineError):
    """The command line asks for something that does not exist."""

    exit_status = 2


class ConfigurationError(UsageError):
    """nodes.toml or a job file is wrong; the reason names file, line and key."""


class DataRefused(UsageError):
    """Input data are malformed or missing; the reason names file and line. Data are never replaced silently."""


class NodeUnreachable(PacelineError):
    """A node does not answer. Runs on it continue."""

    exit_status = 3


class NodeRefused(PacelineError):
    """Authentication at a node failed, or its host key is not the known one."""

    exit_status = 4


class PlanImpossible(PacelineError):
    """These devices cannot run the job: too little memory, or a global batch smaller than the number of ranks."""

    exit_status = 5


class NotProfiled(PlanImpossible):
    """The request needs a profile that does not exist. A launch measures it first."""


class DeviceInUse(PlanImpossible):
    """Another run holds a device, or a process outside any run computes on it."""


class Interrupted(PacelineError):
    """A person pressed Ctrl-C."""

    exit_status = 130


class WaitGivenUp(Interrupted):
    """A person cancelled the wait for devices; nothing was started."""


FEWER_DEVICES = 6
"""Exit status of a run that is done, and has lost devices on its way."""
STATUS_ORDER = (130, 4, 3, 5, 2, 1, FEWER_DEVICES)
"""Exit statuses by precedence, for when several apply."""
