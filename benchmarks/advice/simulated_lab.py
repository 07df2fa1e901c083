"""A simulated emulated lab: what its ranks, buckets and links do step by step, and what a profile of it would measure.

It shares no formula with the advisor: every rank has its own clock, every bucket waits for the last rank's gradient and for the
wire, and shares come from the probe of the run, not from the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from statistics import median

from paceline.engine.balancer.policies import Problem, start
from paceline.engine.balancer.step_time import StepTime, fit_step_time
from paceline.engine.profiles.profile import AllReduceProfile, DeviceProfile, GradientProfile, Profile
from paceline.engine.profiling.line_fit import fit_line
from paceline.engine.states import Policy

FORWARD = 1 / 3
MAX_STEP_SECONDS = 2.0
"""Longest step that a profile times."""
MESSAGES = tuple(4 << (10 + 2 * power) for power in range(8))
"""Bytes of the all-reduces that a profile times: 4 KiB to 64 MiB."""
TIMER_NOISE, SCHEDULER_SECONDS = 0.003, 0.0002
"""Relative deviation of a paced step, and the mean delay of a wake-up."""


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """One emulated device: seconds = fixed * micro-batches + samples / rate."""

    rate: float
    fixed: float = 0.0
    largest: int | None = None
    """Samples that fit in its memory at once; None: no limit."""


@dataclass(frozen=True, slots=True)
class SimulatedLab:
    """Devices, link and model of one lab, and the job that is asked for."""

    devices: tuple[SimulatedDevice, ...]
    latency: float
    bandwidth: float
    jitter: float
    stage_bytes: tuple[int, ...]
    """Bytes of the weights of each stage, in the order of forward; each is a bucket of its own."""
    optimizer_seconds: float
    batch: int
    samples: int
    """Training samples of an epoch."""

    def ring_seconds(self, world: int, size: float, random: Random) -> float:
        """Seconds of an all-reduce on an idle wire."""
        hops = 2 * (world - 1)
        exact = hops * self.latency + hops / world * size / self.bandwidth
        return exact * max(0.2, random.gauss(1.0, self.jitter))

    def rank_seconds(self, index: int, samples: int, random: Random) -> float:
        """Compute seconds of one step of one device."""
        if not samples:
            return 0.0
        device = self.devices[index]
        parts = -(-samples // (device.largest or samples))
        exact = device.fixed * parts + samples / device.rate
        return exact * random.gauss(1.0, TIMER_NOISE) + random.expovariate(1 / SCHEDULER_SECONDS)

    def gradient_moments(self, index: int, samples: int, seconds: float) -> list[float]:
        """When each stage's gradient is there, last stage first; only the last micro-batch sends."""
        count = len(self.stage_bytes)
        if not samples:
            return [0.0] * count
        parts = -(-samples // (self.devices[index].largest or samples))
        last = (samples - samples * (parts - 1) // parts) / samples
        begun = seconds * (1 - last)
        moments = [begun + seconds * last * (1 - (1 - FORWARD) * stage / count) for stage in range(count, 0, -1)]
        return [*moments[:-1], seconds]

    def step_seconds(self, group: tuple[int, ...], sizes: tuple[int, ...], random: Random) -> float:
        """Seconds of one step of these devices with these local batch sizes."""
        times = [self.rank_seconds(index, size, random) for index, size in zip(group, sizes, strict=True)]
        end = max(times)
        if len(group) > 1:
            ranks = zip(group, sizes, times, strict=True)
            moments = [self.gradient_moments(index, size, seconds) for index, size, seconds in ranks]
            wire = 0.0
            for stage, size in enumerate(reversed(self.stage_bytes)):
                wire = max(wire, max(mine[stage] for mine in moments)) + self.ring_seconds(len(group), size, random)
            end = max(end, wire)
        return end + self.optimizer_seconds

    def run(self, group: tuple[int, ...], policy: Policy, random: Random, epochs: int = 3) -> float:
        """Samples per second of a training of these devices, at the requested batch or all samples."""
        batch = min(self.batch, self.samples)
        probes = tuple(self.probe(index, batch, random) for index in group)
        seconds = 0.0
        for _ in range(epochs):
            left = self.samples
            while left:
                size = min(batch, left)
                settled: Policy = "hybrid" if policy == "dynamic" else policy
                bounds = ((1,) * len(group), (size,) * len(group))
                sizes = start(Problem(settled, size, probes, lows=bounds[0], highs=bounds[1])).local_batch_sizes
                seconds += self.step_seconds(group, sizes, random)
                left -= size
        return epochs * self.samples / seconds

    def probe(self, index: int, batch: int, random: Random) -> StepTime:
        """The step time that a run fits to a device before its first case."""
        device = self.devices[index]
        most = min(batch, device.largest or batch)
        large = min(max(2, int(0.4 * device.rate)), most)
        small = max(1, large // 4)
        first, second = (median(self.rank_seconds(index, size, random) for _ in range(4)) for size in (small, large))
        return fit_step_time((small, first), (large, second))

    def profile(self, random: Random) -> Profile:
        """What the verb ``profile`` measures of this lab."""
        world, count = len(self.devices), len(self.stage_bytes)
        devices = tuple(self._profile_device(index, random) for index in range(world))
        reduce = None
        if world > 1:
            seconds = tuple(median(self.ring_seconds(world, size, random) for _ in range(7)) for size in MESSAGES)
            line = fit_line(MESSAGES, seconds)
            reduce = AllReduceProfile(world, line.offset, 1 / line.slope, line.residual, MESSAGES, seconds)
        closed_at = tuple([1 - stage / count for stage in range(count, 1, -1)] + [1.0])
        gradient = GradientProfile(tuple(reversed(self.stage_bytes)), closed_at, FORWARD, self.optimizer_seconds)
        return Profile("simulated", devices, (), reduce, gradient, is_network_emulated=True, samples=self.samples)

    def _profile_device(self, index: int, random: Random) -> DeviceProfile:
        device = self.devices[index]
        sizes: list[int] = []
        seconds: list[float] = []
        size = 1
        while size <= (device.largest or 1 << 20) and (len(sizes) < 2 or 2 * seconds[-1] <= MAX_STEP_SECONDS):
            sizes.append(size)
            seconds.append(median(self.rank_seconds(index, size, random) for _ in range(5)))
            size *= 2
        line = fit_line(sizes, seconds)
        return DeviceProfile(
            f"n{index}",
            0,
            f"card {index}",
            "emulated",
            sizes=tuple(sizes),
            seconds=tuple(seconds),
            fixed_seconds=line.offset,
            seconds_per_sample=line.slope,
            residual=line.residual,
            largest_batch=device.largest,
        )


def draw_lab(seed: int) -> SimulatedLab:
    """A lab with fixed costs, micro-batches, useless devices, and batches that are too small or too large."""
    random = Random(f"lab {seed}")
    world = random.randint(2, 5)
    most_fixed = random.choice((0.0, 0.005, 0.03, 0.06))
    devices = [
        SimulatedDevice(
            rate=34.0 * 2 ** random.uniform(1, 4),
            fixed=random.uniform(0, most_fixed),
            largest=random.choice((None, None, None, random.randint(16, 200))),
        )
        for _ in range(world)
    ]
    if random.random() < 0.3:  # it takes longer for one sample than the others for the whole batch
        devices[random.randrange(world)] = SimulatedDevice(rate=random.uniform(0.5, 5), fixed=random.uniform(0.5, 1.5))
    samples = random.choice((random.randint(200, 800), random.randint(800, 3000)))
    batch = random.choice(
        (
            random.randint(2, world + 1),
            random.randint(world, 64),
            random.choice((64, 128, 256, 384)),
            random.randint(64, 2 * samples),
        )
    )
    stages = random.choice(((2_000, 18_000, 131_000, 2_600), (10_000_000, 800_000, 800_000, 66_000), (4 << 20,) * 3))
    return SimulatedLab(
        devices=tuple(devices),
        latency=10 ** random.uniform(-4.3, -2.3),
        bandwidth=10 ** random.uniform(6.7, 9.1),
        jitter=random.choice((0.0, 0.05)),
        stage_bytes=stages,
        optimizer_seconds=random.uniform(0.0002, 0.003),
        batch=batch,
        samples=samples,
    )
