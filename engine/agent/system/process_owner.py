"""Describes processes: user, name, and the run and rank in their environment, where that can be read."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from ...events import ProcessReading
from ...protocol.json_files import read_json
from ...protocol.run_files import RANK_NAME
from .processes import PROC, RUN_ID_VARIABLE, STATE_ROOT_VARIABLE, read_environment

OWNER_CACHE_LOOKUPS = 12
"""Lookups after which a pid is read again, since it may belong to another process by then."""


class ProcessOwners:
    """Describes processes, and caches what it read of each while it lives."""

    def __init__(self) -> None:
        self._cache: dict[int, ProcessReading] = {}
        self._lookups = 0

    def lookup(self, pids: set[int]) -> dict[int, ProcessReading]:
        """Describe these processes. User and name are empty where a pid is unknown here, as in a container."""
        self._lookups += 1
        cache = {} if self._lookups % OWNER_CACHE_LOOKUPS == 0 else self._cache
        self._cache = {pid: cache.get(pid) or describe(pid) for pid in pids}
        return self._cache


def user_name(uid: int | None = None) -> str:
    """Name of a user, of this process's own by default; the number where it has no name."""
    uid = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def describe(pid: int) -> ProcessReading:
    """Describe one process. Fields that cannot be read stay empty: it has ended, or belongs to another user."""
    user = name = run_id = ""
    rank = None
    directory = PROC / str(pid)
    with contextlib.suppress(OSError):
        owner = directory.stat().st_uid
        name = (directory / "comm").read_text(errors="replace").strip()
        user = user_name(owner)
        pairs = (pair.decode(errors="replace").partition("=") for pair in read_environment(pid))
        environ = {key: value for key, _, value in pairs}
        run_id = environ.get(RUN_ID_VARIABLE, "")
        rank = _rank(environ, name)
    return ProcessReading(pid=pid, user=user, name=name, run_id=run_id, rank=rank)


def _rank(environ: dict[str, str], name: str) -> int | None:
    """The global rank. A rank of Paceline bears it in its name. In older runs the plan gives it: RANK counted from 0 there."""
    run_id, root = environ.get(RUN_ID_VARIABLE, ""), environ.get(STATE_ROOT_VARIABLE, "")
    if not run_id:
        return _number(environ.get("RANK", ""))
    if name.startswith(RANK_NAME):
        return _number(name.removeprefix(RANK_NAME))
    local_rank = _number(environ.get("LOCAL_RANK", ""))
    plan = read_json(Path(root) / "runs" / run_id / "plan.json") if root and "/" not in run_id else None
    try:
        (ranks,) = (node["ranks"] for node in (plan or {})["nodes"] if node["name"] == environ.get("PACELINE_NODE"))
        return int(ranks[local_rank])
    except (KeyError, IndexError, TypeError, ValueError):  # not a rank, or a plan of another version
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
