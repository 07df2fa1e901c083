"""The profile: measurements of devices, links and machines, as frozen values that the store keeps and the advisor reads.

Only measured values are in here: emulated devices and links are measured like real ones, and no emulated speed is copied.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field

from ..balancer.step_time import StepTime
from ..states import DeviceKind

NONLINEAR_RESIDUAL = 0.1
"""Residual of the all-reduce line above which its measured points are more accurate than the line."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One device: its speed in general, and its step times with a workload."""

    node: str
    index: int
    name: str
    kind: DeviceKind
    memory: int | None = None
    """Bytes."""
    tflops: dict[str, float] = field(default_factory=dict)
    """10^12 operations per second in a large matrix product, by number format: fp32, tf32, bf16, fp16."""
    memory_bandwidth: float | None = None
    """Bytes per second of a copy within the device, read plus written."""
    host_to_device: float | None = None
    """Bytes per second; None: the device uses the host's memory."""
    sizes: tuple[int, ...] = ()
    """Timed local batch sizes,"""
    seconds: tuple[float, ...] = ()
    """and the median compute seconds of each."""
    fixed_seconds: float | None = None
    """a of t = a + c b; None: no step was timed."""
    seconds_per_sample: float | None = None
    """c of t = a + c b."""
    residual: float | None = None
    """Median relative error of that line, 0 to 1."""
    largest_batch: int | None = None
    """Samples that fit in its memory at once; None: no limit was found."""
    power: float | None = None
    """Watts while training."""
    joules_per_sample: float | None = None
    crowding: float | None = None
    """Step seconds while all CPU ranks of its machine compute, over those alone; None: no other rank shares the machine."""
    spread: float | None = None
    """Relative standard deviation of single steps; None: not measured."""
    stalled: float | None = None
    """Fraction of its step time in which another program had the processor, 0 to 1; None: not measured."""
    precision_speedups: dict[str, float] = field(default_factory=dict)
    """Step seconds in float32 over those in another number format, at the largest of the sizes; formats in hardware only."""
    facts: dict[str, str] = field(default_factory=dict)
    """Driver facts: compute capability, power limit, PCIe link, driver."""
    error: str = ""
    """Why a measurement is missing."""

    @property
    def key(self) -> tuple[str, int]:
        """Node and device index."""
        return self.node, self.index

    @property
    def step_time(self) -> StepTime | None:
        """Compute seconds as a function of the local batch size."""
        if self.fixed_seconds is None or self.seconds_per_sample is None:
            return None
        return StepTime(self.fixed_seconds, self.seconds_per_sample)

    @property
    def samples_per_second(self) -> float:
        """Samples per second of large batches; 0: unknown. Scores are ratios of it."""
        return 1.0 / self.seconds_per_sample if self.seconds_per_sample else 0.0


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """The link from one node to another, by small and large messages."""

    source: str
    target: str
    latency: float | None = None
    """Seconds of one hop; None: no message arrived."""
    bandwidth: float | None = None
    """Bytes per second."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class AllReduceProfile:
    """All-reduce on the real backend: seconds = alpha + bytes / beta."""

    world_size: int
    alpha: float
    """Seconds of an empty message."""
    beta: float
    """Bytes per second."""
    residual: float = 0.0
    sizes: tuple[int, ...] = ()
    """Message sizes in bytes,"""
    seconds: tuple[float, ...] = ()
    """and the median seconds of each."""

    def correction(self, size: float) -> float:
        """Return measured over fitted seconds for a message of that many bytes, interpolated; 1 where the line fits well.

        Large messages leave the CPU caches, small ones pass a rate limit at once, so the times need not lie on a line.
        """
        if self.residual <= NONLINEAR_RESIDUAL or not self.sizes:
            return 1.0
        ratios = [seconds / (self.alpha + sent / self.beta) for sent, seconds in zip(self.sizes, self.seconds, strict=True)]
        index = bisect(self.sizes, size)
        if index in (0, len(ratios)):
            return ratios[min(index, len(ratios) - 1)]
        low, high = self.sizes[index - 1 : index + 1]
        return ratios[index - 1] + (size - low) / (high - low) * (ratios[index] - ratios[index - 1])


@dataclass(frozen=True, slots=True)
class GradientProfile:
    """The gradient buckets of a workload: measured on DDP's buckets in one backward pass."""

    bucket_bytes: tuple[int, ...]
    """In the order in which backward closes them."""
    closed_at: tuple[float, ...]
    """Fraction of backward, 0 to 1, that is done when each closes."""
    forward_share: float
    """Fraction of forward and backward (model seconds) before backward begins."""
    optimizer_seconds: float = 0.0
    low_rank_bytes: tuple[int, ...] = ()
    """Bytes that PowerSGD sends instead of each bucket; empty: unknown."""
    parameters: int = 0
    """Number of parameters of the model."""
    compression_seconds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By value of ``--compression``: seconds to compress and decompress each bucket, without transport."""


@dataclass(frozen=True, slots=True)
class SystemProfile:
    """One machine besides its devices. Unknown is None."""

    node: str
    processor: str = ""
    cores: int | None = None
    memory: int | None = None
    """Bytes."""
    disk_write: float | None = None
    """Bytes per second to the disk, not to the page cache."""
    disk_read: float | None = None
    processor_tflops: float | None = None
    """10^12 float32 operations per second of a matrix product on all its cores."""
    memory_bandwidth: float | None = None
    """Bytes per second of a copy in its memory, read plus written."""
    facts: dict[str, str] = field(default_factory=dict)
    """Versions of python and torch."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """One lab with one workload."""

    workload: str
    devices: tuple[DeviceProfile, ...]
    links: tuple[LinkProfile, ...] = ()
    all_reduce: AllReduceProfile | None = None
    """None: there is one rank, or no all-reduce succeeded."""
    gradient: GradientProfile | None = None
    systems: tuple[SystemProfile, ...] = ()
    overlap: float = 1.0
    """Fraction of the possible overlap that happens: 1 all, 0 none; at -1 communication takes twice as long as alone."""
    is_calibrated: bool = False
    """Whether a probe of real steps has measured ``overlap``; until then it is a guess."""
    is_network_emulated: bool = False
    """Whether links and all-reduce were measured through an emulated network: a label only."""
    measured: float = 0.0
    """Unix time at the centre."""
    samples: int | None = None
    """Training samples of its data; None: unknown. No batch is larger."""
    global_batch_size: int | None = None
    """Of the script that was measured: it has a batch of its own. None: a workload is measured for any."""
