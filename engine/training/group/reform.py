"""Forms the group of a run again in place, without those that are lost: the process, its model and its data stay.

The one seam to torch's ways of doing so. Today: the sockets of the old group are shut down, which makes a collective in flight fail
within milliseconds (gloo has no abort, and a short time-out would kill honest slow steps); then a new group over a new store.
Where torch re-forms groups itself (``_reconfigure``, torch 2.14, experimental), it belongs here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...errors import WorkFailed
from ...plan import Plan
from ...protocol import runner_socket
from .peer_failure import is_collateral
from .process_group import Group
from .pulse import on_left_behind
from .run_store import RunStore
from .sealed_ports import listening_descriptors, seal_ports

_left_groups: list[Any] = []
"""Groups and stores that are left behind, for the life of this process: gloo's destructor waits for a thread that may wait for
Python's lock. What is kept is some threads that sleep."""


@dataclass
class Regroup:
    """One process of a run whose group can form again. Its number in the plan stays; its rank is its place among those left."""

    plan: Plan
    number: int
    device: torch.device
    run_dir: Path
    numbers: tuple[int, ...]
    """Of the processes of the group, by rank."""
    generation: int = 0
    reason: str = ""
    """Why the last group was left."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Listen for what the runner says of the group."""
        on_left_behind(self._unblock)

    def next_group(self) -> Group:
        """Leave the broken group and form the next one, as the runners decide. Blocks until there is one.

        Raises WorkFailed where the run goes on without this process, or not at all.
        """
        while True:
            shut_sockets()
            self._leave()
            answer = self._ask_next()
            with self._lock:
                self.generation = int(answer["generation"])
            self.numbers = tuple(int(number) for number in answer["numbers"])
            self.reason = str(answer["reason"])
            try:
                return self._form()
            except Exception as error:
                if not is_collateral(error):
                    raise

    def _unblock(self, left: int) -> None:
        """In the thread of the pulse: the runners have left a generation behind."""
        with self._lock:
            if left >= self.generation:
                shut_sockets()

    def _leave(self) -> None:
        if dist.is_initialized():
            _left_groups.append(dist.distributed_c10d._get_default_group())
            dist.destroy_process_group()

    def _ask_next(self) -> dict[str, Any]:
        request = {"ask": "next_generation", "rank": self.number, "after": self.generation}
        try:
            with runner_socket.connect(self.run_dir, None) as connection, connection.makefile("rb") as lines:
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
        except OSError as error:
            raise WorkFailed(f"the runner of this node is gone: {error}") from None
        if "value" not in answer:
            raise WorkFailed(str(answer.get("error", "the runner of this node is gone")))
        value: dict[str, Any] = answer["value"]
        return value

    def _form(self) -> Group:
        store = RunStore(self.run_dir, self.generation)
        store.set_timeout(timedelta(seconds=self.plan.timeout))
        _left_groups.append(store)
        shared = PrefixStore(f"group/{self.generation}", store)
        rank, size = self.numbers.index(self.number), len(self.numbers)
        listening = listening_descriptors()
        dist.init_process_group(
            self.plan.backend,
            store=PrefixStore("backend", shared),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=self.plan.timeout),
        )
        seal_ports(listening)
        return Group(rank, size, self.device, self.plan.timeout, PrefixStore("turns", shared), store)


def shut_sockets() -> int:
    """Shut down all TCP connections of this process, which are gloo's: whatever waits for them fails at once. Returns how many.

    Sockets that listen are left alone, as gloo aborts when it cannot accept; they are sealed.
    """
    count = 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as copy:
                is_tcp = copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM
                if is_tcp and not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    copy.shutdown(socket.SHUT_RDWR)
                    count += 1
    return count


def broadcast(tensors: Sequence[torch.Tensor], source: int) -> None:
    """Overwrite tensors on a CPU by those of a rank: one message for each number format. Collective, alike on all ranks."""
    by_format: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_format.setdefault(tensor.dtype, []).append(tensor)
    for alike in by_format.values():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in alike])
        dist.broadcast(flat, source)
        for tensor, values in zip(alike, torch.split(flat, [tensor.numel() for tensor in alike]), strict=True):
            with torch.no_grad():
                tensor.copy_(values.view_as(tensor))
