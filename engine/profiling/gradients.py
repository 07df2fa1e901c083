"""When backward closes each of DDP's own buckets, how large they are, and what comes before and after: one profiled backward.

DDP's hook stamps each bucket and hands it back unsummed, so nothing here waits for another rank. What compressing gradients takes
is measured with the hooks of training over a group of one: all of their arithmetic, and no transport.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from ..events import GradientProfiled
from ..specs import COMPRESSIONS
from ..training.data import copy_to
from ..training.group import Group
from ..training.shares.compression import Hook, hook_of, message_bytes
from ..training.shares.sampler import order
from .device import wait
from .steps import Steps

WARM = 2
"""Steps first: DDP groups its buckets anew after the first, in the order in which gradients came."""
STEPS = 5
SECONDS = 0.3
"""What a step should take: then stamps are fine enough."""
SHORTER = 8
"""Steps are so many times shorter where only the hook counts,"""
LEARNING = 2
"""and so many come before PowerSGD begins, which sends the first gradients whole."""


class _Stamps:
    """DDP's hook: notes moment, bytes and shapes of every bucket."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.moments: list[Any] = []
        self.sizes: list[int] = []
        self.low_rank: list[int] = []
        self.compress: Hook | None = None
        """Time this one instead."""
        self.compressed: list[tuple[Any, Any]] = []
        """Moments at which it began and ended with each bucket."""

    def stamp(self) -> Any:
        """A moment of the device's own time."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, first: Any, second: Any) -> float:
        """Seconds between two moments that have passed."""
        return float(second - first) if self.device.type != "cuda" else float(first.elapsed_time(second)) / 1000

    def __call__(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Take note, and pass the bucket on as it is."""
        if self.compress is not None:
            begun = self.stamp()
            smaller = self.compress(bucket)
            smaller.wait()
            self.compressed.append((begun, self.stamp()))
            return smaller
        self.moments.append(self.stamp())
        self.sizes.append(bucket.buffer().nbytes)
        shapes = [tuple(gradient.shape) for gradient in bucket.gradients()]
        self.low_rank.append(sum(message_bytes(shapes, "powersgd", bucket.buffer().element_size())))
        devices: list[int | str | torch.device] | None = [self.device] if self.device.type == "cuda" else None
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future(devices=devices)
        done.set_result(bucket.buffer())
        return done


def measure_gradient(steps: Steps, group: Group, seconds_per_sample: float, most: int | None) -> GradientProfiled:
    """Collective where DDP is made; every rank takes the same number of steps."""
    size = max(1, min(int(SECONDS / max(seconds_per_sample, 1e-9)), 1 << 16, most or 1 << 16))
    rows = np.resize(order(len(steps.data), 0, 0, 0, min(size, len(steps.data))), size)
    replica, timer, device = steps.replica, steps.timer, group.device
    ddp = DistributedDataParallel(replica, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True)
    ddp.broadcast_buffers = False
    stamps = _Stamps(device)
    ddp.register_comm_hook(stamps, lambda hook, bucket: hook(bucket))
    shares, optimizers, closed = [], [], []

    def forward_backward(samples: int) -> tuple[Any, Any, Any]:
        """When forward began, when backward did, and when it ended."""
        ddp.zero_grad(set_to_none=True)
        timer.begin(-1, samples)
        batch = steps.data.read(rows[:samples], device)
        timer.loaded()
        x, y = copy_to(device, *batch)
        timer.copied()
        begun = stamps.stamp()
        output, anchor = ddp(x)
        loss = steps.task.loss_sum(output, y) / samples + anchor
        turned = stamps.stamp()
        loss.backward()
        return begun, turned, stamps.stamp()

    for number in range(WARM + STEPS):
        stamps.moments, stamps.sizes, stamps.low_rank = [], [], []
        begun, turned, ended = forward_backward(size)
        timer.end()
        wait(device)
        before = time.perf_counter()
        steps.optimizer.step()
        wait(device)
        optimizer = time.perf_counter() - before
        timer.stepped()
        timer.settle()
        timer.take()
        if number >= WARM:
            backward = stamps.between(turned, ended)
            shares.append(stamps.between(begun, turned) / stamps.between(begun, ended))
            closed.append([min(1.0, stamps.between(turned, moment) / backward) for moment in stamps.moments])
            optimizers.append(optimizer)

    def compression_seconds(compression: str) -> tuple[float, ...]:
        """Of each bucket, while every rank does the same: beside its device the host may have to serve others."""
        stamps.compress = hook_of(compression, alone, LEARNING)
        taken = []
        for _ in range(LEARNING + 1 + STEPS):
            stamps.compressed = []
            group.gather([0.0])  # nobody begins before the others
            forward_backward(min(size, max(2, size // SHORTER)))
            timer.end()
            timer.stepped()
            wait(device)
            taken.append([stamps.between(*moments) for moments in stamps.compressed])
        timer.settle()
        timer.take()
        return tuple(median(column) for column in zip(*taken[LEARNING + 1 :], strict=True))

    alone = dist.new_group([group.rank], use_local_synchronization=True)
    compressions = {word: compression_seconds(word) for word in COMPRESSIONS if word != "none"}
    return GradientProfiled(
        bucket_bytes=tuple(stamps.sizes),
        closed_at=tuple(median(column) for column in zip(*closed, strict=True)),
        forward_share=median(shares),
        optimizer_seconds=median(optimizers),
        low_rank_bytes=tuple(stamps.low_rank),
        compression_seconds=compressions,
        parameters=sum(parameter.numel() for parameter in replica.model.parameters()),
    )
