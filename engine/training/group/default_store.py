"""Makes the run's store the one that ``init_process_group`` uses by itself, instead of a TCPStore, which listens everywhere."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # torch re-exports it implicitly

from .run_store import RunStore
from .sealed_ports import listening_descriptors, seal_ports

FORMING_POLL_S, FORMING_TIMEOUT_S = 0.02, 1800.0

_kept: list[RunStore] = []
"""torch keeps the C++ part of a store only."""


def run_store(run_dir: Path) -> RunStore:
    """The store of this process's run, one for all uses."""
    if not _kept:
        _kept.append(RunStore(run_dir))
    return _kept[0]


def offer_store(run_dir: Path, rank: int, world_size: int) -> None:
    """Answer ``env://``, torch's default, with the run's store. Each group has keys of its own: old addresses mislead."""
    numbers = itertools.count()

    def handle(url: str, timeout: timedelta | None = None, **_: Any) -> Iterator[tuple[Store, int, int]]:
        store = run_store(run_dir)
        if timeout is not None:
            store.set_timeout(timeout)
        threading.Thread(target=_seal_once_formed, args=(listening_descriptors(),), daemon=True).start()
        asked = parse_qs(urlparse(url).query)  # what the program passed to init_process_group
        own_rank, own_size = int(asked.get("rank", [rank])[0]), int(asked.get("world_size", [world_size])[0])
        yield PrefixStore(f"env/{next(numbers)}", store), own_rank, own_size
        raise RuntimeError("a group cannot be formed again over the same store")  # as torch's own handlers do

    module = sys.modules["torch.distributed.rendezvous"]  # torch.distributed.rendezvous itself is a function of the same name
    handlers: dict[str, Any] = module._rendezvous_handlers  # torch has no other way to replace one
    handlers.pop("env", None)
    module.register_rendezvous_handler("env", handle)


def _seal_once_formed(known: set[int]) -> None:
    """Seal gloo's ports as soon as the program's first group stands: ``init_process_group`` does not come back to us."""
    deadline = time.monotonic() + FORMING_TIMEOUT_S
    while not dist.is_initialized():
        if time.monotonic() > deadline:
            return
        time.sleep(FORMING_POLL_S)
    if dist.get_backend() == "gloo":
        seal_ports(known)
