"""Forms the group of a run again in place, without those that are lost: the process, its model and its data stay.

The one seam to torch's ways of doing so. Today: the sockets of the old group are shut down, which makes a collective in flight fail
within milliseconds (gloo has no abort, and a short time-out would kill honest slow steps); then a new group over a new store.
Where torch re-forms groups itself (``_reconfigure``, torch 2.14, experimental), it belongs here.
"""

from __future__ import annotations

import contextlib
import json
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
from .pulse import on_answer
from .run_store import RunStore
from .sealed_ports import listening_descriptors, seal_ports, tcp_sockets

_left_groups: list[Any] = []
"""Groups and stores that are left behind, for the life of this process: gloo's destructor waits for a thread that may wait for
Python's lock. What is kept is some threads that sleep."""


class PlannedChange(Exception):
    """All ranks have taken the same step and stand: the group is to form again with others."""


@dataclass(frozen=True, slots=True)
class Formation:
    """The group of a generation, as the runners have decided it."""

    generation: int
    numbers: tuple[int, ...]
    """Of its processes, by rank."""
    devices: tuple[int, ...]
    """Ranks of the plan whose devices these processes use, in the same order."""
    reason: str = ""
    """Why the group before was left."""

    def number_of(self, device: int) -> int:
        """The process on a device."""
        return self.numbers[self.devices.index(device)]


def ask_to_join(run_dir: Path, rank: int) -> Formation:
    """Wait until the run takes this process in, which was started for the device of that rank when the one before was lost.

    Raises WorkFailed where it never will.
    """
    return _formation(_ask_runner(run_dir, {"ask": "join", "rank": rank}))


@dataclass
class Regroup:
    """One process of a run whose group can form again. Its number stays; its rank is its place among those left."""

    plan: Plan
    number: int
    rank: int
    """Of the plan: its device."""
    device: torch.device
    run_dir: Path
    formation: Formation
    """Of the newest group."""
    is_joining: bool = False
    """Whether this process has yet to form its first group."""
    _pausing: int = -1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Listen for what the runner says of the group."""
        on_answer(self._listen)

    @property
    def is_pausing(self) -> bool:
        """Whether the runner wants the ranks of this group to stand."""
        return self._pausing == self.formation.generation

    def next_group(self, *, is_planned: bool = False) -> Group:
        """Leave the group and form the next one, as the runners decide. Blocks until there is one.

        ``is_planned``: all ranks stand after the same step, so none is unblocked before the runners have decided. Raises WorkFailed
        where the run goes on without this process, or not at all.
        """
        while True:
            if self.is_joining:
                self.is_joining = False
            else:
                if not is_planned:
                    shut_sockets()
                following = self._ask_next(is_planned)
                shut_sockets()
                self._leave()
                with self._lock:
                    self.formation = following
            try:
                return self._form()
            except Exception as error:
                if not is_collateral(error):
                    raise
            is_planned = False

    def tell_formed(self) -> None:
        """Tell the runner that this process holds the state of the training."""
        _ask_runner(self.run_dir, {"ask": "formed", "rank": self.rank, "number": self.number})

    def _listen(self, left: int, pausing: int) -> None:
        """In the thread of the pulse: the runners have left a generation behind, or want its ranks to stand."""
        self._pausing = pausing
        with self._lock:
            if left >= self.formation.generation:
                shut_sockets()

    def _leave(self) -> None:
        if dist.is_initialized():
            _left_groups.append(dist.distributed_c10d._get_default_group())
            dist.destroy_process_group()

    def _ask_next(self, is_planned: bool) -> Formation:
        request = {"ask": "next_generation", "rank": self.rank, "after": self.formation.generation, "is_planned": is_planned}
        return _formation(_ask_runner(self.run_dir, request))

    def _form(self) -> Group:
        store = RunStore(self.run_dir, self.formation.generation)
        store.set_timeout(timedelta(seconds=self.plan.timeout))
        _left_groups.append(store)
        shared = PrefixStore(f"group/{self.formation.generation}", store)
        rank, size = self.formation.numbers.index(self.number), len(self.formation.numbers)
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


def _formation(value: dict[str, Any]) -> Formation:
    numbers, devices = (tuple(int(one) for one in value[key]) for key in ("numbers", "devices"))
    return Formation(int(value["generation"]), numbers, devices, str(value["reason"]))


def _ask_runner(run_dir: Path, request: dict[str, Any]) -> Any:
    """Ask the runner of this node and wait for its answer, however long it takes. Raises WorkFailed."""
    try:
        with runner_socket.connect(run_dir, None) as connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(lines.readline() or b"{}")
    except OSError as error:
        raise WorkFailed(f"the runner of this node is gone: {error}") from None
    if "value" not in answer:
        raise WorkFailed(str(answer.get("error", "the runner of this node is gone")))
    return answer["value"]


def shut_sockets() -> int:
    """Shut down all TCP connections of this process, which are gloo's: whatever waits for them fails at once. Returns how many.

    Sockets that listen are left alone, as gloo aborts when it cannot accept; they are sealed.
    """
    count = 0
    for _, copy, is_listening in tcp_sockets():
        if not is_listening:
            with contextlib.suppress(OSError):
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
