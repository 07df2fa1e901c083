"""The doors of an unchanged script: its loader, its iterator, its DDP model; and what shows that it cannot be balanced."""

from __future__ import annotations

import functools
import sys
from collections import deque
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torch.utils.data import dataloader as loaders

from ..gradient.cuts import Cut
from ..session import LARGE_TENSOR, ScriptSession
from .gradient import carry_slot, open_gradient_door, pointers_of
from .loaders import EPOCH_SET, ShareSampler, hindrance_of, is_evaluation, open_balance, source_of
from .patches import Patches

_REASON = "_paceline_reason"
_QUEUE = "_paceline_queue"
_SHARE = "_paceline_share"
_IS_DOOR = "_paceline_is_door"
_EVALUATION = "evaluation"
_GATHERS = ("all_gather", "all_gather_into_tensor", "_all_gather_base", "gather", "all_to_all", "all_to_all_single")


def open_doors(session: ScriptSession) -> Patches:
    """Open all doors of this process; returns how to close them."""
    patches = Patches()
    open_gradient_door(session, patches)
    patches.replace(DistributedDataParallel, "__init__", functools.partial(_constructed, session))
    patches.replace(DistributedDataParallel, "register_comm_hook", functools.partial(_hooked, session))
    patches.replace(DataLoader, "_index_sampler", _index_sampler)
    patches.replace(DataLoader, "__iter__", functools.partial(_iterated, session))
    patches.replace(loaders._BaseDataLoaderIter, "__next__", functools.partial(_handed_out, session))
    patches.replace(DistributedSampler, "set_epoch", _epoch_set)
    patches.replace(Join, "__enter__", functools.partial(_noticed, session, "it uses Join"))
    for name in _GATHERS:
        patches.replace(dist, name, functools.partial(_gathered, session))
    patches.replace(dist, "all_reduce", functools.partial(_reduced, session))
    return patches


def _iterated(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def iterate(self: DataLoader[Any]) -> Any:
        share: ShareSampler | None = self.__dict__.get(_SHARE)
        if is_evaluation(session):
            reason = _EVALUATION
        elif share is not None:
            reason = None
        elif (reason := hindrance_of(self, session)) is None:
            source = source_of(self)
            if open_balance(session, source):
                share = self.__dict__[_SHARE] = ShareSampler(session, self.batch_sampler, source)
            else:
                reason = "it takes the batches of several loaders"
        self.__dict__[_IS_DOOR] = reason is None
        iterator = original(self)
        iterator.__dict__[_REASON] = reason
        iterator.__dict__[_QUEUE] = share.newest if share is not None and reason is None else None
        return iterator

    return iterate


def _index_sampler(original: Any) -> Any:
    """What an iterator draws its batches from. The loader's own stays where the script put it."""

    def sampler(self: DataLoader[Any]) -> Any:
        share = self.__dict__.get(_SHARE)
        return share if share is not None and self.__dict__.get(_IS_DOOR) else original.fget(self)

    return property(sampler)


def _handed_out(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def hand_out(self: Any) -> Any:
        queue: deque[Cut] | None = self.__dict__.get(_QUEUE)
        if queue is None:
            batch = original(self)
            reason = self.__dict__.get(_REASON)
            if reason is not None and reason != _EVALUATION and torch.is_grad_enabled():
                session.hand_out_foreign(reason)
            return batch
        session.take()
        try:
            batch = original(self)
        except StopIteration:
            session.end_epoch()
            raise
        session.hand_out(id(self._index_sampler), queue.popleft(), pointers_of(batch))
        return batch

    return hand_out


def _epoch_set(original: Any) -> Any:
    @functools.wraps(original)
    def set_epoch(self: Any, epoch: int) -> None:
        self.__dict__[EPOCH_SET] = True
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
        wrapped = carry_slot(session, self, module, lambda: original(self, module, *args, **kwargs))
        if wrapped.has_batch_norm and session.balance is not None:
            session.balance.raise_low(2)
        session.shows_stand_ins |= any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules())

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
        if not _caller().startswith("torch.nn.modules"):
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            session.gathered(tensors, is_evaluation=is_evaluation(session))
        return original(*args, **kwargs)

    return gather


def _reduced(session: ScriptSession, original: Any) -> Any:
    @functools.wraps(original)
    def reduce(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or _caller().startswith(("torch.nn.modules", "paceline")):
            return original(tensor, *args, **kwargs)
        if session.is_before_step:
            session.reduced(tensor)
        elif session.is_between_batch_and_backward:
            if tensor.numel() >= LARGE_TENSOR or tensor.requires_grad:
                session.judge.notice("its loss collects samples")
            session.shows_stand_ins = True
        if tensor.numel() == 1 and tensor.is_floating_point():
            session.summed_value()
        return original(tensor, *args, **kwargs)

    return reduce


def _caller() -> str:
    """Name of the module that called the replaced function."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))
