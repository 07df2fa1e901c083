"""Predicts the step time of one candidate from its profile: exact shares, buckets that overlap backward, remedies. Pure.

    ready_k = t - t_b (1 - phi) (1 - u_k) o        e_k = max(ready_k, e_(k-1)) + c_k + m_k alpha_W + n_k / beta_W
    T = max(t, e_K) + optimizer seconds

t: compute seconds of the slowest rank; t_b: those of a rank's last micro-batch, the only one whose backward sends, of the rank
whose bucket is ready last; phi: the forward share; u_k: the part of backward that is done when bucket k closes; o: the calibrated
overlap (below 0: how much longer communication takes beside compute); c_k: seconds to compress bucket k; m_k: all-reduces that it
needs; n_k: its bytes. For a ring
of W ranks alpha_W = 2 (W - 1) hop and beta_W = BW W / (2 (W - 1)); hop and BW come from the all-reduce measured over the whole
group (Patarasuk and Yuan 2009). CPUs that share a machine are slower together than alone, by a measured factor. Shares are those of
training: the same function decides them, so a device that is left out there is left out here. An epoch's last step has what is left
of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..balancer.policies import Problem, start
from ..balancer.step_time import StepTime
from ..errors import PlanImpossible
from ..profiles.profile import DeviceProfile, Profile
from ..states import Compression, Policy

MIN_LOCAL_BATCH = 1
"""Least samples of a rank that takes part; training asks for more of models with batch normalisation, and no workload has it."""
UNLIKE_LINK_FACTOR = 1.2
"""Links count as unlike from this factor on: single pairs are measured less precisely than the all-reduce."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to train: devices, batch size and exchange."""

    devices: tuple[int, ...]
    """Indices into the profile's devices, ascending."""
    global_batch_size: int
    policy: Policy = "hybrid"
    """Rule of the shares; ``dynamic`` ends up where ``hybrid`` begins."""
    compression: Compression = "none"
    local_steps: int = 1
    """Optimizer steps between two averagings of the weights (local SGD); 1: gradients are summed in every step."""

    @property
    def is_balanced(self) -> bool:
        """Whether shares follow speed."""
        return self.policy != "equal"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted step of one candidate."""

    candidate: Candidate
    local_batch_sizes: tuple[int, ...]
    compute_seconds: float
    """Of the slowest rank in one step."""
    communication_seconds: float
    """Per step without any overlap, compression included."""
    exposed_seconds: float
    """Communication per step that compute does not hide."""
    step_seconds: float
    """Of a full-size step."""
    samples_per_second: float
    """Throughput of an epoch, its smaller last step included; of full-size steps where the size of the data is unknown."""

    @property
    def ratio(self) -> float | None:
        """Compute over communication seconds; None without communication."""
        return self.compute_seconds / self.communication_seconds if self.communication_seconds > 0 else None


def predict(profile: Profile, candidate: Candidate) -> Prediction:
    """Predict one candidate. Raises PlanImpossible when its batch cannot be shared, or a device was not timed."""
    batch, world = candidate.global_batch_size, len(candidate.devices)
    if batch < world:
        raise PlanImpossible(f"a global batch of {batch} cannot be shared by {world} devices", hint="raise --global-batch-size")
    whole = _predict_step(profile, candidate, batch)
    if profile.samples is None or profile.samples <= batch or not (rest := profile.samples % batch):
        return whole
    seconds = profile.samples // batch * whole.step_seconds + _predict_step(profile, candidate, rest).step_seconds
    return replace(whole, samples_per_second=profile.samples / seconds)


def _predict_step(profile: Profile, candidate: Candidate, samples: int) -> Prediction:
    """A step of that many samples, which may be fewer than the batch of the candidate."""
    devices = [profile.devices[index] for index in candidate.devices]
    cpus = [device for device in devices if device.crowding is not None]
    times = [_step_time(device, _contention(profile, device, len(cpus))) for device in devices]
    sizes = local_batch_sizes(times, candidate.policy, samples)
    ranks = [micro_batched(device, time, size) for device, time, size in zip(devices, times, sizes, strict=True)]
    compute = max(whole for whole, _ in ranks)
    optimizer = profile.gradient.optimizer_seconds if profile.gradient is not None else 0.0
    communication = exposed = 0.0
    if len(devices) > 1:
        communication, end = _bucketed_sum(profile, candidate, ranks)
        exposed = max(0.0, end - compute)
        if candidate.local_steps > 1:  # weights are averaged after the step, where no compute hides it
            communication = exposed = _single_sum(profile, candidate) / candidate.local_steps
    seconds = compute + exposed + optimizer
    return Prediction(candidate, sizes, compute, communication, exposed, seconds, samples / seconds)


def local_batch_sizes(times: Sequence[StepTime], policy: Policy, samples: int) -> tuple[int, ...]:
    """The sizes with which training begins a case of that policy on devices of these step times; 0: the device is left out.

    Memory bounds no size: a batch that does not fit at once is trained in micro-batches.
    """
    world = len(times)
    if world == 1:
        return (samples,)
    settled: Policy = "hybrid" if policy == "dynamic" else policy
    problem = Problem(settled, samples, tuple(times), lows=(MIN_LOCAL_BATCH,) * world, highs=(samples,) * world)
    return start(problem).local_batch_sizes


def micro_batched(device: DeviceProfile, time: StepTime, size: int) -> tuple[float, float]:
    """Seconds of a local batch, and of its last micro-batch; several micro-batches if memory does not hold it at once."""
    parts = 1 if device.largest_batch is None else max(1, -(-size // max(1, device.largest_batch)))
    if not size:
        return 0.0, 0.0
    last = time.fixed_seconds + time.seconds_per_sample * (size - size * (parts - 1) // parts)
    return parts * time.fixed_seconds + time.seconds_per_sample * size, last


def _contention(profile: Profile, device: DeviceProfile, active: int) -> float:
    """Factor on a CPU's step time while ``active`` of the measured CPUs of a machine compute; scaled from that of all of them."""
    if device.crowding is None:
        return 1.0
    measured = sum(one.crowding is not None for one in profile.devices)
    return 1.0 + (device.crowding - 1.0) * (active - 1) / max(1, measured - 1)


def _step_time(device: DeviceProfile, contention: float) -> StepTime:
    if device.step_time is None:
        raise PlanImpossible(
            f"{device.name} was not timed: {device.error or 'no profile'}", node=device.node, hint="paceline profile"
        )
    return StepTime(device.step_time.fixed_seconds * contention, device.step_time.seconds_per_sample * contention)


def ring_cost(profile: Profile, candidate: Candidate) -> tuple[float, float]:
    """alpha (seconds) and beta (bytes per second) of an all-reduce over a candidate's ranks, scaled from the measured one."""
    measured = profile.all_reduce
    if measured is None:
        raise PlanImpossible("no all-reduce was measured between these devices", hint="paceline profile")
    whole, world = measured.world_size, len(candidate.devices)
    hop = measured.alpha / (2 * (whole - 1))
    bandwidth = measured.beta * 2 * (whole - 1) / whole
    return 2 * (world - 1) * hop, bandwidth * _link_factor(profile, candidate) * world / (2 * (world - 1))


def _link_factor(profile: Profile, candidate: Candidate) -> float:
    """How much faster the slowest link of the subset is than that of all devices; a ring is as fast as its slowest link.

    A node without a measured link, such as a what-if device, counts as on the slowest.
    """
    nodes = {profile.devices[index].node for index in candidate.devices}
    known = [link for link in profile.links if link.bandwidth]
    inside = [link.bandwidth or 0.0 for link in known if link.source in nodes and link.target in nodes]
    if not nodes <= {node for link in known for node in (link.source, link.target)}:
        return 1.0
    factor = min(inside) / min(link.bandwidth or 0.0 for link in known) if inside else 1.0
    return factor if factor > UNLIKE_LINK_FACTOR else 1.0


def _bucketed_sum(profile: Profile, candidate: Candidate, ranks: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Communication seconds in all, and when the last bucket is through, counted from the start of the step.

    ``ranks``: compute seconds of each rank, and of its last micro-batch.
    """
    gradient = profile.gradient
    if gradient is None or profile.all_reduce is None:
        raise PlanImpossible("no gradient was measured for this workload", hint="paceline profile")
    alpha, beta = ring_cost(profile, candidate)
    overlap = effective_overlap(profile, candidate)
    total = end = 0.0
    smaller = gradient.compression_seconds.get(candidate.compression, (0.0,) * len(gradient.bucket_bytes))
    buckets = zip(_messages(profile, candidate.compression), smaller, gradient.closed_at, strict=True)
    for number, ((messages, size), compressing, closed_at) in enumerate(buckets):
        is_last = number == len(gradient.bucket_bytes) - 1
        # With compression the step's statistics need a small all-reduce of their own.
        messages += is_last and candidate.compression != "none"
        seconds = compressing + (messages * alpha + size / beta) * profile.all_reduce.correction(size)
        seconds *= max(1.0, 1.0 - overlap)
        open_share = (1.0 - gradient.forward_share) * (1.0 - closed_at) * max(0.0, overlap)
        ready = max(whole - last * open_share for whole, last in ranks)
        end = max(ready, end) + seconds
        total += seconds
    return total, end


def effective_overlap(profile: Profile, candidate: Candidate) -> float:
    """The calibrated overlap; uncalibrated, 1 for GPUs and 0 for CPUs, which move the bytes themselves."""
    if profile.is_calibrated:
        return profile.overlap
    return 0.0 if any(profile.devices[index].kind == "cpu" for index in candidate.devices) else 1.0


def _messages(profile: Profile, compression: Compression) -> list[tuple[int, float]]:
    """Per bucket: the number of all-reduces and their bytes."""
    assert profile.gradient is not None
    sizes = profile.gradient.bucket_bytes
    if compression in ("bf16", "fp16"):
        return [(1, size / 2) for size in sizes]
    if compression == "powersgd":
        small = profile.gradient.low_rank_bytes or sizes
        return [(3, float(size)) for size in small]  # parameters without a matrix form, then both low-rank factors
    return [(1, float(size)) for size in sizes]


def _single_sum(profile: Profile, candidate: Candidate) -> float:
    """Seconds of one all-reduce over all weights."""
    assert profile.gradient is not None
    assert profile.all_reduce is not None
    alpha, beta = ring_cost(profile, candidate)
    size = sum(profile.gradient.bucket_bytes)
    return (alpha + size / beta) * profile.all_reduce.correction(size)
