"""The recent utilization of each device as a filled curve, one card per device, below a short list. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.store.state import DeviceState, NodeState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import pad, percent, sanitize
from ...theme import PALETTE
from ..drawing.lines import NO_STYLE, Piece, line
from .order import device_at_key

MIN_CURVE_LINES, MAX_CURVE_LINES = 3, 20
"""Bounds of the height of a curve, in lines."""
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def history_cards(view: View, keys: Sequence[str], width: int, height: int) -> list[Strip]:
    """As many cards as fit, in the order of the list above, and the number of devices without a card."""
    places = (device_at_key(view.state, key) for key in keys)
    devices = [(node, device) for node, device in places if node is not None and device is not None]
    columns = 1 if width < 70 or len(devices) == 1 else 2
    card_rows = -(-len(devices) // columns)
    rows = min(MAX_CURVE_LINES, height // max(1, card_rows) - 2)
    if rows < MIN_CURVE_LINES:
        rows = MIN_CURVE_LINES
        card_rows = max(0, (height - 1) // (rows + 2))
    lines: list[Strip] = []
    card_width = (width - 3 * (columns - 1)) // columns
    for row in range(card_rows):
        cards = [_card(node, device, card_width, rows) for node, device in devices[row * columns : (row + 1) * columns]]
        for pieces in zip(*cards, strict=True):
            joined = [piece for card in pieces for piece in (*card, ("   ", NO_STYLE))]
            lines.append(line(width, *joined))
        lines.append(line(width))
    hidden = len(devices) - card_rows * columns
    if hidden > 0:
        lines.append(line(width, (f"+{hidden} devices without a curve here", PALETTE.dim)))
    return lines


def _card(node: NodeState, device: DeviceState, width: int, rows: int) -> list[list[Piece]]:
    """A heading, then the curve: one column per report, newest at the right."""
    reading = device.reading
    label = " emulated" if reading.kind == "emulated" else ""
    value = percent(reading.utilization) if node.state == "ok" else node.state
    index = f" {reading.index}" if len(node.devices) > 1 else ""
    name = pad(f"{sanitize(node.name)}{index} {sanitize(reading.name)}", width - len(label) - len(value) - 2)
    value_style = PALETTE.text if node.state == "ok" else PALETTE.state_style(node.state)
    heading: list[Piece] = [(name, PALETTE.dim), (label, PALETTE.dim), (f"  {value}", value_style)]
    return [heading, *_area(device.utilization, width, rows, is_fresh=node.state == "ok")]


def _area(values: Sequence[float | None], width: int, rows: int, is_fresh: bool) -> list[list[Piece]]:
    shown = [None] * max(0, width - len(values)) + list(values[-width:])
    eighths = [None if value is None else max(1, round(min(1.0, max(0.0, value)) * rows * 8)) for value in shown]
    lines: list[list[Piece]] = []
    for row in range(rows - 1, -1, -1):
        cells = "".join(" " if height is None else _EIGHTHS[min(8, max(0, height - row * 8))] for height in eighths)
        style = PALETTE.ramp[row * len(PALETTE.ramp) // rows] if is_fresh else PALETTE.faint
        lines.append([(cells, style)])
    return lines
