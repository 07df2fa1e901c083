"""Trouble that a person should see: one line a cause, raised once, ended when the cause is gone."""

from __future__ import annotations

from dataclasses import replace

from ..events import NodeReported
from .history import EVENTS
from .state import Alert, NodeState, State

MOST_OPEN = 2000
"""Open alerts that are kept, should a node invent causes: a lab of a thousand lost nodes is within it."""


def raise_alert(
    state: State,
    key: str,
    severity: str,
    text: str,
    hint: str = "",
    node: str = "",
    run_id: str = "",
    rank: int | None = None,
    deed: str = "",
    at: float | None = None,
) -> State:
    """Add trouble, or bring the words of the same trouble up to date. ``at``: when it began; None: now."""
    for index, alert in enumerate(state.alerts):
        if alert.key == key and alert.ended_at is None:
            if (alert.text, alert.severity, alert.hint, alert.deed) == (text, severity, hint, deed):
                return state
            same = replace(alert, text=text, severity=severity, hint=hint, deed=deed)
            return replace(state, alerts=(*state.alerts[:index], same, *state.alerts[index + 1 :]))
    found = Alert(key, severity, text, state.at if at is None else at, hint, node, run_id, rank, deed)
    return replace(state, alerts=(*_with_room(state.alerts), found))


def _with_room(alerts: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """One less where there are too many: the oldest that is over. What is still so is not forgotten, or counts would lie."""
    if len(alerts) < EVENTS:
        return alerts
    over = next((place for place, alert in enumerate(alerts) if alert.ended_at is not None), None)
    if over is None:
        return alerts[1:] if len(alerts) >= MOST_OPEN else alerts
    return (*alerts[:over], *alerts[over + 1 :])


def clear(state: State, key: str, deed: str = "") -> State:
    """End the trouble of this cause, if there is any; ``deed`` is the last word on what was done."""
    if not any(alert.key == key and alert.ended_at is None for alert in state.alerts):
        return state
    return replace(state, alerts=tuple(_ended(alert, state.at, deed) if alert.key == key else alert for alert in state.alerts))


def clear_prefix(state: State, prefix: str) -> State:
    """End the trouble of all causes whose keys begin so."""
    for alert in state.alerts:
        if alert.ended_at is None and alert.key.startswith(prefix):
            state = clear(state, alert.key)
    return state


def clear_all(state: State, run_id: str) -> State:
    """End what is bound to a run that is over, but keep what made it fail."""
    if not any(alert.run_id == run_id and alert.severity == "warning" and alert.ended_at is None for alert in state.alerts):
        return state
    return replace(
        state,
        alerts=tuple(
            _ended(alert, state.at) if alert.run_id == run_id and alert.severity == "warning" else alert for alert in state.alerts
        ),
    )


def _ended(alert: Alert, at: float, deed: str = "") -> Alert:
    return alert if alert.ended_at is not None else replace(alert, ended_at=at, deed=deed or alert.deed)


def silence(state: State, node: NodeState) -> State:
    """Raise that a node says nothing, from its last word on. The same cause as its loss, which may follow."""
    hint = "runs on it go on; is the machine overloaded, or its network cut?"
    return raise_alert(state, f"node {node.name}", "warning", "no word from its agent", hint, node.name, at=node.at)


def device_alerts(state: State, event: NodeReported) -> State:
    """Raise or end what the readings of one node say: unreadable devices and clocks held down by heat or power."""
    is_open = {alert.key for alert in state.alerts if alert.ended_at is None and alert.node == event.node}
    for reading in event.devices:
        # Nearly every reading of hundreds of nodes is of a device that is well and was: this line is all it costs.
        if not (reading.error or reading.throttle or is_open):
            continue
        where = f"{event.node} {reading.index}"
        if reading.error:
            text = f"device {reading.index} {reading.name}: {reading.error}"
            state = raise_alert(state, f"device {where}", "critical", text, node=event.node)
        elif f"device {where}" in is_open:
            state = clear(state, f"device {where}")
        if reading.throttle:
            text = f"device {reading.index} {reading.name} clocks down: {', '.join(reading.throttle)}"
            state = raise_alert(state, f"throttle {where}", "warning", text, "check its cooling and power limit", event.node)
        elif f"throttle {where}" in is_open:
            state = clear(state, f"throttle {where}")
    return state
