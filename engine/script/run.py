"""The library: ``run = paceline.init()`` gives a training script its device, model, loaders, metrics and checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset

from ..errors import UsageError, WorkFailed
from ..states import Policy
from ..training.normalization import batch_norm_layers, pool_running_statistics
from ..training.trainer import micro_batches
from .checkpoint import Checkpoint
from .doors.gradient import carry_slot, leading_sizes
from .gradient.model import sparse_layers
from .loader import Loader, split_batch
from .process import library_session
from .session import ScriptSession

M = TypeVar("M", bound=nn.Module)


def init(*, seed: int = 0, policy: Policy | None = None, checkpoint: str | Path | None = None, backend: str | None = None) -> Run:
    """Join the group of this process, if it has one, and return what a training script needs. Collective.

    ``seed``: of torch and of the order of samples. ``policy``: how shares are found; None: that of the launch, or of
    PACELINE_POLICY, or ``hybrid``. ``checkpoint``: a file that keeps what ``keep`` names after every epoch, and from which the
    script goes on.
    """
    torch.manual_seed(seed)
    return Run(library_session(policy, backend), seed, None if checkpoint is None else Path(checkpoint))


class Run:
    """One training process. Without a launcher it is a world of one, and everything below works alike."""

    def __init__(self, session: ScriptSession, seed: int, checkpoint: Path | None) -> None:
        self._session, self._seed = session, seed
        self._models: list[tuple[nn.Module, DistributedDataParallel]] = []
        self._loaders: list[Loader] = []
        self._checkpoint = Checkpoint(checkpoint, session.rank, session.world, session.device)
        self._max_micro_batch: int | None = None
        self._is_stopped = False
        self.epoch = 0
        """The epoch that ``epochs`` is in."""

    @property
    def device(self) -> torch.device:
        """Device of this rank."""
        return self._session.device

    @property
    def rank(self) -> int:
        """Rank of this process."""
        return self._session.rank

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self._session.world

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def local_batch_sizes(self) -> tuple[int, ...]:
        """Shares of the next full batch; empty before the first one."""
        return () if self._session.balance is None else self._session.balance.sizes

    def print(self, *values: object) -> None:
        """Print on rank 0."""
        if self.is_main_process:
            print(*values, flush=True)

    def wrap(self, model: M, **options: Any) -> M:
        """Return the model for training: on the device, its gradient that of the whole batch. Collective.

        A mean over the local batch is weighed when ``backward`` is called. ``options``: of DistributedDataParallel. The model
        itself is ``.module`` of the result, except in a world of one. Raises UsageError for sparse gradients.
        """
        if name := next(sparse_layers(model), None):
            raise UsageError(
                f"{name} has sparse gradients, which cannot be summed in buckets", hint="construct it with sparse=False"
            )
        model = model.to(self.device)
        if not dist.is_initialized():
            return model
        options = {"gradient_as_bucket_view": True, **options}
        if self.device.type == "cuda":
            options = {"device_ids": [self.device.index], **options}
        ddp = DistributedDataParallel.__new__(DistributedDataParallel)
        carry_slot(self._session, ddp, model, lambda: DistributedDataParallel.__init__(ddp, model, **options))
        ddp.broadcast_buffers = False  # statistics are pooled after an epoch; newer torch names the argument differently
        self._models.append((model, ddp))
        return ddp  # type: ignore[return-value]  # behaves as the model does

    def loader(
        self, data: Any, global_batch_size: int, *, shuffle: bool | None = None, training: bool | None = None, **options: Any
    ) -> Loader:
        """Return this rank's batches. ``training``: by default for shuffled and for iterable data, else it is an evaluation.

        In training every sample of an epoch is trained exactly once, by the rank that the shares say; in evaluation each rank reads
        its part. ``options``: of DataLoader. Batches come on the device.
        """
        is_stream = isinstance(data, IterableDataset) or not hasattr(data, "__getitem__")
        if training is None:
            training = bool(shuffle) or (is_stream and shuffle is None)
        loader = Loader(
            self._session,
            data,
            global_batch_size,
            shuffle=bool(shuffle) and not is_stream,
            training=training,
            seed=self._seed,
            options=options,
        )
        if training:
            loader.on_end = self._pool_statistics
            loader.on_batch = self._before_batch
            loader.epoch = self.epoch
            self._loaders.append(loader)
        return loader

    def backward(self, loss: torch.Tensor, count: float | torch.Tensor | None = None) -> None:
        """Back-propagate a mean over the local batch, or with ``count`` a sum over that many samples, tokens or weights."""
        if count is None:
            loss.backward()
            return
        if isinstance(count, torch.Tensor):
            count = float(count) if count.device.type == "cpu" else count.detach().to(torch.float64).reshape(())
        if not dist.is_initialized():
            (loss / count).backward()
            return
        self._session.backward_sum(loss, float(count) if isinstance(count, int) else count)

    @contextlib.contextmanager
    def accumulate(self) -> Iterator[None]:
        """Keep the gradients of the forwards inside on this rank, until a backward outside exchanges all of them."""
        with contextlib.ExitStack() as stack:
            for _, ddp in self._models:
                stack.enter_context(ddp.no_sync())
            yield

    def step(self, batch: Any, loss_of: Callable[[Any], torch.Tensor]) -> float:
        """Compute the gradient of a batch in micro-batches that fit in memory; returns the mean loss of the local batch.

        ``loss_of(part)`` returns the mean over its part. Where memory runs out before gradients are exchanged, micro-batches become
        half as large and the batch is done again. Raises WorkFailed where it runs out later, or for a single sample.
        """
        cut = self._session.next_cut()
        seen = cut.seen if cut is not None else max(leading_sizes(batch), default=1)
        while True:
            try:
                return self._step_in_parts(batch, loss_of, seen)
            except torch.OutOfMemoryError as error:
                if self._session.is_exchanging:
                    raise WorkFailed(
                        "memory ran out while gradients were exchanged",
                        hint="lower the global batch size, or the share of this device",
                    ) from error
                size = min(self._max_micro_batch or seen, seen) // 2
                if size < 1:
                    raise WorkFailed("a single sample does not fit in memory", hint="use a smaller model or sample") from error
                self._max_micro_batch = size
                for model, _ in self._models:
                    model.zero_grad(set_to_none=True)
                self._session.repeat(cut)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _step_in_parts(self, batch: Any, loss_of: Callable[[Any], torch.Tensor], seen: int) -> float:
        *early, last = micro_batches(seen, self._max_micro_batch or seen)
        total = 0.0
        for part in (*early, last):
            share = (part.stop - part.start) / max(seen, 1)
            with contextlib.nullcontext() if part is last else self.accumulate():
                loss = loss_of(split_batch(batch, part.start, part.stop, seen))
                if dist.is_initialized():
                    self._session.backward_part(loss, share)
                else:
                    (loss * share).backward()
            total += float(loss.detach()) * share
        return total

    def epochs(self, count: int) -> Iterator[int]:
        """Yield the epochs that are left; after each one what ``keep`` names is kept."""
        first = self._restore()
        for epoch in range(first, count):
            self.epoch = epoch
            for loader in self._loaders:
                loader.epoch = epoch
            yield epoch
            self._session.resumed_samples = 0  # nothing was left of the epoch
            self._checkpoint.save(epoch + 1)
            if self._session.checkpoints is not None:
                self._session.checkpoints.save(self._checkpoint.parts, epoch + 1, 0, self._session.optimizer_steps)
            if self._is_stopped:
                return

    def _restore(self) -> int:
        """Load the checkpoint that this run goes on from, or the file of the script; return the first epoch that is left."""
        checkpoints = self._session.checkpoints
        if checkpoints is None or not checkpoints.is_resumed:
            return self._checkpoint.restore()
        epoch, samples = checkpoints.restore(self._checkpoint.parts)
        self._session.resumed_samples = samples
        self._session.recorder.begin_at(epoch)
        return epoch

    def _before_batch(self, samples: int) -> None:
        """Write a checkpoint within an epoch, where one is due. ``samples``: of the epoch, trained by all ranks together."""
        session = self._session
        if session.checkpoints is None or len(self._loaders) != 1 or not session.is_between_steps:
            return
        session.checkpoints.save_if_due(self._checkpoint.parts, self.epoch, samples, session.optimizer_steps)

    def stop(self) -> None:
        """Let the epoch that runs be the last one; every rank has to call it."""
        self._is_stopped = True

    def keep(self, **parts: Any) -> None:
        """Name what a checkpoint holds: whatever has ``state_dict`` and ``load_state_dict``."""
        for name, part in parts.items():
            if not hasattr(part, "state_dict"):
                raise UsageError(f"{name} has no state_dict")
        models = {id(ddp): model for model, ddp in self._models}
        self._checkpoint.parts.update({name: models.get(id(part), part) for name, part in parts.items()})

    def save_model(self, path: Path) -> None:
        """Write the weights of what ``keep`` names ``model``, as a checkpoint without the rest. Raises StorageFailed."""
        parts = {"model": self._checkpoint.parts["model"]} if "model" in self._checkpoint.parts else {}
        best = Checkpoint(path, self.rank, self.world_size, self.device)
        best.parts.update(parts)
        if parts:
            best.save(self.epoch + 1)

    def sum(self, value: float | torch.Tensor) -> float:
        """Return the sum over all ranks, in float64. Collective."""
        total = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        if dist.is_initialized():
            dist.all_reduce(total)
        return float(total)

    def mean(self, value: float | torch.Tensor, count: float | torch.Tensor = 1) -> float:
        """Return the sum of ``value`` over all ranks, divided by the sum of ``count``. Collective."""
        sums = torch.tensor([float(value), float(count)], dtype=torch.float64, device=self.device)
        if dist.is_initialized():
            dist.all_reduce(sums)
        total, weight = sums.tolist()
        return total / weight if weight else float("nan")

    def log(self, **values: float | torch.Tensor) -> None:
        """Log values of this epoch, the same on every rank: curves of the run under Paceline, a line alone."""
        for name, value in values.items():
            self._session.recorder.log(name, float(value))
        if self.is_main_process:
            text = "  ".join(f"{name} {float(value):.6g}" for name, value in values.items())
            print(f"epoch {self.epoch + 1}  {text}", flush=True)

    def _pool_statistics(self) -> None:
        """Give all ranks the same running statistics of batch normalisation. Collective."""
        for model, _ in self._models:
            if norms := batch_norm_layers(model):
                pool_running_statistics(norms, self._session.trained_samples, self._session)
        self._session.trained_samples = 0
