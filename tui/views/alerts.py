"""The alerts as lines: open ones first, then acknowledged ones, then those that are over; details of one alert. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from paceline.engine.store.selectors import open_alerts, wall_clock
from paceline.engine.store.state import Alert, State
from rich.style import Style
from textual.strip import Strip

from ..filter import FilterFields
from ..messages import View
from ..terminal.format import age, clock, pad, pad_left, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NO_STYLE, Piece, justified_line, line
from .drawing.sorting import Order, sortable_heading, sorted_keys

ALERT_ORDERS = ("severity", "time", "node")
"""Sort keys of the list."""
WORST_ALERTS_FIRST = Order(ALERT_ORDERS[0])
STATE_COLUMNS = 13
"""Width of the state column."""


def alert_key(alert: Alert) -> str:
    """Identifies an alert within the session: cause, start and severity. An alert that grew worse is a new one."""
    return f"{' '.join(alert.key)} {alert.at!r} {alert.severity}"


def unacknowledged_alerts(view: View) -> tuple[Alert, ...]:
    """Open alerts that were not acknowledged, worst first."""
    return tuple(alert for alert in open_alerts(view.state) if alert_key(alert) not in view.acknowledged)


def ordered_alerts(view: View, order: Order = WORST_ALERTS_FIRST) -> dict[str, Alert]:
    """Alerts by key, in an order. By severity: open ones, worst first; then acknowledged ones; then those that are over, newest
    first. By time: newest first. By node: by name, and within a node by severity."""
    unacknowledged = unacknowledged_alerts(view)
    acknowledged = [alert for alert in open_alerts(view.state) if alert_key(alert) in view.acknowledged]
    ended = sorted((alert for alert in view.state.alerts if alert.ended_at is not None), key=lambda alert: -alert.at)
    by_key = {alert_key(alert): alert for alert in (*unacknowledged, *acknowledged, *ended)}
    if order.by == "severity":
        return dict(reversed(by_key.items())) if order.is_reversed else by_key
    values = {"time": lambda key: -by_key[key].at, "node": lambda key: by_key[key].node or None}
    return {key: by_key[key] for key in sorted_keys(list(by_key), values[order.by], order.is_reversed)}


def alert_fields(state: State, alert: Alert, is_acknowledged: bool) -> FilterFields:
    """The values of an alert that a filter compares; words match all of its texts."""
    numbers = {"age": max(0.0, state.at - alert.at)} | ({"rank": float(alert.rank)} if alert.rank is not None else {})
    kind, word = alert.key[0], _displayed_state(alert, is_acknowledged)[1]
    text = f"{alert.text} {alert.action_taken} {alert.hint}"
    texts = {"node": alert.node, "job": alert.run_id, "state": word, "kind": kind, "text": text}
    flags = {"fault": word in ("warning", "critical"), "straggler": kind == "straggler"}
    return FilterFields(numbers, {}, texts, frozenset(name for name, holds in flags.items() if holds))


def alert_heading(width: int, order: Order) -> Strip:
    """Column headings; a click on one sorts by it."""
    columns = (
        sortable_heading(f"  {pad('state', STATE_COLUMNS)}", "severity", order),
        sortable_heading(pad("since", 9), "time", order),
        (pad_left("lasts", 7) + "  ", PALETTE.dim),
        sortable_heading(pad("node", 10), "node", order),
    )
    return line(width, *columns, ("alert", PALETTE.dim))


def alert_row(state: State, alert: Alert, is_acknowledged: bool, width: int, is_under_cursor: bool) -> Strip:
    """One alert."""
    glyph, word, style = _displayed_state(alert, is_acknowledged)
    text_style = PALETTE.dim if is_acknowledged or alert.ended_at is not None else PALETTE.text
    until = alert.ended_at if alert.ended_at is not None else state.at
    room = max(1, width - STATE_COLUMNS - 30)
    return line(
        width,
        (f"{glyph} ", style),
        (pad(word, STATE_COLUMNS), style),
        (pad(clock(wall_clock(state, alert.at)), 9), PALETTE.dim),
        (pad_left(age(until - alert.at), 7) + "  ", PALETTE.dim),
        (pad(sanitize(alert.node), 9) + " ", text_style),
        (pad(sanitize(alert.text), room), text_style),
        background=PALETTE.cursor if is_under_cursor else NO_STYLE,
    )


def _displayed_state(alert: Alert, is_acknowledged: bool) -> tuple[str, str, Style]:
    if alert.ended_at is not None:
        return GLYPHS["done"], "resolved", PALETTE.dim
    if is_acknowledged:
        return GLYPHS[alert.severity], "acknowledged", PALETTE.dim
    return GLYPHS[alert.severity], alert.severity, PALETTE.state_style(alert.severity)


ALERT_COLUMNS = ("state", "kind", "severity", "began", "ended", "node", "run_id", "rank", "text", "action_taken", "hint")


def alert_table(view: View, alerts: Iterable[Alert]) -> list[Sequence[object]]:
    """Alerts as data: a heading, then one row each; None: unknown, or not ended. Times are seconds since 1970."""
    rows: list[Sequence[object]] = [ALERT_COLUMNS]
    for one in alerts:
        word = _displayed_state(one, alert_key(one) in view.acknowledged)[1]
        ended = None if one.ended_at is None else wall_clock(view.state, one.ended_at)
        start: list[object] = [word, one.key[0], one.severity, wall_clock(view.state, one.at), ended, one.node, one.run_id]
        rows.append([*start, one.rank, one.text, one.action_taken, one.hint])
    return rows


def alert_summary(view: View, width: int, order: Order) -> list[Strip]:
    """The line above the list: counts, and the order at the right."""
    state = view.state
    if not state.alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing has gone wrong in this session", PALETTE.dim))]
    now = open_alerts(state)
    acknowledged = len(now) - len(unacknowledged_alerts(view))
    text = f"{len(now)} active" if now else "no active alert"
    acknowledged_text = f"   {acknowledged} acknowledged" if acknowledged else ""
    resolved = len(state.alerts) - len(now)
    return [
        justified_line(
            width, [(text, PALETTE.text), (acknowledged_text, PALETTE.dim), (f"   {resolved} resolved", PALETTE.dim)], [order.label]
        )
    ]


def alert_detail(state: State, alert: Alert | None, is_acknowledged: bool, width: int, height: int) -> list[Strip]:
    """Details of one alert: evidence, the action taken, and what to do next."""
    if alert is None:
        return []
    glyph, word, style = _displayed_state(alert, is_acknowledged)
    where = [sanitize(alert.node)] if alert.node else []
    where += [f"rank {alert.rank}"] if alert.rank is not None else []
    where += [sanitize(alert.run_id)] if alert.run_id and width >= 100 else []
    until = alert.ended_at if alert.ended_at is not None else state.at
    since = f"since {clock(wall_clock(state, alert.at))}, duration {age(until - alert.at)}"
    lines = [line(width, (f"{glyph} {word}", style), (f"  {' · '.join((*where, since))}", PALETTE.dim))]
    lines += _wrapped("what", alert.text, width, PALETTE.strong)
    lines += _wrapped("done", alert.action_taken, width, PALETTE.text)
    lines += _wrapped("next", alert.hint, width, PALETTE.text)
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], line(width, (f"+{len(lines) - height + 1} lines hidden", PALETTE.dim))]
    return lines


def _wrapped(name: str, text: str, width: int, style: Style) -> list[Strip]:
    if not text:
        return []
    rows = textwrap.wrap(sanitize(text), max(20, width - 8)) or [""]
    starts = [name, *[""] * (len(rows) - 1)]
    pieces: list[list[Piece]] = [[(pad(start, 6), PALETTE.dim), (row, style)] for start, row in zip(starts, rows, strict=True)]
    return [line(width, *row) for row in pieces]
