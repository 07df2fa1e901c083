"""A profile again, from the document of the verb profile: screens and replays hold only that. Pure.

Whoever reads a recording may meet anything: what is no profile gives None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..profiles.profile import AllReduceProfile, DeviceProfile, GradientProfile, LinkProfile, Profile
from ..wire import from_plain


@dataclass(frozen=True, slots=True)
class _Fit:
    a: float | None = None
    c: float | None = None
    residual: float | None = None


@dataclass(frozen=True, slots=True)
class _Device:
    node: str = ""
    index: int = 0
    name: str = ""
    kind: str = ""
    memory: int | None = None
    fit: _Fit = field(default_factory=_Fit)
    largest_batch: int | None = None
    crowding: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Sums:
    ranks: int = 0
    alpha: float | None = None
    beta: float | None = None
    residual: float | None = None
    sizes: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Gradient:
    bucket_bytes: tuple[int, ...] = ()
    closed_at: tuple[float, ...] = ()
    forward_share: float = 1 / 3
    optimizer_seconds: float = 0.0
    low_rank_bytes: tuple[int, ...] = ()
    parameters: int = 0
    compression_seconds: dict[str, tuple[float, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Document:
    workload: str = ""
    emulated_network: bool = False
    devices: tuple[_Device, ...] = ()
    links: tuple[dict[str, Any], ...] = ()
    all_reduce: _Sums | None = None
    gradient: _Gradient | None = None
    overlap: float | None = None
    measured: float | None = None


def read_profile(document: dict[str, Any] | None) -> Profile | None:
    """The part of it that advice needs."""
    try:
        told = None if document is None else from_plain(_Document, document)
    except ValueError:
        return None
    if told is None or not told.devices:
        return None
    gradient = told.gradient
    is_whole = (
        gradient is not None
        and 0 < len(gradient.bucket_bytes) == len(gradient.closed_at)
        and len(gradient.low_rank_bytes) in (0, len(gradient.bucket_bytes))
    )
    return Profile(
        workload=told.workload,
        devices=tuple(_device(device) for device in told.devices),
        links=tuple(_link(link) for link in told.links),
        all_reduce=_sums(told.all_reduce),
        gradient=None
        if gradient is None or not is_whole
        else GradientProfile(
            gradient.bucket_bytes,
            gradient.closed_at,
            gradient.forward_share,
            gradient.optimizer_seconds,
            gradient.low_rank_bytes,
            gradient.parameters,
            {
                word: seconds
                for word, seconds in gradient.compression_seconds.items()
                if seconds is not None and len(seconds) == len(gradient.bucket_bytes) and min(seconds) >= 0
            },
        ),
        overlap=1.0 if told.overlap is None else told.overlap,
        is_calibrated=told.overlap is not None,
        is_network_emulated=told.emulated_network,
        measured=told.measured or 0.0,
    )


def _device(told: _Device) -> DeviceProfile:
    is_timed = told.fit.a is not None and told.fit.c is not None and told.fit.a >= 0 and told.fit.c > 0
    return DeviceProfile(
        told.node,
        told.index,
        told.name,
        told.kind,
        told.memory,
        fixed_seconds=told.fit.a if is_timed else None,
        seconds_per_sample=told.fit.c if is_timed else None,
        residual=told.fit.residual,
        largest_batch=told.largest_batch,
        crowding=told.crowding if told.crowding is not None and told.crowding > 0 else None,
        error=told.error or "",
    )


def _link(told: dict[str, Any]) -> LinkProfile:
    speed = told.get("bandwidth")
    bandwidth = float(speed) if isinstance(speed, int | float) and speed > 0 else None
    return LinkProfile(str(told.get("from", "")), str(told.get("to", "")), None, bandwidth)


def _sums(told: _Sums | None) -> AllReduceProfile | None:
    if told is None or told.ranks < 2 or told.alpha is None or told.beta is None or told.alpha < 0 or told.beta <= 0:
        return None
    is_whole = (
        len(told.sizes) == len(told.seconds) and list(told.sizes) == sorted(set(told.sizes)) and min(told.seconds, default=1) > 0
    )
    points = (told.residual or 0.0, told.sizes, told.seconds) if is_whole else ()
    return AllReduceProfile(told.ranks, told.alpha, told.beta, *points)
