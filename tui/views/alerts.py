"""Trouble, one line a cause: open ones first, those a person has seen below, what is over last. One of them in full. Pure."""

from __future__ import annotations

import textwrap

from paceline.engine.store.selectors import open_alerts, wall_clock
from paceline.engine.store.state import Alert, State
from rich.style import Style
from textual.strip import Strip

from ..filter import Subject
from ..messages import View
from ..terminal.format import age, clock, count, pad, pad_left, untrusted
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NONE, Piece, line, spread
from .drawing.sorting import Order, arranged, heading

ALERT_ORDERS = ("severity", "time", "node")
"""What the list can be sorted by."""
WORST_FIRST = Order(ALERT_ORDERS[0])
WORD = 9
"""Columns of the word for a state."""


def alert_key(alert: Alert) -> str:
    """Names one trouble for as long as the session lasts: its cause, when it began, and how bad: what grew worse is news."""
    return f"{alert.key} {alert.at!r} {alert.severity}"


def unseen(view: View) -> tuple[Alert, ...]:
    """Open trouble that nobody has looked at, worst first."""
    return tuple(alert for alert in open_alerts(view.state) if alert_key(alert) not in view.seen)


def alert_order(view: View, order: Order = WORST_FIRST) -> dict[str, Alert]:
    """Open trouble first, worst first; then what a person has seen; then what is over, newest first. By time: the newest first;
    by node: of each as before."""
    fresh = unseen(view)
    known = [alert for alert in open_alerts(view.state) if alert_key(alert) in view.seen]
    over = sorted((alert for alert in view.state.alerts if alert.ended_at is not None), key=lambda alert: -alert.at)
    found = {alert_key(alert): alert for alert in (*fresh, *known, *over)}
    if order.by == "severity":
        return dict(reversed(found.items())) if order.is_reversed else found
    values = {"time": lambda key: -found[key].at, "node": lambda key: found[key].node or None}
    return {key: found[key] for key in arranged(list(found), values[order.by], order.is_reversed)}


def alert_subject(state: State, alert: Alert, is_seen: bool) -> Subject:
    """What a filter can ask about one trouble; words are looked for in all that is told of it."""
    numbers = {"age": max(0.0, state.at - alert.at)} | ({"rank": float(alert.rank)} if alert.rank is not None else {})
    kind, word = alert.key.partition(" ")[0], _state(alert, is_seen)[1]
    told = f"{alert.text} {alert.deed} {alert.hint}"
    texts = {"node": alert.node, "job": alert.run_id, "state": word, "kind": kind, "text": told}
    flags = {"fault": word in ("warning", "critical"), "straggler": kind == "straggler"}
    return Subject(numbers, {}, texts, frozenset(name for name, holds in flags.items() if holds))


def alert_heading(width: int, order: Order) -> Strip:
    """Names of the columns; a click on one sorts by it."""
    columns = (
        heading(f"  {pad('state', WORD)}", "severity", order),
        heading(pad("since", 9), "time", order),
        (pad_left("for", 7) + "  ", PALETTE.dim),
        heading(pad("node", 10), "node", order),
    )
    return line(width, *columns, ("trouble", PALETTE.dim))


def alert_row(state: State, alert: Alert, is_seen: bool, width: int, is_under_cursor: bool) -> Strip:
    """One cause."""
    glyph, word, style = _state(alert, is_seen)
    text_style = PALETTE.dim if is_seen or alert.ended_at is not None else PALETTE.text
    until = alert.ended_at if alert.ended_at is not None else state.at
    room = max(1, width - WORD - 30)
    return line(
        width,
        (f"{glyph} ", style),
        (pad(word, WORD), style),
        (pad(clock(wall_clock(state, alert.at)), 9), PALETTE.dim),
        (pad_left(age(until - alert.at), 7) + "  ", PALETTE.dim),
        (pad(untrusted(alert.node), 9) + " ", text_style),
        (pad(untrusted(alert.text), room), text_style),
        background=PALETTE.cursor if is_under_cursor else NONE,
    )


def _state(alert: Alert, is_seen: bool) -> tuple[str, str, Style]:
    if alert.ended_at is not None:
        return GLYPHS["done"], "over", PALETTE.dim
    if is_seen:
        return GLYPHS[alert.severity], "seen", PALETTE.dim
    return GLYPHS[alert.severity], alert.severity, PALETTE.of(alert.severity)


def alert_summary(view: View, width: int, order: Order) -> list[Strip]:
    """One line over the list, its order at the right."""
    state = view.state
    if not state.alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing has gone wrong in this session", PALETTE.dim))]
    now = open_alerts(state)
    known = len(now) - len(unseen(view))
    text = f"{count(len(now), 'trouble')} now" if now else "nothing is wrong now"
    said = f"   {known} of them seen" if known else ""
    over = len(state.alerts) - len(now)
    return [spread(width, [(text, PALETTE.text), (said, PALETTE.dim), (f"   {over} over", PALETTE.dim)], [order.told])]


def alert_in_full(state: State, alert: Alert | None, is_seen: bool, width: int, height: int) -> list[Strip]:
    """Everything that is known of one trouble: evidence, what was done about it, what a person can do."""
    if alert is None:
        return []
    glyph, word, style = _state(alert, is_seen)
    where = [untrusted(alert.node)] if alert.node else []
    where += [f"rank {alert.rank}"] if alert.rank is not None else []
    where += [untrusted(alert.run_id)] if alert.run_id and width >= 100 else []
    until = alert.ended_at if alert.ended_at is not None else state.at
    lasted = "lasted" if alert.ended_at is not None else "for"
    since = f"since {clock(wall_clock(state, alert.at))}, {lasted} {age(until - alert.at)}"
    lines = [line(width, (f"{glyph} {word}", style), (f"  {' · '.join((*where, since))}", PALETTE.dim))]
    lines += _wrapped("what", alert.text, width, PALETTE.strong)
    lines += _wrapped("done", alert.deed, width, PALETTE.text)
    lines += _wrapped("next", alert.hint, width, PALETTE.text)
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], line(width, (f"+{len(lines) - height + 1} lines hidden", PALETTE.dim))]
    return lines


def _wrapped(name: str, text: str, width: int, style: Style) -> list[Strip]:
    if not text:
        return []
    rows = textwrap.wrap(untrusted(text), max(20, width - 8)) or [""]
    starts = [name, *[""] * (len(rows) - 1)]
    pieces: list[list[Piece]] = [[(pad(start, 6), PALETTE.dim), (row, style)] for start, row in zip(starts, rows, strict=True)]
    return [line(width, *row) for row in pieces]
