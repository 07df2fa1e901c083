"""Whose fault it was: the first cause of a failed launch, told apart from the broken collectives that follow from it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...events import RankFailed
from ...plan import NodePlan, Plan
from ...wire import decode, to_plain
from ..runs.run_dir import LAST_WORDS_BYTES
from ..system.oom import OomKills, oom_kills, told
from ..telemetry.host import disk_free

_EXIT = re.compile(r"rank\s*:\s*\d+ \(local_rank: (\d+)\)\s*exitcode\s*:\s*(-?\d+)", re.S)
_TORCHRUN = re.compile(r"^[EW]\d{4} [^\n]*torch/distributed/", re.M)
"""Where torchrun begins to speak of a rank that failed."""

_MEMORY = re.compile(r"MemoryError|OutOfMemoryError|can't allocate memory|Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED")
"""What Python, torch's allocators and cuBLAS say where none is left."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a node's part of a run ended, and why."""

    state: str
    """``done``, ``failed`` or ``cancelled``."""
    reason: str = ""
    rank: int | None = None
    node: str = ""
    is_collateral: bool = False
    """A rank only saw that another one was gone."""

    def as_dict(self) -> dict[str, Any]:
        """As it travels to the other runners."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def local_outcome(run: Path, plan: Plan, node: NodePlan, status: int, before: OomKills) -> Outcome:
    """Read the cause from what the node's own ranks wrote, else from torchrun's report, else from its exit status.

    ``before``: what the kernel had killed for lack of memory when the run began.
    """
    failures = [failed for rank in node.ranks if (failed := _failure(run / "ranks" / f"{rank}.jsonl")) is not None]
    for failed in failures:
        if not failed.is_collateral:
            return Outcome("failed", f"{_who(plan, failed.rank)}: {_named(failed.reason)}", failed.rank, node.name)
    told = {failed.rank for failed in failures}
    for local_rank, code in _exits(run / "out.log"):
        rank = node.ranks[local_rank] if local_rank < len(node.ranks) else None
        if rank is not None and code < 0:
            return Outcome("failed", f"{_who(plan, rank)}: {_killed(-code, before)}", rank, node.name)
        if rank is not None and rank not in told:  # it died before it could write, as when a module is missing
            last = _last_line(run / "out.log", _TORCHRUN)
            return Outcome("failed", f"{_who(plan, rank)}: exit status {code}" + (f": {last}" if last else ""), rank, node.name)
    for failed in failures:
        return Outcome("failed", f"{_who(plan, failed.rank)}: {failed.reason}", failed.rank, node.name, is_collateral=True)
    ended = _killed(-status, before) if status < 0 else f"exit status {status}"
    last = _last_line(run / "out.log")
    free = disk_free(run)
    if free is not None and free < LAST_WORDS_BYTES:  # then nobody could write down why
        last = f"no space left for {run}"
    return Outcome("failed", f"torchrun on {node.name}: {ended}" + (f": {last}" if last else ""), None, node.name)


def _killed(number: int, before: OomKills) -> str:
    """By which signal; that memory was the reason is said only where the kernel has counted it."""
    why = told(before, oom_kills()) if number == signal.SIGKILL else ""
    return f"killed by {_signal_name(number)}" + (f" ({why})" if why else "")


def _named(reason: str) -> str:
    """A rank's own words; of those that mean memory, the ones a person looks for."""
    return f"out of memory: {reason}" if _MEMORY.search(reason) and "out of memory" not in reason.lower() else reason


def _who(plan: Plan, rank: int) -> str:
    return f"rank {rank} on {plan.ranks[rank].node} ({plan.ranks[rank].device_name})"


def _failure(path: Path) -> RankFailed | None:
    if not path.exists():
        return None
    for line in reversed(path.read_bytes().split(b"\n")[-20:]):
        if b'"RankFailed"' in line:
            event = decode(line)
            if isinstance(event, RankFailed):
                return event
    return None


def _exits(log: Path) -> list[tuple[int, int]]:
    """(local rank, exit code) of the failures torchrun reports; a signal is a negative code, the first cause stands last."""
    text = log.read_text(errors="replace")[-20000:] if log.exists() else ""
    return [(int(local), int(code)) for local, code in _EXIT.findall(text)][::-1]


def _last_line(log: Path, before: re.Pattern[str] | None = None) -> str:
    """The last line that says something, of all or of what stands before a pattern."""
    text = log.read_text(errors="replace")[-20000:] if log.exists() else ""
    if before is not None and (found := before.search(text)) is not None:
        text = text[: found.start()]
    lines = [line.strip() for line in text.splitlines() if line.strip(" =-")]
    return lines[-1][:200] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
