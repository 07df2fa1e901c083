"""How long a whole step takes: the slowest rank's compute, with the all-reduce of gradient buckets overlapping its backward pass.

Bucket k is ready when the slowest rank's backward has come that far, and starts when the one before it is through:

    ready_k = t (phi + (1 - phi) u_k)        e_k = max(ready_k, e_(k-1)) + 2 (W - 1) alpha + 2 (W - 1) / W n_k / BW
    T = max(t, e_K) + optimizer seconds

with t the slowest rank's compute seconds. Cannikin's two cases (Nie et al. 2024, arXiv 2402.05302) are this with two buckets. T
grows with t and depends on the shares through nothing else, so the shares that minimise t minimise T for any fixed ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .step_time import StepTime, slowest_seconds


@dataclass(frozen=True, slots=True)
class Communication:
    """What is known about the gradient exchange of a workload on these links."""

    bucket_bytes: tuple[int, ...]
    """Of each gradient bucket, in the order in which backward closes them."""
    closed_at: tuple[float, ...]
    """u_k: the part of backward, 0 to 1, that is done when bucket k closes; nondecreasing."""
    link_bytes_per_second: tuple[float, ...]
    """Of each rank's link; a ring is as fast as its slowest member's."""
    hop_seconds: float
    """alpha: latency of one hop of the ring."""
    forward_share: float = 1 / 3
    """phi: the part of compute seconds that forward takes."""
    overlap: float = 1.0
    """How much of the possible overlap happens, 0 to 1: less than 1 where moving bytes takes CPU from compute."""
    optimizer_seconds: float = 0.0


def step_seconds(
    times: Sequence[StepTime],
    sizes: Sequence[int],
    communication: Communication | None = None,
    *,
    leaves_ring: bool = False,
) -> float:
    """Seconds of one step with these local batch sizes; without ``communication`` the compute seconds of the slowest rank.

    ``leaves_ring`` says what a rank without samples means. False: it is empty-handed, computes nothing and still joins every
    all-reduce; that is all a running job can do, whose group stands. True: a group is formed without it (a new launch).
    """
    compute = slowest_seconds(times, sizes)
    if communication is None:
        return compute
    ring = [rank for rank, size in enumerate(sizes) if size or not leaves_ring]
    seconds = compute
    if len(ring) > 1:
        world = len(ring)
        bandwidth = min(communication.link_bytes_per_second[rank] for rank in ring)
        hops = 2 * (world - 1) * communication.hop_seconds
        end = 0.0
        for size, closed_at in zip(communication.bucket_bytes, communication.closed_at, strict=True):
            progress = 1.0 - communication.overlap * (1.0 - closed_at)
            ready = compute * (communication.forward_share + (1.0 - communication.forward_share) * progress)
            end = max(ready, end) + hops + 2 * (world - 1) / world * size / bandwidth
        seconds = max(compute, end)
    return seconds + communication.optimizer_seconds
