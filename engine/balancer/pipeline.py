"""Seconds of a whole step: the slowest rank's compute seconds, with the all-reduce of gradient buckets overlapping its backward.

Bucket k is ready when the slowest rank's backward has reached it, and starts when the bucket before it is finished:

    ready_k = t (phi + (1 - phi) u_k)        e_k = max(ready_k, e_(k-1)) + 2 (W - 1) alpha + 2 (W - 1) / W n_k / BW
    T = max(t, e_K) + optimizer seconds

with t the slowest rank's compute seconds. Cannikin's two cases (Nie et al. 2024, arXiv 2402.05302) are this with two buckets. T
grows with t and depends on the shares through t only, so the shares that minimise t minimise T for any fixed ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .step_time import StepTime, slowest_seconds


@dataclass(frozen=True, slots=True)
class Communication:
    """The gradient exchange of a workload on these links."""

    bucket_bytes: tuple[int, ...]
    """Size of each gradient bucket, in the order in which backward closes them."""
    closed_at: tuple[float, ...]
    """u_k: fraction of backward, 0 to 1, that is done when bucket k closes; nondecreasing."""
    link_bytes_per_second: tuple[float, ...]
    """Bandwidth of each rank's link; a ring is as fast as its slowest link."""
    hop_seconds: float
    """alpha: latency of one hop of the ring."""
    forward_share: float = 1 / 3
    """phi: fraction of the compute seconds before backward begins; the profile measures it on forward and backward alone."""
    overlap: float = 1.0
    """Fraction of the possible overlap that happens, 0 to 1: less than 1 where moving bytes takes CPU time from compute."""
    optimizer_seconds: float = 0.0


def step_seconds(
    times: Sequence[StepTime],
    sizes: Sequence[int],
    communication: Communication | None = None,
    *,
    leaves_ring: bool = False,
) -> float:
    """Return the seconds of one step with these local batch sizes; without ``communication`` the slowest rank's compute seconds.

    ``leaves_ring`` says what happens to a rank without samples. False: it computes nothing and still joins every all-reduce, as in
    a running job, whose group is fixed. True: the group is formed without it, as at a new launch.
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
