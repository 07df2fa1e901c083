"""Rebuilds a profile from the JSON document of the verb ``profile``, which is all that screens and replays have. Pure.

A recording may hold anything, so a document that is no profile gives None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..profiles.profile import AllReduceProfile, DeviceProfile, GradientProfile, LinkProfile, Profile, SystemProfile
from ..states import DEVICE_KINDS, member
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
    spread: float | None = None
    stalled: float | None = None
    precision_speedups: dict[str, float | None] = field(default_factory=dict)
    facts: tuple[dict[str, str], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _AllReduce:
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
class _System:
    node: str = ""
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class _Document:
    workload: str = ""
    emulated_network: bool = False
    devices: tuple[_Device, ...] = ()
    links: tuple[dict[str, Any], ...] = ()
    all_reduce: _AllReduce | None = None
    gradient: _Gradient | None = None
    overlap: float | None = None
    measured: float | None = None
    samples: int | None = None
    system: tuple[_System, ...] = ()


def profile_from_document(document: dict[str, Any] | None) -> Profile | None:
    """The part of the profile that advice needs; None if the document holds no profile."""
    try:
        parsed = None if document is None else from_plain(_Document, document)
    except ValueError:
        return None
    if parsed is None or not parsed.devices:
        return None
    gradient = parsed.gradient
    is_whole = (
        gradient is not None
        and 0 < len(gradient.bucket_bytes) == len(gradient.closed_at)
        and len(gradient.low_rank_bytes) in (0, len(gradient.bucket_bytes))
    )
    return Profile(
        workload=parsed.workload,
        devices=tuple(_device(device) for device in parsed.devices),
        links=tuple(_link(link) for link in parsed.links),
        all_reduce=_all_reduce(parsed.all_reduce),
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
        overlap=1.0 if parsed.overlap is None else parsed.overlap,
        is_calibrated=parsed.overlap is not None,
        is_network_emulated=parsed.emulated_network,
        measured=parsed.measured or 0.0,
        samples=parsed.samples if parsed.samples is not None and parsed.samples > 0 else None,
        systems=tuple(SystemProfile(system.node, cores=system.cores) for system in parsed.system),
    )


def _device(parsed: _Device) -> DeviceProfile:
    is_timed = parsed.fit.a is not None and parsed.fit.c is not None and parsed.fit.a >= 0 and parsed.fit.c > 0
    return DeviceProfile(
        parsed.node,
        parsed.index,
        parsed.name,
        member(parsed.kind, DEVICE_KINDS) or "cuda",
        parsed.memory,
        fixed_seconds=parsed.fit.a if is_timed else None,
        seconds_per_sample=parsed.fit.c if is_timed else None,
        residual=parsed.fit.residual,
        largest_batch=parsed.largest_batch,
        crowding=parsed.crowding if parsed.crowding is not None and parsed.crowding > 0 else None,
        spread=parsed.spread if parsed.spread is not None and parsed.spread >= 0 else None,
        stalled=parsed.stalled if parsed.stalled is not None and 0 <= parsed.stalled <= 1 else None,
        precision_speedups={
            word: factor for word, factor in parsed.precision_speedups.items() if factor is not None and factor > 0
        },
        facts={fact["name"]: fact["value"] for fact in parsed.facts if {"name", "value"} <= fact.keys()},
        error=parsed.error or "",
    )


def _link(parsed: dict[str, Any]) -> LinkProfile:
    speed = parsed.get("bandwidth")
    bandwidth = float(speed) if isinstance(speed, int | float) and speed > 0 else None
    return LinkProfile(str(parsed.get("from", "")), str(parsed.get("to", "")), None, bandwidth)


def _all_reduce(parsed: _AllReduce | None) -> AllReduceProfile | None:
    if parsed is None or parsed.ranks < 2 or parsed.alpha is None or parsed.beta is None or parsed.alpha < 0 or parsed.beta <= 0:
        return None
    is_whole = (
        len(parsed.sizes) == len(parsed.seconds)
        and list(parsed.sizes) == sorted(set(parsed.sizes))
        and min(parsed.seconds, default=1) > 0
    )
    points = (parsed.residual or 0.0, parsed.sizes, parsed.seconds) if is_whole else ()
    return AllReduceProfile(parsed.ranks, parsed.alpha, parsed.beta, *points)
