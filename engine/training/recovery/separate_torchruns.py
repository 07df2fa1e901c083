"""A torchrun for each device of a node, so that none ends the others; one is started again when the runner asks for it.

All are forked from one process that has imported torch. It tells the runner of each that ends, and asks it what to start next: a
connection to the runner stays open for the answer. One thread does everything, as a process with threads is better not forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...plan import NodePlan
from ...protocol import runner_socket
from ...protocol.run_files import JOINS_VARIABLE
from ..group.rank_process import die_with_parent

SIGNAL_STATUS = 128
"""Exit status of a torchrun here, less the number of the signal that ended its rank; as a shell reports it."""
RUNNER_TIMEOUT_S = 10.0
RUNNER_POLL_S = 1.0
"""Seconds between two attempts to reach a runner that does not answer."""


@dataclass
class SeparateTorchruns:
    """The torchruns of one node. ``be_torchrun(index)`` is the whole life of a forked one; it returns its exit status."""

    run_dir: Path
    node: NodePlan
    be_torchrun: Callable[[int], int]
    _ranks: dict[int, int] = field(default_factory=dict)
    """Rank of the plan by pid of its torchrun."""
    _statuses: list[int] = field(default_factory=list)
    _ordered: set[int] = field(default_factory=set)
    """Ranks to start again, once the torchrun before has ended."""
    _is_over: bool = False
    """Whether nothing will be started any more."""
    _orders: socket.socket | None = None
    """To the runner, which answers with what to start."""
    _received: bytes = b""

    def run(self) -> int:
        """Start all devices, and return once nothing runs and nothing will: 0 where one of them was done."""
        waking, woken = socket.socketpair()
        for end in (waking, woken):
            end.setblocking(False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._end)
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for rank in self.node.ranks if JOINS_VARIABLE not in os.environ else ():  # of a node that returns, the runner orders them
            self._start(rank)
        while self._ranks or not self._is_over:
            self._reap()
            for rank in self._ordered - set(self._ranks.values()):
                self._ordered.discard(rank)
                self._start(rank, **{JOINS_VARIABLE: "1"})
            if not self._ranks and (self._is_over or 0 in self._statuses):
                break
            self._ask()
            watched = [waking, *([self._orders] if self._orders is not None else [])]
            ready, _, _ = select.select(watched, [], [], RUNNER_POLL_S)
            if waking in ready:
                with contextlib.suppress(BlockingIOError):
                    waking.recv(4096)
            if self._orders in ready:
                self._take_orders()
        return 0 if 0 in self._statuses else 1

    def _start(self, rank: int, **variables: str) -> None:
        sys.stdout.flush()
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.SIG_DFL)
            if self._orders is not None:
                self._orders.close()
            die_with_parent(signal.SIGTERM)
            os.environ.update(variables)
            os._exit(self.be_torchrun(self.node.ranks.index(rank)))
        self._ranks[pid] = rank

    def _end(self, signum: int, frame: object) -> None:
        """The runner is gone or ends the run."""
        self._is_over = True
        for pid in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def _reap(self) -> None:
        while self._ranks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if (ended := self._ranks.pop(pid, None)) is not None:
                code = os.waitstatus_to_exitcode(status)
                self._statuses.append(code)
                self._tell(ended, SIGNAL_STATUS - code if code > SIGNAL_STATUS else code)

    def _tell(self, rank: int, code: int) -> None:
        with contextlib.suppress(OSError), runner_socket.connect(self.run_dir, RUNNER_TIMEOUT_S) as connection:
            connection.sendall(json.dumps({"ask": "rank_ended", "rank": rank, "code": code}).encode() + b"\n")
            connection.recv(1)

    def _ask(self) -> None:
        """Have a question at the runner, for as long as something may have to be started."""
        if self._orders is None and not self._is_over:
            with contextlib.suppress(OSError):
                self._orders = runner_socket.connect(self.run_dir, RUNNER_TIMEOUT_S)
                self._orders.sendall(b'{"ask": "next_start"}\n')
                self._received = b""

    def _take_orders(self) -> None:
        assert self._orders is not None
        part = b""
        with contextlib.suppress(OSError):
            part = self._orders.recv(4096)
        self._received += part
        if part and not self._received.endswith(b"\n"):
            return
        self._orders.close()
        self._orders = None
        answer: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            answer = json.loads(self._received or b"{}").get("value") or {}
        if (rank := answer.get("rank")) in self.node.ranks:
            self._ordered.add(int(rank))
        else:
            self._is_over = True
