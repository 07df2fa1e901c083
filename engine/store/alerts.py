"""Alerts: one per cause, raised once and ended when the cause is gone. Pure."""

from __future__ import annotations

from dataclasses import replace

from ..events import NodeReported, PeerSilent
from ..states import Severity
from .history import MAX_ENTRIES
from .silence import silence_text
from .state import Alert, AlertKey, NodeState, RunState, State

MAX_OPEN_ALERTS = 2000
"""Limit of open alerts, for a node that sends ever new causes. A lab of a thousand lost nodes is within it."""


def raise_alert(
    state: State,
    key: AlertKey,
    severity: Severity,
    text: str,
    *,
    hint: str = "",
    node: str = "",
    run_id: str = "",
    rank: int | None = None,
    action_taken: str = "",
    at: float | None = None,
) -> State:
    """Add an alert, or update the open alert of the same key. ``at``: stream time at which the cause began; None: now."""
    for index, alert in enumerate(state.alerts):
        if alert.key == key and alert.ended_at is None:
            if (alert.text, alert.severity, alert.hint, alert.action_taken) == (text, severity, hint, action_taken):
                return state
            updated = replace(alert, text=text, severity=severity, hint=hint, action_taken=action_taken)
            return replace(state, alerts=(*state.alerts[:index], updated, *state.alerts[index + 1 :]))
    alert = Alert(
        key,
        severity,
        text,
        state.at if at is None else at,
        hint=hint,
        node=node,
        run_id=run_id,
        rank=rank,
        action_taken=action_taken,
    )
    return replace(state, alerts=(*_make_room(state.alerts), alert))


def _make_room(alerts: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """Drop the oldest ended alert where there are too many. Open alerts are kept, because the screens count them."""
    if len(alerts) < MAX_ENTRIES:
        return alerts
    oldest = next((index for index, alert in enumerate(alerts) if alert.ended_at is not None), None)
    if oldest is None:
        return alerts[1:] if len(alerts) >= MAX_OPEN_ALERTS else alerts
    return (*alerts[:oldest], *alerts[oldest + 1 :])


def clear_alert(state: State, key: AlertKey, action_taken: str = "") -> State:
    """End the open alert of this key, if there is one. A non-empty ``action_taken`` replaces the earlier text."""
    if not any(alert.key == key and alert.ended_at is None for alert in state.alerts):
        return state
    return replace(
        state, alerts=tuple(_ended(alert, state.at, action_taken) if alert.key == key else alert for alert in state.alerts)
    )


def clear_alerts(state: State, prefix: AlertKey) -> State:
    """End the open alerts whose keys start with these parts."""
    for alert in state.alerts:
        if alert.ended_at is None and alert.key[: len(prefix)] == prefix:
            state = clear_alert(state, alert.key)
    return state


def clear_run_warnings(state: State, run_id: str) -> State:
    """End the warnings of a run that is over. Its critical alerts stay open: they say why it failed."""
    if not any(alert.run_id == run_id and alert.severity == "warning" and alert.ended_at is None for alert in state.alerts):
        return state
    return replace(
        state,
        alerts=tuple(
            _ended(alert, state.at) if alert.run_id == run_id and alert.severity == "warning" else alert for alert in state.alerts
        ),
    )


def clear_run_alerts(state: State, run: RunState) -> State:
    """End all alerts of a run that ended earlier, at its end."""
    at = state.at if run.ended_at is None else run.ended_at
    return replace(state, alerts=tuple(_ended(alert, at) if alert.run_id == run.run_id else alert for alert in state.alerts))


def _ended(alert: Alert, at: float, action_taken: str = "") -> Alert:
    return alert if alert.ended_at is not None else replace(alert, ended_at=at, action_taken=action_taken or alert.action_taken)


def raise_peer_silence(state: State, event: PeerSilent) -> State:
    """Raise the alert of a rank, a node or a path of a run that is silent, or end it."""
    key = ("silent", event.peer or "-".join(event.path), event.run_id, *map(str, event.ranks))
    if event.is_over:
        return clear_alert(state, key)
    rank = event.ranks[0] if len(event.ranks) == 1 else None
    node = event.peer or (event.path[0] if event.path else "")
    hint = "where it stays silent, the run ends with it as the cause, or goes on without it"
    text = silence_text(event)
    return raise_alert(state, key, "warning", text, hint=hint, node=node, run_id=event.run_id, rank=rank, at=event.at)


def raise_silence_alert(state: State, node: NodeState) -> State:
    """Raise the alert of a silent node, dated at its last report. A loss that follows updates the same alert."""
    hint = "runs on it go on; is the machine overloaded, or its network cut?"
    return raise_alert(state, ("node", node.name), "warning", "no word from its agent", hint=hint, node=node.name, at=node.at)


def update_device_alerts(state: State, event: NodeReported) -> State:
    """Raise or end the alerts that a node's readings justify: unreadable devices, and clocks reduced by heat or power."""
    open_keys = {alert.key for alert in state.alerts if alert.ended_at is None and alert.node == event.node}
    for reading in event.devices:
        # Fast path: nearly every reading of hundreds of nodes is of a healthy device without an open alert.
        if not (reading.error or reading.throttle or open_keys):
            continue
        device_key: AlertKey = ("device", event.node, str(reading.index))
        throttle_key: AlertKey = ("throttle", event.node, str(reading.index))
        if reading.error:
            text = f"device {reading.index} {reading.name}: {reading.error}"
            state = raise_alert(state, device_key, "critical", text, node=event.node)
        elif device_key in open_keys:
            state = clear_alert(state, device_key)
        if reading.throttle:
            text = f"device {reading.index} {reading.name} clocks down: {', '.join(reading.throttle)}"
            state = raise_alert(state, throttle_key, "warning", text, hint="check its cooling and power limit", node=event.node)
        elif throttle_key in open_keys:
            state = clear_alert(state, throttle_key)
    return state
