"""One trial in a child of its own, forked after torch is imported: it starts at once, and its memory dies with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]  # torch re-exports them implicitly

from ...events import TrialEnded
from ...plan import Plan, RankPlan
from ...protocol.project_files import WORK_DIRECTORY
from ...specs import TrialSpec
from ...training.group.run_store import RunStore
from ...training.group.sealed_ports import listening_descriptors, seal_ports
from ..recorder import ScriptRecorder
from .containment import Containment, make_containment

MAX_VALUES = 1000
"""Values of one metric that a trial sends back: later ones replace the last."""

RunTrial = Callable[[TrialSpec, ScriptRecorder], None]
"""Becomes the script of one trial, in a child, alone on its device."""


class TrialRecorder(ScriptRecorder):
    """Keeps what a trial logs, by name."""

    def __init__(self) -> None:
        self.metrics: dict[str, list[float]] = {}

    def log(self, name: str, value: float) -> None:
        """Keep a value."""
        values = self.metrics.setdefault(name, [])
        values[MAX_VALUES - 1 :] = []
        values.append(float(value))


def run_in_child(trial: TrialSpec, run: RunTrial) -> TrialEnded:
    """Run one trial in a child of its own, within the limits of the trial."""
    sys.stdout.flush()
    sys.stderr.flush()
    contained = None if trial.memory is None else make_containment(trial.memory, f"paceline-trial-{os.getpid()}-{trial.number}")
    began = time.perf_counter()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _become(trial, run, writer, contained)
    os.close(writer)
    answer = _answer_within(reader, trial.time_limit)
    if answer is None:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    metrics, reason = _read(answer or b"", status)
    outcome = "" if contained is None and trial.time_limit is None else "success"
    if contained is not None and (contained.has_killed() or _OOM.search(reason)):
        outcome, reason = "oom", f"out of memory: {reason}" if "out of memory" not in reason else reason
    elif answer is None:
        outcome, reason = "timeout", f"not over after {trial.time_limit:.0f} s"
    elif reason and outcome:
        outcome = "failed"
    if contained is not None:
        contained.remove()
    return TrialEnded(
        trial=trial.number,
        state="failed" if reason else "done",
        reason=reason,
        seconds=seconds,
        peak_bytes=usage.ru_maxrss * 1024,
        metrics=metrics,
        outcome=outcome,
        limited_by="" if contained is None else contained.kind,
    )


_OOM = re.compile(r"MemoryError|OutOfMemoryError|can't allocate memory|Cannot allocate memory|bad_alloc")


def _answer_within(pipe: int, limit: float | None) -> bytes | None:
    """Everything that a child writes into a pipe until it closes it; None where that takes longer than the limit, in seconds."""
    deadline = None if limit is None else time.monotonic() + limit
    parts: list[bytes] = []
    with os.fdopen(pipe, "rb", buffering=0) as opened, selectors.DefaultSelector() as selector:
        selector.register(opened, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0.0) or not selector.select(left):
                return None
            part = opened.read(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)


def _read(answer: bytes, status: int) -> tuple[str, str]:
    """Metrics of a trial as JSON, and why it failed; empty: it did not."""
    try:
        document: dict[str, Any] = json.loads(answer)
    except ValueError:
        document = {}
    metrics = json.dumps(document.get("metrics") or {})
    if os.WIFSIGNALED(status):
        return metrics, f"killed by signal {os.WTERMSIG(status)}"
    if status or "metrics" not in document:
        return metrics, str(document.get("reason") or f"its process ended with status {os.waitstatus_to_exitcode(status)}")
    return metrics, ""


def _become(trial: TrialSpec, run: RunTrial, writer: int, contained: Containment | None) -> None:
    """Run a trial in this child and end it; never returns."""
    recorder, status, reason = TrialRecorder(), 0, None
    try:
        if contained is not None:
            contained.enter()
        run(trial, recorder)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1 if stopped.code else 0
        reason = f"the script exited with status {status}" if status else None
    except BaseException as error:
        status, reason = 1, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        with contextlib.suppress(MemoryError):
            traceback.print_exception(error)
    finite = {name: [value if isfinite(value) else None for value in values] for name, values in recorder.metrics.items()}
    document = {"metrics": finite} | ({"reason": reason} if reason else {})
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(document).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def alone_on(run_dir: Path, rank: RankPlan, trial: TrialSpec) -> None:
    """Make this child a world of one, on its device, in a directory of the trial."""
    _enter_directory(run_dir, str(trial.number))
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0"}
    if rank.device_kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank.device_index)
        torch.cuda.set_device(0)
    known = listening_descriptors()
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    seal_ports(known)


def in_group(run_dir: Path, plan: Plan, rank: RankPlan, trial: TrialSpec, store: RunStore) -> None:
    """Make this child a rank of a group of all devices, in a directory of its own."""
    _enter_directory(run_dir, f"{trial.number}-{rank.rank}")
    is_cuda = all(peer.device_kind == "cuda" for peer in plan.ranks)
    if rank.device_kind == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank.device_index)
        torch.cuda.set_device(0)
    known = listening_descriptors()
    prefixed = PrefixStore(f"group/{trial.number}", store)
    dist.init_process_group("nccl" if is_cuda else "gloo", store=prefixed, rank=rank.rank, world_size=len(plan.ranks))
    seal_ports(known)


def _enter_directory(run_dir: Path, name: str) -> None:
    directory = run_dir / WORK_DIRECTORY / "trials" / name
    directory.mkdir(parents=True, exist_ok=True)
    os.chdir(directory)
