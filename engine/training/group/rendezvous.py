"""The rendezvous: all ranks of a run meet at the store that the runners carry.

torchrun only starts processes on its node (``training.launcher``); the plan assigns the ranks.
"""

from __future__ import annotations

import importlib
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...plan import Plan, RankPlan
from .default_store import run_store
from .peer_failure import PeerFailed

STORE_TIMEOUT_S = 300.0
"""Seconds that a rank waits for the others: other nodes may import torch from a slow disk."""
GROUP_POLL_S = 0.05
"""Seconds between two polls of a file or store key: waiting ranks use next to no CPU and disturb no measurement."""


def rendezvous(plan: Plan, rank: RankPlan, run_dir: Path) -> Store:
    """Return the run's store when all ranks have joined. Raises PeerFailed where one does not in time."""
    store = run_store(run_dir)
    store.set_timeout(timedelta(seconds=plan.timeout))
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
