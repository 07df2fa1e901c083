"""Assembles one profile from the events of a profiling run. Pure; the order of different nodes' events does not matter."""

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

NO_MEASUREMENT = "no measurement arrived"
INTERRUPTED = "its steps were not timed: the run was interrupted"


def assemble(plan: Plan, events: Iterable[Event], measured: float) -> Profile:
    """Return the profile of a run; a missing measurement has an ``error``. ``measured``: Unix time at the centre."""
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
                link = LinkProfile(event.node, event.peer, _positive(event.latency), _positive(event.bandwidth), event.error)
                links[event.node, event.peer] = link
            case SystemProfiled():
                systems[event.node] = SystemProfile(
                    node=event.node,
                    processor=event.processor,
                    cores=event.cores,
                    memory=event.memory,
                    disk_write=_positive(event.disk_write),
                    disk_read=_positive(event.disk_read),
                    processor_tflops=_positive(event.processor_tflops),
                    memory_bandwidth=_positive(event.memory_bandwidth),
                    facts=event.facts,
                    error=event.error,
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
            links.get((one.name, other.name), LinkProfile(one.name, other.name, error=NO_MEASUREMENT))
            for one in plan.nodes
            for other in plan.nodes
            if one.name != other.name
        ),
        all_reduce=all_reduce,
        gradient=gradient,
        systems=tuple(systems.get(node.name, SystemProfile(node.name, error=NO_MEASUREMENT)) for node in plan.nodes),
        is_network_emulated=plan.is_network_emulated,
        measured=measured,
        samples=plan.data.training_rows,
    )


def _device(
    rank: RankPlan,
    device: DeviceProfiled | None,
    steps: StepTimesProfiled | None,
    systems: Mapping[str, SystemProfile],
    failure: str,
) -> DeviceProfile:
    profile = DeviceProfile(rank.node, rank.device_index, rank.device_name, rank.device_kind, rank.memory)
    errors = [failure] if failure else []
    versions = systems[rank.node].facts if rank.node in systems else {}
    if device is not None:
        errors.append(device.error)
        profile = replace(
            profile,
            tflops={kind: value for kind, value in device.tflops.items() if value > 0},
            memory_bandwidth=_positive(device.memory_bandwidth),
            host_to_device=_positive(device.host_to_device),
            facts={**versions, **device.facts},
        )
    if steps is not None:
        errors.append(steps.error)
        is_sound = len(steps.sizes) == len(steps.seconds) and all(seconds > 0 for seconds in steps.seconds)
        fixed, each = steps.fixed_seconds, _positive(steps.seconds_per_sample)
        if is_sound and fixed is not None and fixed >= 0 and each is not None:
            profile = replace(
                profile,
                sizes=steps.sizes,
                seconds=steps.seconds,
                fixed_seconds=fixed,
                seconds_per_sample=each,
                residual=steps.residual,
                power=_positive(steps.power),
                joules_per_sample=_positive(steps.joules_per_sample),
                crowding=_positive(steps.crowding),
                spread=steps.spread if steps.spread is not None and steps.spread >= 0 else None,
                stalled=steps.stalled if steps.stalled is not None and 0 <= steps.stalled <= 1 else None,
                precision_speedups={word: factor for word, factor in steps.precision_speedups.items() if 0 < factor < 100},
            )
        if steps.largest_batch is not None and steps.largest_batch > 0:
            profile = replace(profile, largest_batch=steps.largest_batch)
    if profile.step_time is None and not any(errors):
        errors.append(NO_MEASUREMENT if device is None and steps is None else INTERRUPTED)
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
    """Return a measurement, or None where it is not positive."""
    return value if value is not None and value > 0 else None
