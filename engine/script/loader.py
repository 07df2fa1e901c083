"""The library's loader: global batches cut by the shares of all ranks, every sample of an epoch exactly once, on the device."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ..errors import UsageError
from ..training.shares.sampler import epoch_order, whole_epoch_order
from .balance import Balance
from .doors.gradient import pointers_of
from .gradient.cuts import Cut, equal_sizes, positions
from .session import ScriptSession

_ORDERED_ROWS = 1 << 22
"""Rows whose order is kept for an epoch, 32 MiB at most; that of more rows is computed for each batch."""


class Loader:
    """An iterable of this rank's batches. In training every rank gets as many; in evaluation each gets its part of the data."""

    def __init__(
        self,
        session: ScriptSession,
        data: Any,
        global_batch_size: int,
        *,
        shuffle: bool,
        training: bool,
        seed: int,
        options: dict[str, Any],
    ) -> None:
        """``data``: a map-style data set, an iterable one, or anything with a length and rows. Raises UsageError."""
        if global_batch_size < 1:
            raise UsageError(f"a global batch of {global_batch_size} samples")
        global_batch_size = session.batch or global_batch_size if training else global_batch_size
        self.global_batch_size, self.training, self.epoch = global_batch_size, training, 0
        self._session, self._data, self._shuffle, self._seed = session, data, shuffle, seed
        self._is_stream = isinstance(data, IterableDataset) or not hasattr(data, "__getitem__")
        self._queue: deque[Cut] = deque()
        self.seconds = 0.0
        """Of the newest pass of a training,"""
        self.samples = 0
        """and the samples that this rank trained in it."""
        self.on_end: Callable[[], None] = lambda: None
        """Called when all batches of an epoch are trained. Collective."""
        self.on_batch: Callable[[int], None] = lambda samples: None
        """Called before a batch is taken, with the samples of the epoch that all ranks have taken together."""
        self._first_sample = 0
        """Of the epoch that is read: a resumed run has trained those before."""
        options = {"pin_memory": session.device.type == "cuda", **options}
        if self._is_stream:
            if options.get("num_workers"):
                raise UsageError("iterable data are read by the rank itself", hint="leave num_workers out")
            collate = options.pop("collate_fn", None) or default_collate
            self._loader: DataLoader[Any] = DataLoader(_Stream(self), batch_size=None, collate_fn=collate, **options)
        elif hasattr(data, "epoch_order"):  # data on disk read ahead by a thread of their own, so workers would only wait for it
            pinned = {"pin_memory": options["pin_memory"]}
            self._loader = DataLoader(_WholeBatches(data), sampler=_Batches(self), batch_size=None, **pinned)
        elif hasattr(data, "read_batch") and options.get("collate_fn") is None:  # a batch in one piece: no tensor a sample
            self._loader = DataLoader(_WholeBatches(data), sampler=_Batches(self), batch_size=None, **options)
        else:
            self._loader = DataLoader(_Rows(data), batch_sampler=_Batches(self), **options)

    def __len__(self) -> int:
        """Batches of this rank in one epoch. Raises TypeError for iterable data, as nobody knows it."""
        if self._is_stream or not isinstance(self._data, Sized):
            raise TypeError("iterable data have no length")
        if self.training:
            return -(-len(self._data) // self.global_batch_size)
        first, last = self._part()
        return -(-(last - first) // self._evaluation_size())

    def steps(self, epochs: int) -> int:
        """Return the batches of some epochs, for a scheduler of the learning rate."""
        return epochs * len(self)

    def __iter__(self) -> Iterator[Any]:
        """Yield batches on the device."""
        session = self._session
        if not self.training:
            for batch in self._loader:
                yield to_device(batch, session.device)
            return
        balance = session.balance
        if balance is None:
            low = 2 if any(model.has_batch_norm for model in session.models) else 1
            balance = session.balance = Balance(session.policy, self.global_batch_size, session.world, low, session.profile)
            session.recorder.begin_epochs(session.policy, balance.sizes)
        self._queue.clear()
        self._first_sample, session.resumed_samples = session.resumed_samples, 0
        taken = self._first_sample
        session.begin_loader(id(self))
        started, samples = time.perf_counter(), 0
        batches = iter(self._loader)
        while True:
            self.on_batch(taken)
            session.take()
            try:
                batch = next(batches)
            except StopIteration:
                break
            cut = self._queue.popleft()
            samples += cut.own
            taken += cut.total
            batch = to_device(batch, session.device)
            session.hand_out(id(self), cut, pointers_of(batch))
            yield batch
        self.epoch += 1
        session.end_epoch()
        self.seconds, self.samples = time.perf_counter() - started, samples
        self.on_end()

    # Inside -----------------------------------------------------------------------------------------------------------------

    def _cut(self, samples: int) -> Cut:
        balance = self._session.balance
        assert balance is not None
        cut = Cut(balance.sizes_for(samples), self._session.rank, stand_ins=min(balance.low, samples))
        self._queue.append(cut)
        return cut

    def _part(self) -> tuple[int, int]:
        """First and last (exclusive) row of this rank in an evaluation: parts in proportion to the shares."""
        session, count = self._session, len(self._data)
        shares = (1,) * session.world if session.balance is None else session.balance.sizes
        before, own, total = sum(shares[: session.rank]), shares[session.rank], sum(shares)
        return count * before // total, count * (before + own) // total

    def _evaluation_size(self) -> int:
        shares = () if self._session.balance is None else self._session.balance.sizes
        own = shares[self._session.rank] / sum(shares) if shares else 1 / self._session.world
        return max(1, round(self.global_batch_size * own))


class _Rows(Dataset[Any]):
    """Any rows as a data set, so that workers can read them."""

    def __init__(self, data: Any) -> None:
        self._data = data
        if hasattr(data, "__getitems__"):
            self.__getitems__ = data.__getitems__

    def __getitem__(self, row: int) -> Any:
        return self._data[row]

    def __len__(self) -> int:
        return len(self._data)


class _WholeBatches(Dataset[Any]):
    """Data that give a whole batch by the numbers of its rows."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getitem__(self, rows: Any) -> Any:
        return self._data.read_batch(rows)

    def __len__(self) -> int:
        return len(self._data)


class _Batches:
    """Row numbers of this rank's batches, cut when the loader asks for them."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[int]]:
        loader, count = self._loader, len(self._loader._data)
        if not loader.training:
            first, last = loader._part()
            size = loader._evaluation_size()
            for start in range(first, last, size):
                yield list(range(start, min(start + size, last)))
            return
        for start in range(loader._first_sample, count, loader.global_batch_size):
            cut = loader._cut(min(loader.global_batch_size, count - start))
            own = positions(cut, start)
            yield self._rows(count, own) if loader._shuffle else list(own)

    def _rows(self, count: int, own: range) -> list[int]:
        """Row numbers at these positions of the epoch's order."""
        loader = self._loader
        found: list[int]
        if hasattr(loader._data, "epoch_order"):  # data on disk have an order that reads whole blocks
            found = loader._data.epoch_order(loader._seed, loader.epoch, own.start, own.stop).tolist()
        elif count > _ORDERED_ROWS:
            found = epoch_order(count, loader._seed, loader.epoch, own.start, own.stop).tolist()
        else:
            found = whole_epoch_order(count, loader._seed, loader.epoch)[own.start : own.stop].tolist()
        return found


class _Stream(IterableDataset[Any]):
    """This rank's parts of a stream that every rank reads."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[list[Any]]:
        loader = self._loader
        stream: Iterable[Any] = loader._data
        source = iter(stream)
        if loader.training:
            collections.deque(itertools.islice(source, loader._first_sample), maxlen=0)  # read and left out
        while batch := list(itertools.islice(source, loader.global_batch_size)):
            if loader.training:
                own = positions(loader._cut(len(batch)), 0)
            else:
                session = loader._session
                sizes = equal_sizes(len(batch), session.world)
                own = range(sum(sizes[: session.rank]), sum(sizes[: session.rank + 1]))
                if not own:
                    continue
            yield [batch[place] for place in own]


def to_device(value: Any, device: torch.device) -> Any:
    """Return the same nested value with its tensors on the device; what it does not know stays as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(value).to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(part, device) for part in value))
    if isinstance(value, dict):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, Mapping) or (hasattr(value, "to") and not isinstance(value, type)):
        return value.to(device) if hasattr(value, "to") else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: to_device(getattr(value, name), device) for name in names})
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return type(value)(to_device(part, device) for part in value)  # type: ignore[call-arg]  # list or tuple
    return value


def split_batch(value: Any, start: int, stop: int, size: int) -> Any:
    """Return rows ``start`` to ``stop`` of a nested batch of ``size`` samples; what has no such rows stays whole."""
    if isinstance(value, torch.Tensor):
        return value[start:stop] if value.dim() and len(value) == size else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(split_batch(part, start, stop, size) for part in value))
    if isinstance(value, Mapping):
        return {key: split_batch(part, start, stop, size) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: split_batch(getattr(value, name), start, stop, size) for name in names})
    if isinstance(value, list | tuple):
        if len(value) == size and not any(isinstance(part, torch.Tensor) and part.dim() and len(part) == size for part in value):
            return value[start:stop]
        return type(value)(split_batch(part, start, stop, size) for part in value)
    return value
