"""How profiles change what is true: the newest of each workload, and devices that have become other ones. Pure."""

from __future__ import annotations

from dataclasses import replace

from ..events import DriftFound, ProfileStored
from .alerts import clear_prefix, raise_alert
from .state import State

KEPT = 32
"""Workloads whose profile is remembered."""


def profile_stored(state: State, event: ProfileStored) -> State:
    """A profile of a workload."""
    workload = str(event.document.get("workload", ""))
    if not workload:
        return replace(state, unknown=state.unknown + 1)
    found = {name: document for name, document in state.profiles.items() if name != workload}
    found[workload] = event.document
    while len(found) > KEPT:
        del found[next(iter(found))]
    state = replace(state, profiles=found)
    return clear_prefix(state, f"drift {workload} ") if event.is_new else state


def profile_drifted(state: State, event: DriftFound) -> State:
    """A device is another one than when it was profiled last."""
    key = f"drift {event.workload} {event.node} {event.device_index}"
    hint = "shares follow by themselves; look at its power limit, clocks and cooling"
    return raise_alert(state, key, "warning", drift_sentence(event), hint, event.node)


def drift_sentence(event: DriftFound) -> str:
    """``14 % slower than on 3 May: memory clock 405 MHz``."""
    since = f"on {event.day}" if event.day else "before"
    change = event.slowdown - 1.0
    word = "slower" if change >= 0 else "faster"
    reason = f": {event.reason}" if event.reason else ""
    return f"device {event.device_index}: {abs(change) * 100:.0f} % {word} than {since} with {event.workload}{reason}"
