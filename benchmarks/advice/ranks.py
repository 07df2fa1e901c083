"""One rank of the advice benchmarks: plain DDP over emulated links, on paced or real devices, and the profile of both.

The advisor sees only what is measured here: seconds by batch size, moments of buckets, all-reduces of growing size over the link.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from paceline.engine.plan import Emulation, RankPlan
from paceline.engine.profiles.profile import AllReduceProfile, DeviceProfile, GradientProfile, Profile
from paceline.engine.profiling.line_fit import fit_line
from paceline.engine.profiling.steps import measure_crowding, repeat_count
from paceline.engine.specs import LinkSpec
from paceline.engine.states import COMPRESSIONS, Compression, DeviceKind
from paceline.engine.training.emulation.device import FORWARD_SHARE, EmulatedTimer
from paceline.engine.training.emulation.network import EmulatedLink
from paceline.engine.training.shares.compression import UNCOMPRESSED_STEPS, make_hook, message_bytes
from paceline.engine.workloads import Workload
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WARM = 3
"""Warm-up steps: DDP rebuilds its buckets after the first."""
LEARNING = 2
"""Steps before PowerSGD starts compressing, where it is measured alone."""
ALL_REDUCE_BYTES = (4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 25 << 20)
MAX_ALL_REDUCE_S = 0.3
"""No larger all-reduce is tried after one that takes longer."""
GRADIENT_SECONDS = 0.4
"""Compute seconds of a step in which buckets are timed."""
Use = Callable[[str], "LinkSpec | None"]
"""Switches every rank to the network of this name; returns the link to emulate, None: the network is real."""


class Pace(EmulatedTimer):
    """The pacing of an emulated device without timestamps, for a batch of which only a few samples are computed."""

    def begin(self, step: int, samples: int, rows: int = 0) -> None:
        """Start the pacing of forward and backward."""
        seconds = samples / self._rate
        self._samples, self._begun_fraction = rows, 0.0
        self._forward_seconds, self._backward_seconds = seconds * FORWARD_SHARE, seconds * (1 - FORWARD_SHARE)
        self._paced = time.perf_counter()

    def forward_ends(self) -> None:
        """Take no timestamp."""


class Paced(nn.Module):
    """A network whose forward is paced where there is a timer."""

    def __init__(self, model: nn.Sequential, pace: Pace | None) -> None:
        super().__init__()
        self.model, self.pace = model, pace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the stages, each followed by its pacing."""
        y: torch.Tensor = self.model(x) if self.pace is None else self.pace.run(self.model, x)
        return y


class Player:
    """One rank: its device, its network, and the exchange of its gradients."""

    def __init__(
        self,
        rank: int,
        model: nn.Sequential,
        workload: Workload,
        speed: float | None,
        make_rows: Callable[[int], torch.Tensor],
        few: int,
        bucket_mib: float = 25,
    ) -> None:
        """``speed`` None: the real processor; ``make_rows(n)``: n samples; ``few``: samples of a paced batch that are computed."""
        device = RankPlan(rank, "n", 0, rank, rank, "emulated" if speed else "cpu", "")
        self.rank, self.rows, self.few, self.bucket_mib = rank, make_rows, few, bucket_mib
        self.pace = None if speed is None else Pace(device, Emulation(speed), workload, model)
        self.net = Paced(model, self.pace)
        if self.pace is not None:
            pace = self.pace
            next(model.parameters()).register_hook(lambda _: pace.sleep_until(1.0))  # the last gradient is paced, too
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        self.steps = 0
        self.alone = dist.new_group([rank], use_local_synchronization=True)

    def step(self, net: nn.Module, samples: int, is_synced: bool = True) -> tuple[float, float, float]:
        """Seconds until backward begins, until it ends, and until the optimizer has stepped."""
        x = self.rows(samples if self.pace is None else min(samples, self.few))
        begun = time.perf_counter()
        if self.pace is not None:
            self.pace.begin(self.steps, samples, len(x))
        self.steps += 1
        self.optimizer.zero_grad(set_to_none=True)
        alone = nullcontext() if is_synced or not isinstance(net, DistributedDataParallel) else net.no_sync()
        with alone:
            loss = net(x).square().mean()
            turned = time.perf_counter()
            loss.backward()
        ended = time.perf_counter()
        self.optimizer.step()
        return turned - begun, ended - begun, time.perf_counter() - begun

    def profile_device(self, sizes: Sequence[int]) -> tuple[DeviceProfile, float]:
        """Collective: t(b) without communication, and the optimizer's seconds."""
        times, optimizers = [float("inf")] * len(sizes), []
        turn = self.rank if self.pace is None else 0
        for rank in range(dist.get_world_size()):
            if rank == turn:  # paced devices at once; processors in turn
                rounds = 2 if self.pace is None else 1  # noise only adds time: the best round counts
                for number in [*range(len(sizes))] * rounds:
                    _, first, _ = self.step(self.net, sizes[number])
                    found = [self.step(self.net, sizes[number]) for _ in range(max(5, repeat_count(first)))]
                    times[number] = min(times[number], median(ended for _, ended, _ in found))
                    optimizers += [whole - ended for _, ended, whole in found]
            dist.barrier()
        fitted = fit_line(sizes, times)
        crowding = None
        if self.pace is None:
            crowding = measure_crowding(lambda size: self.step(self.net, size)[1], sizes, times)
        kind: DeviceKind = "cpu" if self.pace is None else "emulated"
        device = DeviceProfile(
            f"n{self.rank}",
            0,
            f"card {self.rank}",
            kind,
            sizes=tuple(sizes),
            seconds=tuple(times),
            fixed_seconds=fitted.offset,
            seconds_per_sample=fitted.slope,
            residual=fitted.residual,
            crowding=crowding,
        )
        return device, median(optimizers)

    def profile_gradient(self, size: int, optimizer: float) -> GradientProfile:
        """Collective: buckets, and the moments at which backward closes them."""
        moments: list[float] = []
        sizes: list[int] = []
        small: list[int] = []

        def stamp(bucket: Any) -> torch.futures.Future[torch.Tensor]:
            moments.append(time.perf_counter())
            sizes.append(bucket.buffer().nbytes)
            small.append(sum(message_bytes([tuple(one.shape) for one in bucket.gradients()], "powersgd", 4)))
            done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        net = self.wrapped(None, stamp)
        shares, closed = [], []
        for number in range(WARM + 5):
            moments.clear()
            sizes.clear()
            small.clear()
            begun = time.perf_counter()
            turned, ended, _ = self.step(net, size)
            if number >= WARM:
                shares.append(turned / ended)
                closed.append([min(1.0, (moment - begun - turned) / (ended - turned)) for moment in moments])
        ahead = tuple(max(0.0, median(column)) for column in zip(*closed, strict=True))
        del net
        gc.collect()  # removes its hooks on the weights
        seconds: dict[str, tuple[float, ...]] = {
            word: self.profile_compression(word, max(1, size // 4)) for word in COMPRESSIONS if word != "none"
        }
        return GradientProfile(tuple(sizes), ahead, median(shares), optimizer, tuple(small), compression_seconds=seconds)

    def profile_compression(self, compression: Compression, size: int) -> tuple[float, ...]:
        """Collective: seconds of the hook for each bucket over a group of one, while every rank does the same."""
        compress = make_hook(compression, self.alone, LEARNING)
        taken: list[float] = []

        def stamp(bucket: Any) -> torch.futures.Future[torch.Tensor]:
            begun = time.perf_counter()
            done = compress(bucket)
            done.wait()
            taken.append(time.perf_counter() - begun)
            return done

        net = self.wrapped(None, stamp)
        found = []
        for _ in range(WARM + LEARNING + 5):
            taken.clear()
            dist.barrier()
            self.step(net, size)
            found.append(list(taken))
        del net
        gc.collect()
        return tuple(median(column) for column in zip(*found[WARM + LEARNING :], strict=True))

    def wrapped(self, group: Any, hook: Any) -> DistributedDataParallel:
        """DDP over this group with this hook."""
        net = DistributedDataParallel(self.net, process_group=group, gradient_as_bucket_view=True, bucket_cap_mb=self.bucket_mib)
        net.register_comm_hook(hook, lambda hook, bucket: hook(bucket))
        return net

    def train(
        self,
        group: Any,
        world: int,
        link: LinkSpec | None,
        samples: int,
        steps: int,
        compression: Compression = "none",
        local_steps: int = 1,
    ) -> list[float]:
        """Collective over the group: seconds of each step after the warm-up, optimizer included."""
        wire = None if link is None else EmulatedLink(link, world, 7)
        compress = None if compression == "none" else make_hook(compression)
        done_steps = 0

        def carried(done: Any, *sizes: int) -> Any:
            return done if wire is None else wire.deliver_after(done, sum(wire.ring_seconds(size) for size in sizes))

        def hook(bucket: Any) -> Any:
            buffer = bucket.buffer()
            if compress is None:
                return carried(group.allreduce([buffer]).get_future(), buffer.nbytes).then(lambda done: done.value()[0])
            shapes = [tuple(one.shape) for one in bucket.gradients()]
            whole = compression == "powersgd" and done_steps < UNCOMPRESSED_STEPS
            sizes = message_bytes(shapes, "none" if whole else compression, 4)
            flag = (4,) if bucket.is_last() else ()
            return carried(compress(bucket), *sizes, *flag).then(lambda done: buffer)

        net = self.wrapped(group, hook)
        found = []
        warm = WARM + (UNCOMPRESSED_STEPS if compression == "powersgd" else 0)
        for number in range(warm + steps):
            begun = time.perf_counter()
            done_steps = number
            self.step(net, samples, local_steps == 1)
            if local_steps > 1 and number % local_steps == local_steps - 1:
                flat = torch.cat([weight.detach().flatten() for weight in self.net.parameters()])
                carried(group.allreduce([flat]).get_future(), flat.nbytes).wait()
            if number >= warm:
                found.append(time.perf_counter() - begun)
        del net
        gc.collect()  # removes its hooks on the weights
        return found


def no_link(_: str) -> None:
    """Leave the network as it is."""


def slowest_median(seconds: list[float]) -> float:
    """Collective: the median of the slowest rank, the same on all ranks."""
    medians: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(medians, median(seconds))
    return float(max(medians))


def profile_all_reduce(world: int, link: LinkSpec | None) -> AllReduceProfile:
    """Collective over all ranks: alpha and beta over the emulated link."""
    backend = dist.distributed_c10d._get_default_group()
    dist.barrier()
    wire = None if link is None else EmulatedLink(link, world, 3)
    slowest: list[float] = []
    for size in ALL_REDUCE_BYTES:
        buffer = torch.zeros(size // 4)
        found = []
        for number in range(17 if size <= 1 << 18 else 7):
            begun = time.perf_counter()  # one at a time, so that all ranks begin together
            done = backend.allreduce([buffer]).get_future()
            (done if wire is None else wire.deliver_after(done, wire.ring_seconds(size))).wait()
            if number:
                found.append(time.perf_counter() - begun)
        slowest.append(slowest_median(found))
        if slowest[-1] > MAX_ALL_REDUCE_S:
            break
    sizes = ALL_REDUCE_BYTES[: len(slowest)]
    fitted = fit_line(sizes, slowest)
    return AllReduceProfile(world, fitted.offset, 1 / fitted.slope, fitted.residual, sizes, tuple(slowest))


def profile_lab(player: Player, world: int, sizes: Sequence[int], links: Sequence[str], use: Use = no_link) -> dict[str, Profile]:
    """Collective: one profile per link, the same on every rank."""
    dist.barrier()
    device, optimizer = player.profile_device(sizes)
    assert device.seconds_per_sample
    gradient = player.profile_gradient(max(1, int(GRADIENT_SECONDS / device.seconds_per_sample)), optimizer)
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, (device, gradient))
    devices, shared = tuple(one for one, _ in everyone), everyone[0][1]
    return {name: Profile("made-up", devices, (), profile_all_reduce(world, use(name)), shared) for name in links}
