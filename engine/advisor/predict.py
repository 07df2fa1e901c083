"""How long a step of one candidate takes: exact shares, the overlap of buckets with backward, what a remedy changes. Pure.

    ready_k = t - t_b (1 - phi) (1 - u_k) o        e_k = max(ready_k, e_(k-1)) + c_k + m_k alpha_W + n_k / beta_W
    T = max(t, e_K) + optimizer seconds

t: compute seconds of the slowest rank; t_b: of its last micro-batch, the only one whose backward sends; u_k: the part of backward
that is done when bucket k closes; o: the calibrated share of the overlap that happens, and below 0 what communication takes more
than when nothing computes beside it; c_k: what compressing the bucket takes a rank; m_k: the sums it needs. For a ring of W ranks
alpha_W = 2 (W - 1) hop and beta_W = BW W / (2 (W - 1)); hop and BW come from the all-reduce that was measured over the whole group
(Patarasuk and Yuan 2009). Processors that share a machine take longer at once than alone; how much was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..balancer.allocate import allocate
from ..balancer.step_time import StepTime
from ..errors import PlanImpossible
from ..profiles.profile import DeviceProfile, Profile

LINK_NOISE = 1.2
"""Pairs are measured less well than sums over all: links count as unlike from this factor on."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to train."""

    devices: tuple[int, ...]
    """Indices into the profile's devices, in their order."""
    global_batch_size: int
    is_balanced: bool = True
    """Shares by speed; else equal ones."""
    compression: str = "none"
    local_steps: int = 1
    """Optimizer steps between two averages of the weights (local SGD); 1: gradients are summed in every step."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a candidate is expected to do."""

    candidate: Candidate
    local_batch_sizes: tuple[int, ...]
    compute_seconds: float
    """Of the slowest rank in one step."""
    communication_seconds: float
    """Of one step, if nothing overlapped; what compressing gradients takes counts in."""
    exposed_seconds: float
    """Communication that nothing hides, in one step."""
    step_seconds: float

    @property
    def samples_per_second(self) -> float:
        """Throughput."""
        return self.candidate.global_batch_size / self.step_seconds

    @property
    def ratio(self) -> float | None:
        """R: compute over communication; None without communication."""
        return self.compute_seconds / self.communication_seconds if self.communication_seconds > 0 else None


def predict(profile: Profile, candidate: Candidate) -> Prediction:
    """Predict one candidate. Raises PlanImpossible when its batch cannot be shared, or a device was not timed."""
    devices = [profile.devices[index] for index in candidate.devices]
    crowd = [device for device in devices if device.crowding is not None]
    times = [_time(device, _crowded(profile, device, len(crowd))) for device in devices]
    sizes = shares(times, candidate)
    last = 0.0
    compute = 0.0
    for device, time, size in zip(devices, times, sizes, strict=True):
        whole, part = micro_batched(device, time, size)
        if whole > compute:
            compute, last = whole, part
    optimizer = profile.gradient.optimizer_seconds if profile.gradient is not None else 0.0
    if len(devices) < 2:
        return Prediction(candidate, sizes, compute, 0.0, 0.0, compute + optimizer)
    communication, end = _exchange(profile, candidate, compute, last)
    exposed = max(0.0, end - compute)
    if candidate.local_steps > 1:  # weights are averaged after the step, and nothing hides that
        communication = exposed = _whole_sum(profile, candidate) / candidate.local_steps
    return Prediction(candidate, sizes, compute, communication, exposed, compute + exposed + optimizer)


def shares(times: Sequence[StepTime], candidate: Candidate) -> tuple[int, ...]:
    """Local batch sizes: the balancer's exact ones, or equal ones whose rest goes to the first ranks."""
    batch, world = candidate.global_batch_size, len(times)
    if batch < world:
        raise PlanImpossible(f"a global batch of {batch} cannot be shared by {world} devices", hint="raise --global-batch-size")
    if candidate.is_balanced:
        return allocate(times, batch, [1] * world)
    return tuple(batch // world + (rank < batch % world) for rank in range(world))


def micro_batched(device: DeviceProfile, time: StepTime, size: int) -> tuple[float, float]:
    """Seconds of a local batch, in parts where memory does not hold it at once; and of the last part."""
    parts = 1 if device.largest_batch is None else max(1, -(-size // max(1, device.largest_batch)))
    if not size:
        return 0.0, 0.0
    last = time.fixed_seconds + time.seconds_per_sample * (size - size * (parts - 1) // parts)
    return parts * time.fixed_seconds + time.seconds_per_sample * size, last


def _crowded(profile: Profile, device: DeviceProfile, beside: int) -> float:
    """How much longer steps take where some of the processors that share a machine compute: part of what all of them cost."""
    if device.crowding is None:
        return 1.0
    everyone = sum(one.crowding is not None for one in profile.devices)
    return 1.0 + (device.crowding - 1.0) * (beside - 1) / max(1, everyone - 1)


def _time(device: DeviceProfile, crowded: float) -> StepTime:
    if device.time is None:
        raise PlanImpossible(
            f"{device.name} was not timed: {device.error or 'no profile'}", node=device.node, hint="paceline profile"
        )
    return StepTime(device.time.fixed_seconds * crowded, device.time.seconds_per_sample * crowded)


def ring(profile: Profile, candidate: Candidate) -> tuple[float, float]:
    """alpha and beta of a sum over the ranks of a candidate, from the sum that was measured over all."""
    measured = profile.all_reduce
    if measured is None:
        raise PlanImpossible("no all-reduce was measured between these devices", hint="paceline profile")
    whole, world = measured.world_size, len(candidate.devices)
    hop = measured.alpha / (2 * (whole - 1))
    bandwidth = measured.beta * 2 * (whole - 1) / whole
    return 2 * (world - 1) * hop, bandwidth * _link_factor(profile, candidate) * world / (2 * (world - 1))


def _link_factor(profile: Profile, candidate: Candidate) -> float:
    """A ring is as fast as its slowest link: how much faster that of the subset is than that of all.

    A node of which no link was measured, as one that is supposed, is on the slowest.
    """
    nodes = {profile.devices[index].node for index in candidate.devices}
    known = [link for link in profile.links if link.bandwidth]
    inside = [link.bandwidth or 0.0 for link in known if link.source in nodes and link.target in nodes]
    if not nodes <= {node for link in known for node in (link.source, link.target)}:
        return 1.0
    factor = min(inside) / min(link.bandwidth or 0.0 for link in known) if inside else 1.0
    return factor if factor > LINK_NOISE else 1.0


def _exchange(profile: Profile, candidate: Candidate, compute: float, last: float) -> tuple[float, float]:
    """Communication seconds in all, and when the last bucket is through, counted from the start of the step."""
    gradient = profile.gradient
    if gradient is None or profile.all_reduce is None:
        raise PlanImpossible("no gradient was measured for this workload", hint="paceline profile")
    alpha, beta = ring(profile, candidate)
    backward = last * (1.0 - gradient.forward_share)
    overlap = overlap_of(profile, candidate)
    total = end = 0.0
    smaller = gradient.compression_seconds.get(candidate.compression, (0.0,) * len(gradient.bucket_bytes))
    buckets = zip(_sent(profile, candidate.compression), smaller, gradient.closed_at, strict=True)
    for number, ((messages, size), compressing, closed_at) in enumerate(buckets):
        is_last = number == len(gradient.bucket_bytes) - 1
        # Compressed gradients leave the step's report to a small sum of its own.
        messages += is_last and candidate.compression != "none"
        seconds = compressing + (messages * alpha + size / beta) * profile.all_reduce.bend(size)
        seconds *= max(1.0, 1.0 - overlap)
        ready = compute - backward * (1.0 - closed_at) * max(0.0, overlap)
        end = max(ready, end) + seconds
        total += seconds
    return total, end


def overlap_of(profile: Profile, candidate: Candidate) -> float:
    """What real steps have taught; before, all that is possible, but none for processors: they move the bytes that they compute."""
    if profile.is_calibrated:
        return profile.overlap
    return 0.0 if any(profile.devices[index].kind == "cpu" for index in candidate.devices) else 1.0


def _sent(profile: Profile, compression: str) -> list[tuple[int, float]]:
    """Of each bucket how many sums, and how many bytes in them."""
    assert profile.gradient is not None
    sizes = profile.gradient.bucket_bytes
    if compression in ("bf16", "fp16"):
        return [(1, size / 2) for size in sizes]
    if compression == "powersgd":
        small = profile.gradient.low_rank_bytes or sizes
        return [(3, float(size)) for size in small]  # what has no matrix form, then both factors
    return [(1, float(size)) for size in sizes]


def _whole_sum(profile: Profile, candidate: Candidate) -> float:
    """One sum of all weights at once."""
    assert profile.gradient is not None
    assert profile.all_reduce is not None
    alpha, beta = ring(profile, candidate)
    size = sum(profile.gradient.bucket_bytes)
    return (alpha + size / beta) * profile.all_reduce.bend(size)
