"""How the ranks become one group: rank, world size, store and backend come from here and from nowhere else.

torchrun only starts processes on its node (one standalone launch a node); who is who stands in the plan. Rank 0 opens a store at a
port of the kernel's choice and says so in its rank file; the runners carry the address to the others as store.json. So how groups
form can change later (joining, leaving, re-forming in place) without anyone else noticing.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from ..errors import PlanImpossible, WorkFailed
from ..events import RankJoined
from ..plan import Plan, RankPlan
from .rank_log import RankLog

STORE_TIMEOUT = 300.0
"""Seconds a rank waits to learn where the store is: other nodes may import torch from a slow disk."""
POLL = 0.05
"""Seconds between two looks at a file or a store key: next to no CPU, so idle ranks do not disturb a measurement."""
_PR_SET_PDEATHSIG = 1
_PEER_GONE = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out")
"""What torch's RuntimeErrors of broken collectives speak of; there is no type of their own for gloo's."""


def die_with_parent() -> None:
    """Have the kernel kill this rank when its torchrun is gone, so that none is left behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def own_rank(plan: Plan, node: str) -> RankPlan:
    """The rank this process is, by torchrun's LOCAL_RANK on its node."""
    local_rank = int(os.environ["LOCAL_RANK"])
    for place in plan.nodes:
        if place.name == node and local_rank < len(place.ranks):
            return plan.ranks[place.ranks[local_rank]]
    raise PlanImpossible(f"the plan has no local rank {local_rank} on {node}", node=node)


class PeerFailed(WorkFailed):
    """Another rank is the cause, and says or has said so itself."""


@dataclass(slots=True)
class Group:
    """The process group and the store beside it, for what is no collective."""

    rank: int
    size: int
    device: torch.device
    timeout: float
    _store: Store

    def exact_sum(self, values: list[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, values: list[float]) -> list[list[float]]:
        """Each rank's values, the same bits on every rank."""
        table = torch.zeros((self.size, len(values)), dtype=torch.float64, device=self.device)
        table[self.rank] = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(table)  # one value and zeros: the sum is exact
        return [[float(value) for value in row] for row in table.tolist()]

    def take_turns(self, turn: str, act: Callable[[], None], longest: float) -> None:
        """Every rank acts alone, one after another, while the others sleep.

        A barrier of the backend would do for gloo, but NCCL's spins on the GPU and every collective has the group's time limit.
        ``longest`` is how many seconds one rank's act may take.
        """
        for rank in range(self.size):
            key = f"{turn}/{rank}"
            if rank == self.rank:
                act()
                self._store.set(key, "done")
                continue
            _await_keys(self._store, {key: rank}, longest + self.timeout, f"finish {turn}")

    def leave(self) -> None:
        """Leave together, by the store alone, and end the process right after.

        The group is not torn down: gloo's destructor was seen to wait for ever for a thread that waits for Python's lock. Nobody
        leaves before all have come here, and rank 0, which holds the store, goes last.
        """
        self._store.set(f"done/{self.rank}", "")
        everyone = range(self.size)
        _await_keys(self._store, {f"done/{rank}": rank for rank in everyone}, self.timeout, "end its last case")
        if self.rank != 0:
            self._store.set(f"gone/{self.rank}", "")
            return
        _await_keys(self._store, {f"gone/{rank}": rank for rank in everyone if rank != 0}, self.timeout, "leave")


def join(plan: Plan, rank: RankPlan, device: torch.device, run_dir: Path, log: RankLog) -> Group:
    """Become part of the run's group; returns when all ranks are there."""
    return form(plan, rank, device, meet(plan, rank, run_dir, log), log)


def meet(plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog) -> Store:
    """Open or find the run's store; returns when all ranks are there."""
    limit = timedelta(seconds=plan.timeout)
    store = _open_store(plan, limit, log) if rank.rank == 0 else _find_store(run_dir, limit)
    importlib.import_module("torch._dynamo")  # the first optimizer would: a second, better spent while others still start
    shared = PrefixStore("group", store)
    # The first meeting may take as long as the slowest node needs to import torch; later the plan's limit holds.
    shared.set(f"here/{rank.rank}", "")
    _await_keys(shared, {f"here/{peer.rank}": peer.rank for peer in plan.ranks}, STORE_TIMEOUT, "join")
    return shared


def form(plan: Plan, rank: RankPlan, device: torch.device, shared: Store, log: RankLog) -> Group:
    """Open the backend over a store at which all ranks have met."""
    limit = timedelta(seconds=plan.timeout)
    dist.init_process_group(
        plan.backend,
        store=PrefixStore("backend", shared),
        rank=rank.rank,
        world_size=len(plan.ranks),
        timeout=limit,
        device_id=device if plan.backend == "nccl" else None,
    )
    log.write(RankJoined(pid=os.getpid(), world_size=len(plan.ranks), backend=plan.backend))
    return Group(rank.rank, len(plan.ranks), device, plan.timeout, PrefixStore("turns", shared))


def is_collateral(error: BaseException) -> bool:
    """Whether a collective or the store broke because a peer was gone, as opposed to a fault of this rank's own."""
    if isinstance(error, (PeerFailed, dist.DistError)):
        return True
    return type(error) is RuntimeError and any(word in str(error).lower() for word in _PEER_GONE)


def _await_keys(store: Store, keys: dict[str, int], limit: float, deed: str) -> None:
    """Sleep until all keys are set; each belongs to the rank that sets it."""
    deadline = time.monotonic() + limit
    while not store.check(list(keys)):
        if time.monotonic() > deadline:
            missing = ", ".join(str(rank) for key, rank in keys.items() if not store.check([key]))
            raise PeerFailed(f"timed out after {limit:.0f} s: rank {missing} did not {deed}", hint="see out.log of its node")
        time.sleep(POLL)


def _open_store(plan: Plan, limit: timedelta, log: RankLog) -> Store:
    address = plan.node_of(0).address
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((address, 0))  # torch itself would listen on every interface of the machine
    listener.listen(len(plan.ranks) * 4)
    port = int(listener.getsockname()[1])
    store = TCPStore(
        address,
        port,
        len(plan.ranks),
        is_master=True,
        timeout=limit,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    log.store_opened(address, port)
    return store


def _find_store(run_dir: Path, limit: timedelta) -> Store:
    path = run_dir / "store.json"
    deadline = time.monotonic() + STORE_TIMEOUT
    while not path.exists():
        if time.monotonic() > deadline:
            raise PeerFailed(f"rank 0 has not opened the store within {STORE_TIMEOUT:.0f} s", hint="see out.log of its node")
        time.sleep(POLL)
    opened = json.loads(path.read_text())  # written aside and renamed: whole when it exists
    return TCPStore(opened["address"], opened["port"], is_master=False, timeout=limit, wait_for_workers=False)
