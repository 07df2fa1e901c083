"""Whose a process is: user, name, and the run and rank that its environment tells, where that may be read."""

from __future__ import annotations

import contextlib
import pwd
from pathlib import Path

from ...events import ProcessReading
from ...protocol.json_files import read_json
from .processes import PROC, ROOT_MARK, RUN_MARK

OWNER_CACHE_SECONDS = 12
"""Looks after which a pid is described anew: it may have been used again."""


class ProcessOwners:
    """Describes processes, each of them once as long as it is there."""

    def __init__(self) -> None:
        self._known: dict[int, ProcessReading] = {}
        self._looks = 0

    def lookup(self, pids: set[int]) -> dict[int, ProcessReading]:
        """All these processes. In a container a pid may mean nothing to us: then user and name stay empty."""
        self._looks += 1
        known = {} if self._looks % OWNER_CACHE_SECONDS == 0 else self._known
        self._known = {pid: known.get(pid) or describe(pid) for pid in pids}
        return self._known


def describe(pid: int) -> ProcessReading:
    """Gone meanwhile, or somebody else's: what is known by then stands."""
    user = name = run_id = ""
    rank = None
    directory = PROC / str(pid)
    with contextlib.suppress(OSError):
        owner = directory.stat().st_uid
        name = (directory / "comm").read_text(errors="replace").strip()
        try:
            user = pwd.getpwuid(owner).pw_name
        except KeyError:
            user = str(owner)
        pairs = (pair.partition("=") for pair in (directory / "environ").read_bytes().decode(errors="replace").split("\0"))
        environ = {key: value for key, _, value in pairs}
        run_id = environ.get(RUN_MARK, "")
        rank = _rank(environ)
    return ProcessReading(pid=pid, user=user, name=name, run_id=run_id, rank=rank)


def _rank(environ: dict[str, str]) -> int | None:
    """Of our runs the plan says it: each of their nodes has a torchrun of its own, which counts from 0."""
    run_id, root = environ.get(RUN_MARK, ""), environ.get(ROOT_MARK, "")
    if not run_id:
        return _number(environ.get("RANK", ""))
    local_rank = _number(environ.get("LOCAL_RANK", ""))
    plan = read_json(Path(root) / "runs" / run_id / "plan.json") if root and "/" not in run_id else None
    try:
        (ranks,) = (node["ranks"] for node in (plan or {})["nodes"] if node["name"] == environ.get("PACELINE_NODE"))
        return int(ranks[local_rank])
    except (KeyError, IndexError, TypeError, ValueError):  # no rank, or the plan of another version
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
