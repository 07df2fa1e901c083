"""The heat map of a large fleet: every device of every node at once, over time where there is room for it. Pure.

A cell says its value twice, by height and by lightness, so that it reads without colour too; what is not well is its sign instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from paceline.engine.store.state import DeviceState, NodeState, State
from textual.strip import Strip

from ...terminal.format import count, pad, pad_left, percent, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NONE, Piece, line
from .device_facts import Scene, trouble
from .order import key_of

SHORTEST = 24
"""Columns of time below which a row of it says too little."""
NAME = 10
"""Columns that the name of a node gets at most."""
GAP = 2
_LEVELS = "▁▂▃▄▅▆▇"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the map is drawn in the room there is."""

    form: str
    """``time``: a row a device, the newest at the right; ``now``: a cell a device; ``nodes``: a cell a node."""
    across: int
    """Panels of time, or nodes beside each other."""
    lines: int
    """Taken of the room, the legend among them."""
    label: int
    """Columns of a name."""


def layout(state: State, width: int, room: int) -> Layout:
    """The form that shows most and still fits; ``nodes`` where none does."""
    nodes = list(state.nodes.values())
    devices = sum(max(1, len(node.devices)) for node in nodes)
    most = max((len(node.devices) for node in nodes), default=1)
    label = max((min(NAME, len(untrusted(node.name))) for node in nodes), default=1)
    across = -(-devices // max(1, room - 1))
    if (width + GAP) // max(1, across) - GAP >= label + 4 + SHORTEST + 6:
        return Layout("time", across, -(-devices // across) + 1 if devices else 1, label + 4)
    across = max(1, (width + GAP) // (label + 1 + max(1, most) + GAP))
    lines = -(-len(nodes) // across) + 1
    if lines <= room:
        return Layout("now", across, lines, label)
    across = max(1, (width - label - 1) // 10 * 10)
    return Layout("nodes", across, min(room, -(-len(nodes) // across) + 1), label)


def heat_lines(state: State, scene: Scene, width: int, height: int) -> list[Strip]:
    """A legend, then the map. What does not fit is counted in the legend."""
    plan = layout(state, width, height)
    nodes = list(state.nodes.values())
    rows = {"time": _over_time, "now": _now, "nodes": _by_node}[plan.form](nodes, scene, plan, width)
    hidden = max(0, len(nodes) - plan.across * (height - 1)) if plan.form == "nodes" else 0
    return [_legend(plan, hidden, width), *rows[: max(0, height - 1)]]


def device_at(state: State, width: int, height: int, x: int, y: int) -> str | None:
    """The key of the row that a cell of the map stands for; None: of none."""
    plan, nodes, row = layout(state, width, height), list(state.nodes.values()), y - 1
    if row < 0 or x < 0:
        return None
    if plan.form == "time":
        places = [(node, place) for node in nodes for place in (range(len(node.devices)) if node.devices else (-1,))]
        number = x // ((width + GAP) // plan.across) * (plan.lines - 1) + row
        return key_of(places[number][0].name, places[number][1]) if row < plan.lines - 1 and number < len(places) else None
    if plan.form == "nodes":
        column, place = x - plan.label - 1, 0
    else:
        column, place = divmod(x, plan.label + 1 + max(1, max((len(node.devices) for node in nodes), default=1)) + GAP)
        place = max(0, place - plan.label - 1)
    number = row * plan.across + column
    if not 0 <= column < plan.across or number >= len(nodes):
        return None
    devices = len(nodes[number].devices)
    return key_of(nodes[number].name, min(place, devices - 1))


def _legend(plan: Layout, hidden: int, width: int) -> Strip:
    what = {"time": "utilization, newest at the right", "now": "utilization now, a cell a device", "nodes": "a cell a node, mean"}
    scale = [(sign, PALETTE.heat[round(level * 20 / 6)]) for level, sign in enumerate(_LEVELS)]
    pieces: list[Piece] = [(f"{what[plan.form]}  0 ", PALETTE.dim), *scale, (" 100 %  ", PALETTE.dim)]
    for state, word in (("critical", "lost or failed"), ("stale", "stale"), ("warning", "slowed")):
        pieces += [(GLYPHS[state], PALETTE.of(state)), (f" {word}  ", PALETTE.dim)]
    if hidden:
        pieces.insert(0, (f"+{count(hidden, 'node')} hidden  ", PALETTE.warning))
    return line(width, *pieces)


def _cell(state: str, utilization: float | None) -> int | str:
    """A level of heat, or the state that stands in its place."""
    if state != "ok":
        return state
    return "unknown" if utilization is None else round(min(1.0, max(0.0, utilization)) * 20)


def _draw(cells: Sequence[int | str]) -> list[Piece]:
    """Cells as pieces; neighbours of one kind are one piece."""
    pieces: list[Piece] = []
    for cell, same in groupby(cells):
        amount = sum(1 for _ in same)
        if isinstance(cell, int):
            pieces.append((_LEVELS[cell * 6 // 20] * amount, PALETTE.heat[cell]))
        elif cell == "gap":
            pieces.append((" " * amount, NONE))
        else:
            pieces.append((GLYPHS.get(cell, "·") * amount, PALETTE.of(cell) if cell in GLYPHS else PALETTE.faint))
    return pieces


def _now(nodes: Sequence[NodeState], scene: Scene, plan: Layout, width: int) -> list[Strip]:
    most = max((len(node.devices) for node in nodes), default=1)
    strips = []
    for start in range(0, len(nodes), plan.across):
        pieces: list[Piece] = []
        for node in nodes[start : start + plan.across]:
            cells = [_cell(trouble(node, device.reading, scene), device.reading.utilization) for device in node.devices]
            word = PALETTE.dim if node.state == "ok" else PALETTE.of(node.state)
            pieces.append((pad(untrusted(node.name), plan.label) + " ", word))
            pieces += _draw([*(cells or [node.state if node.state != "ok" else "unknown"])])
            pieces.append((" " * (most - max(1, len(cells)) + GAP), NONE))
        strips.append(line(width, *pieces))
    return strips


def _by_node(nodes: Sequence[NodeState], scene: Scene, plan: Layout, width: int) -> list[Strip]:
    strips = []
    for start in range(0, len(nodes), plan.across):
        some = nodes[start : start + plan.across]
        pieces: list[Piece] = [(pad(untrusted(some[0].name), plan.label) + " ", PALETTE.dim)]
        strips.append(line(width, *pieces, *_draw([_mean(node, scene) for node in some])))
    return strips


def _mean(node: NodeState, scene: Scene) -> int | str:
    states = {trouble(node, device.reading, scene) for device in node.devices} or {node.state}
    worst = next((state for state in ("refused", "lost", "critical", "stale", "warning", "connecting") if state in states), "ok")
    known = [device.reading.utilization for device in node.devices if device.reading.utilization is not None]
    return _cell(worst, fmean(known) if known else None)


def _over_time(nodes: Sequence[NodeState], scene: Scene, plan: Layout, width: int) -> list[Strip]:
    """Panels side by side, read down and then to the right."""
    devices = [(node, device) for node in nodes for device in (node.devices or (None,))]
    deep = plan.lines - 1
    panel = (width + GAP) // plan.across - GAP
    strips = []
    for row in range(deep):
        pieces: list[Piece] = []
        for place in range(row, len(devices), deep):
            node, device = devices[place]
            is_first = not place or devices[place - 1][0] is not node or place % deep == 0
            pieces += _row(node, device, scene, plan.label, panel, is_first)
            pieces.append((" " * GAP, NONE))
        strips.append(line(width, *pieces))
    return strips


def _row(node: NodeState, device: DeviceState | None, scene: Scene, label: int, width: int, is_first: bool) -> list[Piece]:
    state = trouble(node, device.reading, scene) if device is not None else node.state
    index = str(device.reading.index) if device is not None and len(node.devices) > 1 else ""
    name = pad(untrusted(node.name) if is_first else "", label - 4)
    past = width - label - 8
    values = device.utilization[-past:] if device is not None else ()
    cells = [*["gap"] * (past - len(values)), *("gap" if value is None else _cell("ok", value) for value in values)]
    is_fresh = node.state == "ok"
    utilization = device.reading.utilization if device is not None and not device.reading.error else None
    return [
        (GLYPHS[state] + " ", PALETTE.of(state)),
        (name, PALETTE.text if is_fresh else PALETTE.dim),
        (pad_left(index, 3) + " ", PALETTE.dim),
        *_draw(cells),
        (pad_left(percent(utilization), 6), PALETTE.text if is_fresh else PALETTE.dim),
    ]
