"""Profile of the gradient exchange: size and closing time of each of DDP's buckets, forward share, optimizer, compression.

DDP's hook time-stamps each bucket and returns it without a sum, so no rank waits for another. The cost of compression is
measured with training's hooks over a group of one: all of their arithmetic, no transport.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # torch re-exports it implicitly
from torch.nn.parallel import DistributedDataParallel

from ..events import GradientProfiled
from ..states import COMPRESSIONS, Compression
from ..training.data import copy_to
from ..training.group.process_group import Group
from ..training.shares.compression import Float16Hook, Hook, make_hook, message_bytes
from ..training.shares.sampler import epoch_order
from .device import synchronize
from .steps import StepBenchmark

WARM_UP_STEPS = 2
"""Steps before measuring: DDP rebuilds its buckets after the first, in the order in which gradients arrived."""
GRADIENT_STEPS = 5
TARGET_STEP_SECONDS = 0.3
"""Target seconds of a step: long compared with the resolution of a time stamp."""
COMPRESSION_BATCH_DIVISOR = 8
"""Divisor of the batch where only the hook is timed."""
COMPRESSION_WARM_UP_STEPS = 2
"""Steps before a compression is timed: PowerSGD sends the first gradients uncompressed."""


class _BucketTimer:
    """DDP communication hook that records time, bytes and shapes of every bucket."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.closed_at: list[Any] = []
        self.bucket_bytes: list[int] = []
        self.low_rank_bytes: list[int] = []
        self.compress: Hook | None = None
        """Compression hook to time instead; None: record the buckets."""
        self.compression_spans: list[tuple[Any, Any]] = []
        """Start and end of the compression of each bucket."""

    def now(self) -> Any:
        """Return a time stamp: a CUDA event, or the host's clock in seconds."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds_between(self, first: Any, second: Any) -> float:
        """Return the seconds between two time stamps that have passed."""
        return float(second - first) if self.device.type != "cuda" else float(first.elapsed_time(second)) / 1000

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Record the bucket and return it unchanged."""
        if self.compress is not None:
            start = self.now()
            smaller = self.compress(bucket)
            smaller.wait()
            self.compression_spans.append((start, self.now()))
            return smaller
        self.closed_at.append(self.now())
        self.bucket_bytes.append(bucket.buffer().nbytes)
        shapes = [tuple(gradient.shape) for gradient in bucket.gradients()]
        self.low_rank_bytes.append(sum(message_bytes(shapes, "powersgd", bucket.buffer().element_size())))
        devices: list[int | str | torch.device] | None = [self.device] if self.device.type == "cuda" else None
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future(devices=devices)
        done.set_result(bucket.buffer())
        return done


def measure_gradient(
    benchmark: StepBenchmark, group: Group, seconds_per_sample: float, max_samples: int | None
) -> GradientProfiled:
    """Return the gradient profile of this rank. Collective: every rank takes the same number of steps."""
    size = max(1, min(int(TARGET_STEP_SECONDS / max(seconds_per_sample, 1e-9)), 1 << 16, max_samples or 1 << 16))
    rows = np.resize(epoch_order(len(benchmark.data), 0, 0, 0, min(size, len(benchmark.data))), size)
    replica, timer, device = benchmark.replica, benchmark.timer, group.device
    ddp = DistributedDataParallel(replica, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True)
    ddp.broadcast_buffers = False
    bucket_timer = _BucketTimer(device)
    ddp.register_comm_hook(bucket_timer, lambda hook, bucket: hook(bucket))
    shares, optimizers, closed = [], [], []

    def forward_backward(samples: int) -> tuple[Any, Any, Any]:
        """Return the time stamps of forward's start, backward's start and backward's end."""
        ddp.zero_grad(set_to_none=True)
        timer.begin(-1, samples)
        batch = benchmark.data.read_rows(rows[:samples], device)
        timer.loaded()
        x, y = copy_to(device, *batch)
        timer.copied()
        start = bucket_timer.now()
        output, anchor = ddp(x)
        loss = benchmark.task.loss_sum(output, y) / samples + anchor
        backward_start = bucket_timer.now()
        loss.backward()
        return start, backward_start, bucket_timer.now()

    for number in range(WARM_UP_STEPS + GRADIENT_STEPS):
        bucket_timer.closed_at, bucket_timer.bucket_bytes, bucket_timer.low_rank_bytes = [], [], []
        start, backward_start, end = forward_backward(size)
        timer.end()
        synchronize(device)
        optimizer_start = time.perf_counter()
        benchmark.optimizer.step()
        synchronize(device)
        optimizer = time.perf_counter() - optimizer_start
        timer.stepped()
        timer.synchronize()
        timer.take_measured()
        if number >= WARM_UP_STEPS:
            backward = bucket_timer.seconds_between(backward_start, end)
            shares.append(bucket_timer.seconds_between(start, backward_start) / bucket_timer.seconds_between(start, end))
            closed.append(
                [min(1.0, bucket_timer.seconds_between(backward_start, stamp) / backward) for stamp in bucket_timer.closed_at]
            )
            optimizers.append(optimizer)

    def compression_seconds(compression: Compression) -> tuple[float, ...]:
        """Return the seconds of each bucket, measured on all ranks at once, because ranks may share a host."""
        bucket_timer.compress = hook = make_hook(compression, alone, COMPRESSION_WARM_UP_STEPS)
        if isinstance(hook, Float16Hook):
            hook.scale = 1.0  # unknown, it would send the first gradients uncompressed
        rows_of_seconds = []
        for _ in range(COMPRESSION_WARM_UP_STEPS + 1 + GRADIENT_STEPS):
            bucket_timer.compression_spans = []
            group.gather([0.0])  # all ranks begin at the same time
            forward_backward(min(size, max(2, size // COMPRESSION_BATCH_DIVISOR)))
            timer.end()
            timer.stepped()
            synchronize(device)
            rows_of_seconds.append([bucket_timer.seconds_between(*span) for span in bucket_timer.compression_spans])
        timer.synchronize()
        timer.take_measured()
        return tuple(median(column) for column in zip(*rows_of_seconds[COMPRESSION_WARM_UP_STEPS + 1 :], strict=True))

    alone = dist.new_group([group.rank], use_local_synchronization=True)
    compressions: dict[str, tuple[float, ...]] = {
        compression: compression_seconds(compression) for compression in COMPRESSIONS if compression != "none"
    }
    return GradientProfiled(
        bucket_bytes=tuple(bucket_timer.bucket_bytes),
        closed_at=tuple(median(column) for column in zip(*closed, strict=True)),
        forward_share=median(shares),
        optimizer_seconds=median(optimizers),
        low_rank_bytes=tuple(bucket_timer.low_rank_bytes),
        compression_seconds=compressions,
        parameters=sum(parameter.numel() for parameter in replica.model.parameters()),
    )
