"""The rendezvous: all ranks of a run meet at a store that rank 0 opens.

torchrun only starts processes on its node (one standalone launch per node); the plan assigns the ranks. Rank 0 opens a store at a
port that the kernel chooses and writes the address to its rank file; the runners carry it to the other nodes as store.json.
"""

from __future__ import annotations

import importlib
import json
import socket
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...plan import Plan, RankPlan
from ..rank_log import RankLog
from .peer_failure import PeerFailed

STORE_TIMEOUT_S = 300.0
"""Seconds that a rank waits for the store's address: other nodes may import torch from a slow disk."""
GROUP_POLL_S = 0.05
"""Seconds between two polls of a file or store key: waiting ranks use next to no CPU and disturb no measurement."""


def rendezvous(plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog) -> Store:
    """Open or find the run's store; return it when all ranks have joined. Raises PeerFailed where one does not in time."""
    limit = timedelta(seconds=plan.timeout)
    store = _open_store(plan, limit, log) if rank.rank == 0 else _find_store(run_dir, limit)
    importlib.import_module(
        "torch._dynamo"
    )  # the first optimizer imports it anyway: one second, spent while other ranks still start
    shared = PrefixStore("group", store)
    # Joining takes as long as the slowest node needs to import torch; later waits have the plan's timeout.
    shared.set(f"here/{rank.rank}", "")
    await_keys(shared, {f"here/{peer.rank}": peer.rank for peer in plan.ranks}, STORE_TIMEOUT_S, "join")
    return shared


def await_keys(store: Store, keys: dict[str, int], timeout: float, action: str) -> None:
    """Sleep until all keys are set, each by its rank. Raises PeerFailed naming the ranks that did not ``action`` in time."""
    deadline = time.monotonic() + timeout
    while not store.check(list(keys)):
        if time.monotonic() > deadline:
            missing = ", ".join(str(rank) for key, rank in keys.items() if not store.check([key]))
            raise PeerFailed(f"timed out after {timeout:.0f} s: rank {missing} did not {action}", hint="see out.log of its node")
        time.sleep(GROUP_POLL_S)


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
    log.write_store_opened(address, port)
    return store


def _find_store(run_dir: Path, limit: timedelta) -> Store:
    path = run_dir / "store.json"
    deadline = time.monotonic() + STORE_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise PeerFailed(f"rank 0 has not opened the store within {STORE_TIMEOUT_S:.0f} s", hint="see out.log of its node")
        time.sleep(GROUP_POLL_S)
    address = json.loads(path.read_text())  # renamed into place: complete when it exists
    return TCPStore(address["address"], address["port"], is_master=False, timeout=limit, wait_for_workers=False)
