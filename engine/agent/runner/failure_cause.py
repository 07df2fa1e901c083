"""Finds the first cause of a failed run, as opposed to the broken collectives that follow from it on other ranks."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...events import RankFailed
from ...membership.silence import Silence
from ...plan import NodePlan, Plan
from ...protocol.regular_files import open_regular
from ...states import EndedStatus
from ...wire import decode, to_plain
from ..runs.run_dir import LOW_DISK_BYTES
from ..system.oom import OomKills, oom_explanation, oom_kills
from ..system.state_dir import disk_free

_EXIT_REPORT = re.compile(r"rank\s*:\s*\d+ \(local_rank: (\d+)\)\s*exitcode\s*:\s*(-?\d+)", re.S)
_TORCHRUN_LOG_LINE = re.compile(r"^[EW]\d{4} [^\n]*torch/distributed/", re.M)
"""Start of torchrun's report of a failed rank; the rank's own output stands before it."""

_FATAL = re.compile(r"^Fatal Python error: [^\n]+", re.M)
"""Why an interpreter did not start, as with a wrong PYTHONHOME; what it prints behind that says less."""
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t][^\n]*\n|\n)+", re.M)
MAX_MESSAGE_LINES = 12
"""Lines of an exception's message behind its first one, at most."""

_TAIL_BYTES = 64 << 10

_OOM_MESSAGE = re.compile(r"MemoryError|OutOfMemoryError|can't allocate memory|Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED")
"""Messages of Python, torch's allocators and cuBLAS when memory runs out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a node's part of a run ended, and why."""

    state: EndedStatus
    """``done``, ``failed`` or ``cancelled``."""
    reason: str = ""
    rank: int | None = None
    node: str = ""
    is_collateral: bool = False
    """The rank failed only because another rank was gone."""
    is_loss: bool = False
    """The devices of this node were lost, and the work itself did not fail: others may go on without them."""
    is_interrupted: bool = False
    """A scheduler takes the machine away. The run has not ended: it goes on in the next attempt."""

    def as_dict(self) -> dict[str, Any]:
        """JSON form, as sent to the other runners."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def local_outcome(run: Path, plan: Plan, node: NodePlan, status: int, oom_before: OomKills) -> Outcome:
    """Find the cause in the events of the node's ranks, else in torchrun's report, else in its exit status.

    ``oom_before``: the kernel's count of out-of-memory kills when the run began.
    """
    failures = [failed for rank in node.ranks if (failed := _last_failure(run / "ranks" / f"{rank}.jsonl")) is not None]
    for failed in failures:
        if not failed.is_collateral:
            return Outcome("failed", f"{_rank_label(plan, failed.rank)}: {_name_oom(failed.reason)}", failed.rank, node.name)
    reported = {failed.rank for failed in failures}
    for local_rank, code in _reported_exits(run / "out.log"):
        rank = node.ranks[local_rank] if local_rank < len(node.ranks) else None
        if rank is not None and code < 0:
            return Outcome("failed", f"{_rank_label(plan, rank)}: {_signal_reason(-code, oom_before)}", rank, node.name)
        if rank is not None and rank not in reported:  # it died before it wrote an event, as when a module is missing
            last = _last_line(run / "out.log", _TORCHRUN_LOG_LINE)
            if any(last[:60] in failed.reason for failed in failures):  # the line of another rank, which lost this one
                last = ""
            cause = f"exit status {code}" + (f": {last}" if last else "")
            return Outcome("failed", f"{_rank_label(plan, rank)}: {cause}", rank, node.name)
    for failed in failures:
        return Outcome("failed", f"{_rank_label(plan, failed.rank)}: {failed.reason}", failed.rank, node.name, is_collateral=True)
    cause = _signal_reason(-status, oom_before) if status < 0 else f"exit status {status}"
    last = _last_line(run / "out.log")
    free = disk_free(run)
    if free is not None and free < LOW_DISK_BYTES:  # then no rank could write why it failed
        last = f"no space left for {run}"
    return Outcome("failed", f"torchrun on {node.name}: {cause}" + (f": {last}" if last else ""), None, node.name)


def ended_rank_outcome(run: Path, plan: Plan, rank: int, code: int, oom_before: OomKills, *, number: int) -> Outcome:
    """Why one rank ended: by an error of its own, or lost. ``code``: its exit status, negative for a signal; ``number``: of its
    process, which names its file."""
    node, label = plan.ranks[rank].node, _rank_label(plan, rank)
    failed = _last_failure(run / "ranks" / f"{number}.jsonl")
    if failed is not None and not failed.is_collateral:
        return Outcome("failed", f"{label}: {_name_oom(failed.reason)}", rank, node)
    reason = _signal_reason(-code, oom_before) if code < 0 else failed.reason if failed is not None else f"exit status {code}"
    return Outcome("failed", f"{label}: {reason}", rank, node, is_loss=code < 0 or failed is not None)


def silence_outcome(plan: Plan, silence: Silence) -> Outcome:
    """The outcome of a run whose collectives broke because somebody was silent."""
    if silence.rank is not None and silence.rank < len(plan.ranks):
        who = _rank_label(plan, silence.rank)
        return Outcome("failed", f"{who}: {silence.reason}, silent for {silence.seconds:.0f} s", silence.rank, silence.node)
    ranks = next((node.ranks for node in plan.nodes if node.name == silence.node), ())
    reason = f"{silence.reason} (for {silence.seconds:.0f} s)"
    return Outcome("failed", reason, ranks[0] if ranks else None, silence.node)


def _signal_reason(number: int, before: OomKills) -> str:
    """Name the signal; lack of memory is given as the reason only where the kernel has counted such a kill."""
    why = oom_explanation(before, oom_kills()) if number == signal.SIGKILL else ""
    return f"killed by {_signal_name(number)}" + (f" ({why})" if why else "")


def _name_oom(reason: str) -> str:
    """Prefix a rank's reason with "out of memory" where it means that in other words, so that a person can search for it."""
    return f"out of memory: {reason}" if _OOM_MESSAGE.search(reason) and "out of memory" not in reason.lower() else reason


def _rank_label(plan: Plan, rank: int) -> str:
    return f"rank {rank} on {plan.ranks[rank].node} ({plan.ranks[rank].device_name})"


def _last_failure(path: Path) -> RankFailed | None:
    for line in reversed(_tail(path).split(b"\n")[-20:]):
        if b'"RankFailed"' in line:
            event = decode(line)
            if isinstance(event, RankFailed):
                return event
    return None


def _tail(path: Path) -> bytes:
    """The end of a file; empty where it is missing or no regular file, as a script may leave it."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES)
    except OSError:
        return b""


def _reported_exits(log: Path) -> list[tuple[int, int]]:
    """(local rank, exit code) of the failures in torchrun's report, first cause first. A signal is a negative exit code."""
    text = _tail(log).decode(errors="replace")
    return [(int(local), int(code)) for local, code in _EXIT_REPORT.findall(text)][::-1]


def _last_line(log: Path, before: re.Pattern[str] | None = None) -> str:
    """The line that says most, of the whole log or of the part before a pattern: the exception at its end, else its last line."""
    text = _tail(log).decode(errors="replace")
    if before is not None and (match := before.search(text)) is not None:
        text = text[: match.start()]
    return spoken_line(text)[:200]


def spoken_line(text: str) -> str:
    """The line of an output that says why its program ended; blank lines and rules say nothing."""
    if (fatal := _FATAL.search(text)) is not None:
        return fatal[0]
    lines = _told(text)
    for traceback in reversed(list(_TRACEBACK.finditer(text))):
        message = _told(text[traceback.end() :])
        if 0 < len(message) <= MAX_MESSAGE_LINES:
            first, *more = message
            return f"{first} {more[0]}" if first.endswith(":") and more else first
        break
    return lines[-1] if lines else ""


def _told(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip(" =-")]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
