"""Loaders that are doors: behind a script's own batch sampler its global batches, and this rank's part of them by the shares.

The script finds its loader, sampler and batch sampler where it put them; only the iterator of the loader sees another one.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, RandomSampler

from ..balance import Balance
from ..gradient.cuts import Cut, positions
from ..session import ScriptSession

EPOCH_SET = "_paceline_epoch_set"

Batch = tuple[list[int], Callable[[], list[int]]]
"""What the script's own sampler gives this rank, and the rows of the whole global batch, computed when they are needed."""


class Source(Protocol):
    """Where the global batches of a loader come from."""

    name: str
    """The door that a person reads."""
    full: int
    """Samples of a full global batch."""
    low: int
    """Samples of one rank's own batch."""

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of one epoch."""


class Distributed:
    """A ``BatchSampler`` over torch's ``DistributedSampler``."""

    name = "torch"

    def __init__(self, own: BatchSampler, sampler: DistributedSampler[Any]) -> None:
        self.own, self.sampler = own, sampler
        self.low = own.batch_size
        self.full = own.batch_size * sampler.num_replicas

    def batches(self) -> Iterator[Batch]:
        """Yield the same global batches as the sampler deals out to all ranks, without what it pads."""
        count = min(len(self.sampler.dataset), self.sampler.total_size)  # type: ignore[arg-type]  # a Dataset need not have a length; a sampler of torch needs one
        order: list[int] = []

        def whole(start: int) -> list[int]:
            if not order:
                order.extend(epoch_order(self.sampler))
            return order[start : min(start + self.full, count)]

        for step, batch in enumerate(self.own):
            yield batch, lambda start=step * self.full: whole(start)  # type: ignore[misc]  # mypy sees no default


class Sharded:
    """Accelerate's ``BatchSamplerShard``, which Hugging Face's Trainer uses as well: all ranks read all batches."""

    name = "accelerate"

    def __init__(self, own: Any) -> None:
        self.own = own
        size = int(own.batch_sampler.batch_size)
        self.full = size if own.split_batches else size * int(own.num_processes)
        self.low = self.full // int(own.num_processes)

    def batches(self) -> Iterator[Batch]:
        """Yield what the shard yields; what it has read meanwhile is the global batch."""
        tap = _Tap(self.own.batch_sampler)
        shard = copy.copy(self.own)
        shard.batch_sampler = tap
        for batch in shard:
            rows, tap.rows = tap.rows, []
            yield batch, lambda rows=rows: rows  # type: ignore[misc]  # mypy sees no default


class _Tap:
    """Passes batches on and remembers their rows."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            self.rows.extend(batch)
            yield batch


class ShareSampler(BatchSampler):
    """What the iterator of a door sees: the same batches, or parts of the same global batch."""

    def __init__(self, session: ScriptSession, own: Any, source: Source) -> None:
        # Without super().__init__(): all of it is the script's own.
        self.session, self.own, self.source = session, own, source
        self.batch_size, self.drop_last = own.batch_size, own.drop_last
        self.newest: deque[Cut] = deque()
        """Cuts of the newest iteration, in the order of its batches; workers prefetch, so they are cut some steps ahead."""

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[list[int]]:
        self.newest = deque()
        self.session.begin_loader(id(self))
        return self._cut(self.newest)

    def _cut(self, queue: deque[Cut]) -> Iterator[list[int]]:
        session = self.session
        for batch, whole in self.source.batches():
            balance = session.balance
            rows = whole() if session.judge.state == "balanced" and session.policy != "equal" and balance is not None else []
            if rows and balance is not None:
                cut = Cut(balance.sizes_for(len(rows)), session.rank, stand_ins=balance.low)
                if not session.shows_stand_ins or all(cut.sizes):
                    queue.append(cut)
                    yield [rows[place] for place in positions(cut, 0)]
                    continue
            queue.append(Cut((len(batch),) * session.world, session.rank, is_own=True))
            yield batch


def source_of(loader: DataLoader[Any]) -> Source:
    """Return where the global batches of a loader without a hindrance come from."""
    own: Any = loader.batch_sampler
    if _is_shard(own):
        return Sharded(own)
    assert isinstance(loader.sampler, DistributedSampler)
    return Distributed(own, loader.sampler)


def hindrance_of(loader: DataLoader[Any], session: ScriptSession) -> str | None:
    """Return the start of the reason why a loader is no door; None where it is one."""
    if isinstance(loader.dataset, IterableDataset):
        return "its data are iterable"
    if not getattr(loader, "in_order", True):
        return "its loader hands batches out in any order"
    if _is_shard(loader.batch_sampler):
        return _hindrance_of_shard(loader.batch_sampler, session)
    sampler = loader.sampler
    if loader.batch_size is None:
        return "its loader has a batch sampler of its own" if loader.batch_sampler is not None else "its loader has no batch size"
    if type(loader.batch_sampler) is not BatchSampler:
        return "its loader has a batch sampler of its own"
    if not isinstance(sampler, DistributedSampler) or type(sampler).__iter__ is not DistributedSampler.__iter__:
        return "its loader has a sampler of its own"
    if sampler.num_replicas != session.world or sampler.rank != session.rank:
        return "its sampler shares the data among another number"
    if not sampler.shuffle and not getattr(sampler, EPOCH_SET, False):
        return "its loader does not shuffle"
    return None


def _hindrance_of_shard(shard: Any, session: ScriptSession) -> str | None:
    inner = shard.batch_sampler
    if type(inner) is not BatchSampler or not isinstance(inner.batch_size, int) or not (shard.even_batches or shard.drop_last):
        return "its loader has a batch sampler of its own"
    if shard.num_processes != session.world or shard.process_index != session.rank:
        return "its sampler shares the data among another number"
    if not isinstance(inner.sampler, RandomSampler):
        return "its loader does not shuffle"
    return None


def _is_shard(sampler: Any) -> bool:
    return type(sampler).__name__ == "BatchSamplerShard" and type(sampler).__module__.startswith("accelerate.")


def is_evaluation(session: ScriptSession) -> bool:
    """Whether all models of the script are in evaluation mode: what a loader gives now is not trained."""
    return bool(session.models) and not any(wrapped.ddp.training for wrapped in session.models)


def open_balance(session: ScriptSession, source: Source) -> bool:
    """Return whether a loader is the training loader; the first door of the script is."""
    if session.balance is None:
        low = 2 if any(model.has_batch_norm for model in session.models) else 1
        session.balance = Balance(session.policy, source.full, session.world, low, session.profile)
        session.recorder.begin_epochs(session.policy, (source.low,) * session.world)
    if session.balance.problem.global_batch_size != source.full:
        return False
    session.door = source.name
    return True


def epoch_order(sampler: DistributedSampler[Any]) -> list[int]:
    """Return the order in which ``DistributedSampler`` deals out the data of its epoch, without what it pads."""
    count = len(sampler.dataset)  # type: ignore[arg-type]  # a Dataset need not have a length; a sampler of torch needs one
    if not sampler.shuffle:
        return list(range(count))
    generator = torch.Generator()
    generator.manual_seed(sampler.seed + sampler.epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order
