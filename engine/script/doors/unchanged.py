"""The doors of an unchanged script: its loader, its iterator, its DDP model; and what shows that it cannot be balanced."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset
from torch.utils.data import dataloader as loaders

from ..balance import Balance
from ..gradient.cuts import Cut, positions
from ..session import LARGE_TENSOR, ScriptSession
from .gradient import carry_slot, open_gradient_door
from .patches import Patches

_EPOCH_SET = "_paceline_epoch_set"
_REASON = "_paceline_reason"
_GATHERS = ("all_gather", "all_gather_into_tensor", "_all_gather_base", "gather", "all_to_all", "all_to_all_single")


def open_doors(session: ScriptSession) -> Patches:
    """Open all doors of this process; returns how to close them."""
    patches = Patches()
    open_gradient_door(session, patches)
    patches.replace(DistributedDataParallel, "__init__", functools.partial(_constructed, session))
    patches.replace(DistributedDataParallel, "register_comm_hook", functools.partial(_hooked, session))
    patches.replace(DataLoader, "__iter__", functools.partial(_iterated, session))
    patches.replace(loaders._BaseDataLoaderIter, "__next__", functools.partial(_handed_out, session))
    patches.replace(DistributedSampler, "set_epoch", _epoch_set)
    patches.replace(Join, "__enter__", functools.partial(_noticed, session, "it uses Join"))
    for name in _GATHERS:
        patches.replace(dist, name, functools.partial(_gathered, session))
    patches.replace(dist, "all_reduce", functools.partial(_reduced, session))
    return patches


class ShareSampler(BatchSampler):
    """Stands behind a script's loader instead of its own batch sampler: the same batches, or parts of the same global batch."""

    def __init__(self, session: ScriptSession, own: BatchSampler, sampler: DistributedSampler[Any]) -> None:
        # Without super().__init__(): all of it is the script's own.
        self.session, self.own = session, own
        self.sampler: Any = sampler
        self.batch_size, self.drop_last = own.batch_size, own.drop_last
        self.queue: deque[Cut] = deque()
        """Cuts in the order of the batches; workers prefetch, so a batch is cut some steps before it is handed out."""

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[list[int]]:
        session, sampler = self.session, self.sampler
        self.queue.clear()
        session.begin_loader(id(self))
        order: list[int] | None = None
        count = min(len(sampler.dataset), sampler.total_size)
        full = self.batch_size * session.world
        for step, batch in enumerate(self.own):
            start = step * full
            total = min(full, count - start)
            balance = session.balance
            if session.judge.state != "balanced" or balance is None or session.policy == "equal" or total <= 0:
                self.queue.append(Cut((len(batch),) * session.world, session.rank, is_own=True))
                yield batch
                continue
            if order is None:
                order = epoch_order(sampler)
            cut = Cut(balance.sizes_for(total), session.rank, stand_ins=balance.low)
            self.queue.append(cut)
            yield [order[place] for place in positions(cut, start)]


def epoch_order(sampler: DistributedSampler[Any]) -> list[int]:
    """Return the order in which ``DistributedSampler`` deals out the data of its epoch, without what it pads."""
    count = len(sampler.dataset)  # type: ignore[arg-type]
    if not sampler.shuffle:
        return list(range(count))
    generator = torch.Generator()
    generator.manual_seed(sampler.seed + sampler.epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def hindrance_of(loader: DataLoader[Any], session: ScriptSession) -> str | None:
    """Return the start of the reason why a loader is no door; None where it is one."""
    sampler = loader.sampler
    if isinstance(loader.dataset, IterableDataset):
        return "its data are iterable"
    if loader.batch_size is None:
        return "its loader has a batch sampler of its own" if loader.batch_sampler is not None else "its loader has no batch size"
    if type(loader.batch_sampler) is not BatchSampler:
        return "its loader has a batch sampler of its own"
    if not isinstance(sampler, DistributedSampler) or type(sampler).__iter__ is not DistributedSampler.__iter__:
        return "its loader has a sampler of its own"
    if sampler.num_replicas != session.world or sampler.rank != session.rank:
        return "its sampler shares the data among another number"
    if not sampler.shuffle and not getattr(sampler, _EPOCH_SET, False):
        return "its loader does not shuffle"
    return None


def _iterated(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def iterate(self: DataLoader[Any]) -> Any:
        is_door = isinstance(self.batch_sampler, ShareSampler)
        reason = None if is_door else hindrance_of(self, session)
        if not is_door and reason is None:
            own = self.batch_sampler
            assert isinstance(own, BatchSampler)
            assert isinstance(self.sampler, DistributedSampler)
            size = own.batch_size * session.world
            if session.balance is None:
                low = 2 if any(model.has_batch_norm for model in session.models) else 1
                session.balance = Balance(session.policy, size, session.world, low)
                session.recorder.begin_epochs(session.policy, (own.batch_size,) * session.world)
            if session.balance.problem.global_batch_size == size:
                # The loader's own __setattr__ refuses it; the script still finds its sampler where it put it.
                self.__dict__["batch_sampler"] = ShareSampler(session, own, self.sampler)
        iterator = original(self)
        iterator.__dict__[_REASON] = reason or "it takes the batches of several loaders"
        return iterator

    return iterate


def _handed_out(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def hand_out(self: Any) -> Any:
        sampler = self._index_sampler
        if not isinstance(sampler, ShareSampler):
            batch = original(self)
            if torch.is_grad_enabled():
                session.hand_out_foreign(self.__dict__[_REASON])
            return batch
        session.take()
        try:
            batch = original(self)
        except StopIteration:
            session.end_epoch()
            raise
        session.hand_out(id(sampler), sampler.queue.popleft())
        return batch

    return hand_out


def _epoch_set(original: Any) -> Any:
    @functools.wraps(original)
    def set_epoch(self: Any, epoch: int) -> None:
        self.__dict__[_EPOCH_SET] = True
        original(self, epoch)

    return set_epoch


def _constructed(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def construct(self: DistributedDataParallel, module: Any, *args: Any, **kwargs: Any) -> None:
        if session.models:
            session.judge.notice("it trains several models")
        if not any(weight.requires_grad for weight in module.parameters()):
            original(self, module, *args, **kwargs)
            return
        carry_slot(session, self, module, lambda: original(self, module, *args, **kwargs))

    return construct


def _hooked(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def register(self: DistributedDataParallel, state: object, hook: Any) -> None:
        if "localsgd" in f"{getattr(hook, '__name__', '')} {type(state).__name__}".lower().replace("_", ""):
            session.judge.notice("it averages weights")
        original(self, state, hook)

    return register


def _noticed(session: ScriptSession, reason: str, original: Any) -> Any:
    @functools.wraps(original)
    def notice(*args: Any, **kwargs: Any) -> Any:
        session.judge.notice(reason)
        return original(*args, **kwargs)

    return notice


def _gathered(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def gather(*args: Any, **kwargs: Any) -> Any:
        # torch's SyncBatchNorm gathers statistics with their counts: it is exact with unequal batches.
        if session.is_between_batch_and_backward and not _caller().startswith("torch.nn.modules"):
            session.judge.notice("its loss collects samples")
        return original(*args, **kwargs)

    return gather


def _reduced(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def reduce(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or _caller().startswith(("torch.nn.modules", "paceline")):
            return original(tensor, *args, **kwargs)
        if session.is_before_step:
            session.reduced(tensor)
        elif session.is_between_batch_and_backward and (tensor.numel() >= LARGE_TENSOR or tensor.requires_grad):
            session.judge.notice("its loss collects samples")
        return original(tensor, *args, **kwargs)

    return reduce


def _caller() -> str:
    """Name of the module that called the replaced function."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))
