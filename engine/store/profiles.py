"""The reducer's part for profiles: the newest one of each workload, and devices whose speed has drifted. Pure."""

from __future__ import annotations

from dataclasses import replace

from ..events import DriftFound, ProfileStored
from .alerts import clear_alerts, raise_alert
from .state import State

MAX_WORKLOADS = 32
"""Limit of workloads whose profile is kept."""


def apply_profile(state: State, event: ProfileStored) -> State:
    """Keep the profile of a workload. A new measurement ends the drift alerts of that workload."""
    workload = str(event.document.get("workload", ""))
    if not workload:
        return replace(state, unknown=state.unknown + 1)
    documents = {name: document for name, document in state.profiles.items() if name != workload}
    documents[workload] = event.document
    while len(documents) > MAX_WORKLOADS:
        del documents[next(iter(documents))]
    state = replace(state, profiles=documents)
    return clear_alerts(state, ("drift", workload)) if event.is_new else state


def apply_drift(state: State, event: DriftFound) -> State:
    """Raise the alert of a device that is faster or slower than its last profile."""
    key = ("drift", event.workload, event.node, str(event.device_index))
    hint = "shares adapt automatically; check its power limit, clocks and cooling"
    return raise_alert(state, key, "warning", drift_sentence(event), hint=hint, node=event.node)


def drift_sentence(event: DriftFound) -> str:
    """``14 % slower than on 3 May: memory clock 405 MHz``."""
    since = f"on {event.day}" if event.day else "before"
    change = event.slowdown - 1.0
    word = "slower" if change >= 0 else "faster"
    reason = f": {event.reason}" if event.reason else ""
    return f"device {event.device_index}: {abs(change) * 100:.0f} % {word} than {since} with {event.workload}{reason}"
