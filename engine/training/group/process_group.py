"""The process group: rank, world size, store and backend of a run.

Every other module takes them from here, so that the way a group forms can change (joining, leaving, re-forming in place) in one
module.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...events import RankJoined
from ...plan import Plan, RankPlan
from ..rank_log import RankLog
from .default_store import run_store
from .rendezvous import await_keys, rendezvous
from .run_store import RunStore
from .sealed_ports import listening_descriptors, seal_ports


@dataclass(slots=True)
class Group:
    """The process group, and its store for waits that are no collectives."""

    rank: int
    size: int
    device: torch.device
    timeout: float
    _store: Store
    _run_store: RunStore | None = None
    """None: a group outside of a run, whose end nobody records."""

    def exact_sum(self, values: list[float]) -> list[float]:
        """Return the sums over all ranks, in float64. Collective."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, values: list[float]) -> list[list[float]]:
        """Return each rank's values, the same bits on every rank. Collective."""
        table = torch.zeros((self.size, len(values)), dtype=torch.float64, device=self.device)
        table[self.rank] = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(table)  # one value and zeros: the sum is exact
        return [[float(value) for value in row] for row in table.tolist()]

    def take_turns(self, name: str, action: Callable[[], None], max_seconds: float) -> None:
        """Run ``action`` on one rank after another, while the other ranks sleep. Collective.

        A barrier of the backend would serve for gloo, but NCCL's spins on the GPU and every collective has the group's timeout.
        ``max_seconds`` is the limit of one rank's action. Raises PeerFailed where a rank exceeds it.
        """
        for rank in range(self.size):
            key = f"{name}/{rank}"
            if rank == self.rank:
                action()
                self._store.set(key, "done")
                continue
            await_keys(self._store, {key: rank}, max_seconds + self.timeout, f"finish {name}")

    def tell(self, name: str, text: str) -> None:
        """Tell the other ranks of this group something that they wait for."""
        self._store.set(name, text)

    def hear(self, name: str) -> str:
        """Wait for what a rank of this group tells. Raises DistError where none does in time."""
        return self._store.get(name).decode()

    def leave(self) -> None:
        """Leave together, through the store alone; the process has to end right after.

        The process group is not destroyed: gloo's destructor was observed to wait forever for a thread that waits for Python's
        lock. No rank leaves before all have called this. From then on the run is done, whatever happens to its processes.
        """
        if self._run_store is not None:
            self._run_store.finish(self.rank, self.timeout)


def join_group(plan: Plan, rank: RankPlan, device: torch.device, run_dir: Path, log: RankLog) -> Group:
    """Join the run's process group; return when all ranks have joined."""
    return form_group(plan, rank, device, rendezvous(plan, rank, run_dir), run_dir, log)


def form_group(plan: Plan, rank: RankPlan, device: torch.device, shared: Store, run_dir: Path, log: RankLog) -> Group:
    """Open the backend over a store that all ranks have joined. Collective."""
    limit = timedelta(seconds=plan.timeout)
    listening = listening_descriptors()
    dist.init_process_group(
        plan.backend,
        store=PrefixStore("backend", shared),
        rank=rank.rank,
        world_size=len(plan.ranks),
        timeout=limit,
        device_id=device if plan.backend == "nccl" else None,
    )
    if plan.backend == "gloo":
        seal_ports(listening)  # NCCL connects later, too
    log.write(RankJoined(pid=os.getpid(), world_size=len(plan.ranks), backend=plan.backend))
    return Group(rank.rank, len(plan.ranks), device, plan.timeout, PrefixStore("turns", shared), run_store(run_dir))
