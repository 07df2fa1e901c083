"""The JSON document of the verb ``profile``: measurements of devices, links and machines, with scores and drift. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..profiles.drift import Drift
from ..profiles.profile import DeviceProfile, Profile
from ..states import COMPRESSIONS
from .document_type import Document


def profile_document(profile: Profile, drifts: Sequence[Drift] = ()) -> Document:
    """The document; unknown is None. Scores are relative to the fastest device of the profile, which has 1."""
    fastest = max((device.samples_per_second for device in profile.devices), default=0.0)
    drift = {(one.node, one.index): one for one in drifts}
    all_reduce, gradient = profile.all_reduce, profile.gradient
    return {
        "type": "profile",
        "workload": profile.workload,
        "measured": profile.measured,
        "samples": profile.samples,
        "emulated": any(device.kind == "emulated" for device in profile.devices),
        "emulated_network": profile.is_network_emulated,
        "devices": [_device(device, fastest, drift.get(device.key)) for device in profile.devices],
        "links": [
            {
                "from": link.source,
                "to": link.target,
                "latency": link.latency,
                "bandwidth": link.bandwidth,
                "error": link.error or None,
            }
            for link in profile.links
        ],
        "all_reduce": all_reduce
        and {
            "ranks": all_reduce.world_size,
            "alpha": all_reduce.alpha,
            "beta": all_reduce.beta,
            "residual": all_reduce.residual,
            "sizes": list(all_reduce.sizes),
            "seconds": list(all_reduce.seconds),
        },
        "gradient": gradient
        and {
            "parameters": gradient.parameters,
            "bucket_bytes": list(gradient.bucket_bytes),
            "closed_at": list(gradient.closed_at),
            "forward_share": gradient.forward_share,
            "optimizer_seconds": gradient.optimizer_seconds,
            "low_rank_bytes": list(gradient.low_rank_bytes),
            "compression_seconds": {
                word: list(gradient.compression_seconds[word]) if word in gradient.compression_seconds else None
                for word in COMPRESSIONS
                if word != "none"
            },
        },
        "overlap": profile.overlap if profile.is_calibrated else None,
        "system": [
            {
                "node": system.node,
                "processor": system.processor or None,
                "cores": system.cores,
                "memory": system.memory,
                "disk_write": system.disk_write,
                "disk_read": system.disk_read,
                "processor_tflops": system.processor_tflops,
                "memory_bandwidth": system.memory_bandwidth,
                "error": system.error or None,
            }
            for system in profile.systems
        ],
    }


def _device(device: DeviceProfile, fastest: float, drift: Drift | None) -> Document:
    time = device.step_time
    return {
        "node": device.node,
        "index": device.index,
        "name": device.name,
        "kind": device.kind,
        "emulated": device.kind == "emulated",
        "memory": device.memory,
        "tflops": {form: device.tflops.get(form) for form in ("fp32", "tf32", "bf16", "fp16")},
        "memory_bandwidth": device.memory_bandwidth,
        "host_to_device": device.host_to_device,
        "score": device.samples_per_second / fastest if device.samples_per_second and fastest else None,
        "fit": {
            "a": None if time is None else time.fixed_seconds,
            "c": None if time is None else time.seconds_per_sample,
            "residual": device.residual,
        },
        "sizes": list(device.sizes),
        "seconds": list(device.seconds),
        "largest_batch": device.largest_batch,
        "power": device.power,
        "joules_per_sample": device.joules_per_sample,
        "crowding": device.crowding,
        "spread": device.spread,
        "stalled": device.stalled,
        "precision_speedups": {form: device.precision_speedups.get(form) for form in ("tf32", "bf16", "fp16")},
        "facts": [{"name": name, "value": value} for name, value in device.facts.items()],
        "drift": None if drift is None else {"slowdown": drift.slowdown, "since": drift.since, "reason": drift.reason or None},
        "error": device.error or None,
    }
