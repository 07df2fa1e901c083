"""What was measured of devices, links and machines, as frozen values that nodes write, the shelf keeps and the advisor reads.

Runs on both sides and imports the standard library only. Nothing declared is in here: emulated devices and links were measured too.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field

from ..balancer.step_time import StepTime

BENT = 0.1
"""Residual of the line through sums from which its own points say more than it does."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device: what it can do, and how long it takes for a workload."""

    node: str
    index: int
    name: str
    kind: str
    """``cuda``, ``cpu`` or ``emulated``."""
    memory: int | None = None
    """Bytes."""
    tflops: dict[str, float] = field(default_factory=dict)
    """10^12 multiplications and additions a second of a large matrix product, by number format: fp32, tf32, bf16, fp16."""
    memory_bandwidth: float | None = None
    """Bytes a second, of a copy within the device: read and written."""
    host_to_device: float | None = None
    """Bytes a second; None: it computes where the data lie."""
    sizes: tuple[int, ...] = ()
    """Local batch sizes that were timed,"""
    seconds: tuple[float, ...] = ()
    """and the median compute seconds of each."""
    fixed_seconds: float | None = None
    """a of t = a + c b; None: no step was timed."""
    seconds_per_sample: float | None = None
    """c of t = a + c b."""
    residual: float | None = None
    """Median relative error of that line, 0 to 1."""
    largest_batch: int | None = None
    """Samples that fit into its memory at once; None: no limit was found."""
    power: float | None = None
    """Watts while it trained."""
    joules_per_sample: float | None = None
    crowding: float | None = None
    """Seconds of a step while all processors of its machine compute, over those alone; None: it has the machine to itself."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the driver says: compute capability, power limit, PCIe link, driver."""
    error: str = ""
    """Why something could not be measured."""

    @property
    def key(self) -> tuple[str, int]:
        """Its place in the lab."""
        return self.node, self.index

    @property
    def time(self) -> StepTime | None:
        """Compute seconds as a function of the local batch size."""
        if self.fixed_seconds is None or self.seconds_per_sample is None:
            return None
        return StepTime(self.fixed_seconds, self.seconds_per_sample)

    @property
    def rate(self) -> float:
        """Samples a second of large batches; 0: unknown. Scores are its ratios."""
        return 1.0 / self.seconds_per_sample if self.seconds_per_sample else 0.0


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """From one node to another, as small and large messages took."""

    source: str
    target: str
    latency: float | None = None
    """Seconds of one hop; None: no message came through."""
    bandwidth: float | None = None
    """Bytes a second."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class AllReduceProfile:
    """Sums over all ranks on the real backend: seconds = alpha + bytes / beta."""

    world_size: int
    alpha: float
    """Seconds that a sum of nothing takes."""
    beta: float
    """Bytes a second."""
    residual: float = 0.0
    sizes: tuple[int, ...] = ()
    """Bytes,"""
    seconds: tuple[float, ...] = ()
    """and the median seconds of each."""

    def bend(self, size: float) -> float:
        """What a sum of so many bytes was measured to take over what the line says, where sums are no line; else 1.

        Large ones leave the caches of processors that move them, small ones pass a rate limit at once.
        """
        if self.residual <= BENT or not self.sizes:
            return 1.0
        ratios = [taken / (self.alpha + held / self.beta) for held, taken in zip(self.sizes, self.seconds, strict=True)]
        place = bisect(self.sizes, size)
        if place in (0, len(ratios)):
            return ratios[min(place, len(ratios) - 1)]
        low, high = self.sizes[place - 1 : place + 1]
        return ratios[place - 1] + (size - low) / (high - low) * (ratios[place] - ratios[place - 1])


@dataclass(frozen=True, slots=True)
class GradientProfile:
    """How the gradients of a workload leave a rank: measured on DDP's own buckets in one backward pass."""

    bucket_bytes: tuple[int, ...]
    """In the order in which backward closes them."""
    closed_at: tuple[float, ...]
    """The part of backward, 0 to 1, that is done when each closes."""
    forward_share: float
    """The part of compute seconds before backward."""
    optimizer_seconds: float = 0.0
    low_rank_bytes: tuple[int, ...] = ()
    """What PowerSGD would send instead of each bucket; empty: unknown."""
    parameters: int = 0
    """How many weights the model has."""
    compression_seconds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By word of ``--compression``: what compressing each bucket and back takes a rank, without any transport."""


@dataclass(frozen=True, slots=True)
class SystemProfile:
    """One machine beside its devices. Unknown is None."""

    node: str
    processor: str = ""
    cores: int | None = None
    memory: int | None = None
    """Bytes."""
    disk_write: float | None = None
    """Bytes a second, to the disk and not to the cache."""
    disk_read: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    """Versions of what measured: python, torch."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """One lab with one workload."""

    workload: str
    devices: tuple[DeviceProfile, ...]
    links: tuple[LinkProfile, ...] = ()
    all_reduce: AllReduceProfile | None = None
    """None: there is one rank, or no sum came through."""
    gradient: GradientProfile | None = None
    systems: tuple[SystemProfile, ...] = ()
    overlap: float = 1.0
    """How much of the possible overlap happens: 1 all of it, 0 none, at -1 communication takes twice as long as by itself;"""
    is_calibrated: bool = False
    """as a probe of real steps has taught. Before one it is nothing to go by."""
    is_network_emulated: bool = False
    """Whether links and sums were measured through a played network: a label, and nothing of how that was declared."""
    measured: float = 0.0
    """Clock of the centre, seconds since 1970."""
