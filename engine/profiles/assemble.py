"""From the lines that ranks wrote while they were measured to one profile. Pure; the order of different nodes' lines is nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..events import (
    AllReduceProfiled,
    DeviceProfiled,
    Event,
    GradientProfiled,
    LinkProfiled,
    RankFailed,
    StepTimesProfiled,
    SystemProfiled,
)
from ..plan import Plan, RankPlan
from .profile import AllReduceProfile, DeviceProfile, GradientProfile, LinkProfile, Profile, SystemProfile

SILENT = "nothing came home of it"
BROKEN_OFF = "its steps were not timed: the run broke off"


def assemble(plan: Plan, events: Iterable[Event], measured: float) -> Profile:
    """The profile of a run; what is missing says so. ``measured``: seconds since 1970, of the centre."""
    devices: dict[int, DeviceProfiled] = {}
    steps: dict[int, StepTimesProfiled] = {}
    links: dict[tuple[str, str], LinkProfile] = {}
    systems: dict[str, SystemProfile] = {}
    failed: dict[int, str] = {}
    all_reduce: AllReduceProfile | None = None
    gradient: GradientProfile | None = None
    for event in events:
        match event:
            case DeviceProfiled():
                devices[event.rank] = event
            case StepTimesProfiled():
                steps[event.rank] = event
            case LinkProfiled():
                found = LinkProfile(event.node, event.peer, _positive(event.latency), _positive(event.bandwidth), event.error)
                links[event.node, event.peer] = found
            case SystemProfiled():
                systems[event.node] = SystemProfile(
                    event.node,
                    event.processor,
                    event.cores,
                    event.memory,
                    _positive(event.disk_write),
                    _positive(event.disk_read),
                    event.facts,
                    event.error,
                )
            case AllReduceProfiled(rank=0):
                all_reduce = _all_reduce(event)
            case GradientProfiled(rank=0):
                gradient = _gradient(event)
            case RankFailed(is_collateral=False):
                failed[event.rank] = event.reason
    return Profile(
        workload=plan.workload,
        devices=tuple(
            _device(rank, devices.get(rank.rank), steps.get(rank.rank), systems, failed.get(rank.rank, "")) for rank in plan.ranks
        ),
        links=tuple(
            links.get((one.name, other.name), LinkProfile(one.name, other.name, error=SILENT))
            for one in plan.nodes
            for other in plan.nodes
            if one.name != other.name
        ),
        all_reduce=all_reduce,
        gradient=gradient,
        systems=tuple(systems.get(node.name, SystemProfile(node.name, error=SILENT)) for node in plan.nodes),
        is_network_emulated=plan.is_network_emulated,
        measured=measured,
    )


def _device(
    rank: RankPlan,
    told: DeviceProfiled | None,
    timed: StepTimesProfiled | None,
    systems: Mapping[str, SystemProfile],
    failure: str,
) -> DeviceProfile:
    profile = DeviceProfile(rank.node, rank.device_index, rank.device_name, rank.device_kind, rank.memory)
    errors = [failure] if failure else []
    versions = systems[rank.node].facts if rank.node in systems else {}
    if told is not None:
        errors.append(told.error)
        profile = replace(
            profile,
            tflops={kind: value for kind, value in told.tflops.items() if value > 0},
            memory_bandwidth=_positive(told.memory_bandwidth),
            host_to_device=_positive(told.host_to_device),
            facts={**versions, **told.facts},
        )
    if timed is not None:
        errors.append(timed.error)
        is_sound = len(timed.sizes) == len(timed.seconds) and all(seconds > 0 for seconds in timed.seconds)
        fixed, each = timed.fixed_seconds, _positive(timed.seconds_per_sample)
        if is_sound and fixed is not None and fixed >= 0 and each is not None:
            profile = replace(
                profile,
                sizes=timed.sizes,
                seconds=timed.seconds,
                fixed_seconds=fixed,
                seconds_per_sample=each,
                residual=timed.residual,
                power=_positive(timed.power),
                joules_per_sample=_positive(timed.joules_per_sample),
                crowding=_positive(timed.crowding),
            )
        if timed.largest_batch is not None and timed.largest_batch > 0:
            profile = replace(profile, largest_batch=timed.largest_batch)
    if profile.time is None and not any(errors):
        errors.append(SILENT if told is None and timed is None else BROKEN_OFF)
    return replace(profile, error="; ".join(dict.fromkeys(error for error in errors if error)))


def _all_reduce(event: AllReduceProfiled) -> AllReduceProfile | None:
    beta, alpha = _positive(event.beta), event.alpha
    if event.world_size < 2 or alpha is None or alpha < 0 or beta is None or len(event.sizes) != len(event.seconds):
        return None
    if list(event.sizes) != sorted(set(event.sizes)) or any(taken <= 0 for taken in event.seconds):
        return None
    return AllReduceProfile(event.world_size, alpha, beta, event.residual or 0.0, event.sizes, event.seconds)


def _gradient(event: GradientProfiled) -> GradientProfile | None:
    share = event.forward_share
    count = len(event.bucket_bytes)
    if not count or len(event.closed_at) != count or share is None or not 0.0 <= share < 1.0:
        return None
    low_rank = event.low_rank_bytes if len(event.low_rank_bytes) == count else ()
    optimizer = max(0.0, event.optimizer_seconds or 0.0)
    sound = {word: seconds for word, seconds in event.compression_seconds.items() if len(seconds) == count and min(seconds) >= 0}
    return GradientProfile(event.bucket_bytes, event.closed_at, share, optimizer, low_rank, event.parameters, sound)


def _positive(value: float | None) -> float | None:
    """A measurement, or None where a node wrote what cannot be one."""
    return value if value is not None and value > 0 else None
