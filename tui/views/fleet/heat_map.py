"""The heat map of a large fleet: every device of every node, over time where there is room. Pure.

A cell shows its value twice, by height and by lightness, so that it reads without colour; a device that is not ok shows its glyph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from paceline.engine.states import DeviceStatus
from paceline.engine.store.state import DeviceState, NodeState, State
from textual.strip import Strip

from ...terminal.format import count, pad, pad_left, percent, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NO_STYLE, Piece, line
from .device_facts import DeviceUse, device_state
from .order import row_key

MIN_HISTORY_COLUMNS = 24
"""Least width of a row of history."""
MAX_NAME_COLUMNS = 10
"""Largest width of a node's name."""
PANEL_GAP_COLUMNS = 2
_LEVELS = "▁▂▃▄▅▆▇"


@dataclass(frozen=True, slots=True)
class HeatMapLayout:
    """Form and dimensions of the map in the available room."""

    form: str
    """``time``: a row per device, the newest at the right; ``now``: a cell per device; ``nodes``: a cell per node."""
    across: int
    """Number of panels of history, or of nodes, side by side."""
    lines: int
    """Height, legend included."""
    label: int
    """Width of a name."""


def heat_map_layout(state: State, width: int, room: int) -> HeatMapLayout:
    """The most detailed form that fits into ``room`` lines; ``nodes`` where none fits."""
    nodes = list(state.nodes.values())
    devices = sum(max(1, len(node.devices)) for node in nodes)
    most = max((len(node.devices) for node in nodes), default=1)
    label = max((min(MAX_NAME_COLUMNS, len(sanitize(node.name))) for node in nodes), default=1)
    across = -(-devices // max(1, room - 1))
    if (width + PANEL_GAP_COLUMNS) // max(1, across) - PANEL_GAP_COLUMNS >= label + 4 + MIN_HISTORY_COLUMNS + 6:
        return HeatMapLayout("time", across, -(-devices // across) + 1 if devices else 1, label + 4)
    across = max(1, (width + PANEL_GAP_COLUMNS) // (label + 1 + max(1, most) + PANEL_GAP_COLUMNS))
    lines = -(-len(nodes) // across) + 1
    if lines <= room:
        return HeatMapLayout("now", across, lines, label)
    across = max(1, (width - label - 1) // 10 * 10)
    return HeatMapLayout("nodes", across, min(room, -(-len(nodes) // across) + 1), label)


def heat_lines(state: State, use: DeviceUse, width: int, height: int) -> list[Strip]:
    """A legend, then the map. The legend counts nodes that do not fit."""
    map_layout = heat_map_layout(state, width, height)
    nodes = list(state.nodes.values())
    rows = {"time": _over_time, "now": _now, "nodes": _by_node}[map_layout.form](nodes, use, map_layout, width)
    hidden = max(0, len(nodes) - map_layout.across * (height - 1)) if map_layout.form == "nodes" else 0
    return [_legend(map_layout, hidden, width), *rows[: max(0, height - 1)]]


def device_at(state: State, width: int, height: int, x: int, y: int) -> str | None:
    """The row key of the device at a cell of the map; None: no device."""
    map_layout, nodes, row = heat_map_layout(state, width, height), list(state.nodes.values()), y - 1
    if row < 0 or x < 0:
        return None
    if map_layout.form == "time":
        cells = [(node, device_index) for node in nodes for device_index in (range(len(node.devices)) if node.devices else (-1,))]
        number = x // ((width + PANEL_GAP_COLUMNS) // map_layout.across) * (map_layout.lines - 1) + row
        return row_key(cells[number][0].name, cells[number][1]) if row < map_layout.lines - 1 and number < len(cells) else None
    if map_layout.form == "nodes":
        column, device_index = x - map_layout.label - 1, 0
    else:
        column, device_index = divmod(
            x, map_layout.label + 1 + max(1, max((len(node.devices) for node in nodes), default=1)) + PANEL_GAP_COLUMNS
        )
        device_index = max(0, device_index - map_layout.label - 1)
    number = row * map_layout.across + column
    if not 0 <= column < map_layout.across or number >= len(nodes):
        return None
    devices = len(nodes[number].devices)
    return row_key(nodes[number].name, min(device_index, devices - 1))


def _legend(map_layout: HeatMapLayout, hidden: int, width: int) -> Strip:
    form_text = {
        "time": "utilization, newest at the right",
        "now": "utilization now, a cell a device",
        "nodes": "a cell a node, mean",
    }
    scale = [(sign, PALETTE.heat[round(level * 20 / 6)]) for level, sign in enumerate(_LEVELS)]
    pieces: list[Piece] = [(f"{form_text[map_layout.form]}  0 ", PALETTE.dim), *scale, (" 100 %  ", PALETTE.dim)]
    for state, word in (("critical", "lost or failed"), ("stale", "stale"), ("warning", "slowed")):
        pieces += [(GLYPHS[state], PALETTE.state_style(state)), (f" {word}  ", PALETTE.dim)]
    if hidden:
        pieces.insert(0, (f"+{count(hidden, 'node')} hidden  ", PALETTE.warning))
    return line(width, *pieces)


def _cell(state: DeviceStatus, utilization: float | None) -> int | str:
    """The level of a cell from 0 to 20, or the state that is shown instead."""
    if state != "ok":
        return state
    return "unknown" if utilization is None else round(min(1.0, max(0.0, utilization)) * 20)


def _cell_pieces(cells: Sequence[int | str]) -> list[Piece]:
    """Cells as pieces; equal neighbours are merged."""
    pieces: list[Piece] = []
    for cell, same in groupby(cells):
        amount = sum(1 for _ in same)
        if isinstance(cell, int):
            pieces.append((_LEVELS[cell * 6 // 20] * amount, PALETTE.heat[cell]))
        elif cell == "gap":
            pieces.append((" " * amount, NO_STYLE))
        else:
            pieces.append((GLYPHS.get(cell, "·") * amount, PALETTE.state_style(cell) if cell in GLYPHS else PALETTE.faint))
    return pieces


def _now(nodes: Sequence[NodeState], use: DeviceUse, map_layout: HeatMapLayout, width: int) -> list[Strip]:
    max_devices = max((len(node.devices) for node in nodes), default=1)
    strips = []
    for start in range(0, len(nodes), map_layout.across):
        pieces: list[Piece] = []
        for node in nodes[start : start + map_layout.across]:
            cells = [_cell(device_state(node, device.reading, use), device.reading.utilization) for device in node.devices]
            name_style = PALETTE.dim if node.state == "ok" else PALETTE.state_style(node.state)
            pieces.append((pad(sanitize(node.name), map_layout.label) + " ", name_style))
            pieces += _cell_pieces([*(cells or [node.state if node.state != "ok" else "unknown"])])
            pieces.append((" " * (max_devices - max(1, len(cells)) + PANEL_GAP_COLUMNS), NO_STYLE))
        strips.append(line(width, *pieces))
    return strips


def _by_node(nodes: Sequence[NodeState], use: DeviceUse, map_layout: HeatMapLayout, width: int) -> list[Strip]:
    strips = []
    for start in range(0, len(nodes), map_layout.across):
        row_nodes = nodes[start : start + map_layout.across]
        pieces: list[Piece] = [(pad(sanitize(row_nodes[0].name), map_layout.label) + " ", PALETTE.dim)]
        strips.append(line(width, *pieces, *_cell_pieces([_mean_cell(node, use) for node in row_nodes])))
    return strips


def _mean_cell(node: NodeState, use: DeviceUse) -> int | str:
    states: set[DeviceStatus] = {device_state(node, device.reading, use) for device in node.devices} or {node.state}
    order: tuple[DeviceStatus, ...] = ("refused", "lost", "critical", "stale", "warning", "connecting")
    worst: DeviceStatus = next((state for state in order if state in states), "ok")
    known = [device.reading.utilization for device in node.devices if device.reading.utilization is not None]
    return _cell(worst, fmean(known) if known else None)


def _over_time(nodes: Sequence[NodeState], use: DeviceUse, map_layout: HeatMapLayout, width: int) -> list[Strip]:
    """Panels side by side, filled from top to bottom and then to the right."""
    devices = [(node, device) for node in nodes for device in (node.devices or (None,))]
    deep = map_layout.lines - 1
    panel = (width + PANEL_GAP_COLUMNS) // map_layout.across - PANEL_GAP_COLUMNS
    strips = []
    for row in range(deep):
        pieces: list[Piece] = []
        for index in range(row, len(devices), deep):
            node, device = devices[index]
            is_first = not index or devices[index - 1][0] is not node or index % deep == 0
            pieces += _row(node, device, use, map_layout.label, panel, is_first)
            pieces.append((" " * PANEL_GAP_COLUMNS, NO_STYLE))
        strips.append(line(width, *pieces))
    return strips


def _row(node: NodeState, device: DeviceState | None, use: DeviceUse, label: int, width: int, is_first: bool) -> list[Piece]:
    state = device_state(node, device.reading, use) if device is not None else node.state
    index = str(device.reading.index) if device is not None and len(node.devices) > 1 else ""
    name = pad(sanitize(node.name) if is_first else "", label - 4)
    history_columns = width - label - 8
    values = device.utilization[-history_columns:] if device is not None else ()
    cells = [*["gap"] * (history_columns - len(values)), *("gap" if value is None else _cell("ok", value) for value in values)]
    is_fresh = node.state == "ok"
    utilization = device.reading.utilization if device is not None and not device.reading.error else None
    return [
        (GLYPHS[state] + " ", PALETTE.state_style(state)),
        (name, PALETTE.text if is_fresh else PALETTE.dim),
        (pad_left(index, 3) + " ", PALETTE.dim),
        *_cell_pieces(cells),
        (pad_left(percent(utilization), 6), PALETTE.text if is_fresh else PALETTE.dim),
    ]
