"""The rows of the fleet: one line a device, with everything that is known of it and who uses it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.events import DeviceReading
from paceline.engine.store.state import DeviceState, NodeState, State
from rich.cells import cell_len as cells
from rich.style import Style
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, age, count, memory, number, pad, pad_left, percent, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NONE, Piece, bar, does, history, joined, line, spread
from .device_facts import Scene, fall, is_free, trouble, workers
from .order import FleetQuery, Listing, device_of_key

WIDE = 120
"""Columns from which a row has room for bars, power and clocks."""


SORTS = {"node": "node", "util": "utilization", "memory": "memory", "W": "power", "°C": "temperature"}
"""Columns by which the list can be sorted, and by what that is."""


def fleet_heading(width: int, wish: FleetQuery | None = None, is_alone: bool = False) -> Strip:
    """Names of the columns; the one that sorts is marked, and a click on another sorts by it.

    ``is_alone``: all are of one node, which is told elsewhere, and nothing is sorted.
    """
    if width < WIDE:
        columns = [
            pad("node", 8),
            pad("device", 11),
            pad_left("util", 5),
            pad("history", 8),
            pad_left("memory", 13),
            pad_left("°C", 3),
        ]
    else:
        columns = [
            pad("node", 10),
            pad("device", 22),
            pad_left("util", 5),
            pad("", 11),
            pad("history", _history(width)),
            pad("", 9),
        ]
        columns += [pad_left("memory", 13), pad_left("W", 8), pad_left("°C", 4), pad_left("MHz", 6) + " "]
    pieces: list[Piece] = [("  ", PALETTE.dim)]
    for column in columns[1:] if is_alone else columns:
        pieces.append((column + " ", _heading(column.strip(), wish)))
    return line(width, *pieces, (" who", PALETTE.dim if wish is None else PALETTE.dim + does("screen.sort('trouble')")))


def _heading(name: str, wish: FleetQuery | None) -> Style:
    if wish is None or name not in SORTS:
        return PALETTE.dim
    order = SORTS[name]
    return (PALETTE.text if wish.order == order else PALETTE.dim) + does(f"screen.sort('{order}')")


def _history(width: int) -> int:
    return max(8, min(60, (width - 123) // 2 + 8))


def fleet_row(
    view: View,
    scene: Scene,
    key: str,
    width: int,
    is_under_cursor: bool = False,
    is_named: bool = True,
    is_marked: bool = False,
    is_alone: bool = False,
) -> Strip:
    """One device. ``is_named``: it begins a group, so that the name of its node is told; ``is_alone``: no name has a column."""
    node, device = device_of_key(view.state, key)
    background = PALETTE.cursor if is_under_cursor else NONE
    if node is None:
        return Strip.blank(width, NONE)
    mark: Piece = ("▎" if is_marked else " ", PALETTE.accent)
    if device is None:
        text = node.reason or ("connecting" if node.state == "connecting" else "no device found")
        word = PALETTE.of(node.state)
        name: Piece = (pad(untrusted(node.name), 10 if width >= WIDE else 8) + " ", PALETTE.text)
        tries = f", try {node.attempt}" if node.state == "connecting" and node.attempt > 1 else ""
        about = (f"  {untrusted(text)}{tries}" if text != node.state else tries, PALETTE.dim)
        return line(width, (GLYPHS[node.state], word), mark, name, (node.state, word), about, background=background)
    state = trouble(node, device.reading, scene)
    start: list[Piece] = [(GLYPHS[state], PALETTE.of(state)), mark]
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    if not is_alone:
        start.append((pad(untrusted(node.name) if is_named else "", 10 if width >= WIDE else 8) + " ", style))
    pieces = _wide(node, device, style, _history(width)) if width >= WIDE else _narrow(node, device, style)
    room = width - sum(cells(text) for text, _ in (*start, *pieces))
    drawn = joined((*start, *pieces, *who(view.state, scene, node, device, room)))
    return line(width, *drawn, background=background)


def _narrow(node: NodeState, device: DeviceState, style: Style) -> list[Piece]:
    reading = device.reading
    star = "*" if reading.kind == "emulated" else ""
    index = f"{reading.index} " if len(node.devices) > 1 else ""
    return [
        (pad(pad(index + untrusted(reading.name), 11 - len(star)).rstrip() + star, 12), style),
        (pad_left(percent(_utilization(reading)), 5) + " ", style),
        (history(device.utilization, 8) + " ", PALETTE.bar if node.state == "ok" else PALETTE.dim),
        (pad_left(memory(reading.memory_used, reading.memory_total), 13) + " ", style),
        (pad_left(number(reading.temperature), 3), _hot(device, style)),
        ("▼ " if fall(device) is not None else "  ", PALETTE.warning),
    ]


def _wide(node: NodeState, device: DeviceState, style: Style, past: int) -> list[Piece]:
    reading, is_fresh = device.reading, node.state == "ok"
    used, total = reading.memory_used, reading.memory_total
    label = " emulated" if reading.kind == "emulated" else ""
    limit = f"/{reading.power_limit:.0f}" if reading.power_limit else ""
    util = _utilization(reading)
    fill = PALETTE.bar_past if is_fresh else PALETTE.faint
    return [
        (pad(f"{reading.index} {untrusted(reading.name)}", 22 - len(label)), style),
        (label + " ", PALETTE.dim),
        (pad_left(percent(util), 5) + "  ", style),
        (bar(util, 10) + " ", PALETTE.bar if is_fresh else PALETTE.dim),
        (history(device.utilization, past) + "  ", fill),
        (bar(used / total if used is not None and total else None, 8) + " ", fill),
        (pad_left(memory(used, total), 13) + " ", style),
        (pad_left(number(reading.power) + limit, 8) + " ", style),
        (pad_left(number(reading.temperature), 4) + " ", _hot(device, style)),
        (pad_left(number(reading.clock), 6), _hot(device, style)),
        ("▼  " if fall(device) is not None else "   ", PALETTE.warning),
    ]


def _utilization(reading: DeviceReading) -> float | None:
    return None if reading.error else reading.utilization


def _hot(device: DeviceState, style: Style) -> Style:
    return PALETTE.warning if device.reading.throttle else style


def who(state: State, scene: Scene, node: NodeState, device: DeviceState, room: int) -> list[Piece]:
    """Why a device is of interest: its trouble, then who uses it, as much as fits."""
    reading = device.reading
    pieces = [piece for piece in (_woe(state, scene, node, device), _owner(scene, node, reading)) if piece[0]]
    if len(pieces) == 2 and cells(pieces[0][0]) + cells(pieces[1][0]) + 2 > room:
        owner = pieces[1]
        left = room - cells(pieces[0][0]) - 2
        pieces = [pieces[0], (pad(owner[0], left), owner[1])] if left >= 6 else pieces[:1]
    if len(pieces) == 2:
        pieces.insert(1, ("  ", NONE))
    return pieces if len(pieces) > 1 else [(pad(text, room), style) for text, style in pieces]


def _woe(state: State, scene: Scene, node: NodeState, device: DeviceState) -> Piece:
    """What is wrong, in words; empty: nothing."""
    reading = device.reading
    if node.state in ("lost", "refused"):
        return ": ".join(filter(None, (node.state, untrusted(node.reason)))), PALETTE.of(node.state)
    if node.state == "stale" and node.at is not None:
        return f"no word for {age(state.at - node.at)}", PALETTE.warning
    if node.state == "connecting":
        return ("connecting" if node.attempt < 2 else f"connecting, try {node.attempt}"), PALETTE.dim
    if reading.error:
        return untrusted(reading.error), PALETTE.critical
    lost = fall(device)
    less = f"−{lost * 100:.0f} % clock" if lost is not None else ""
    if reading.throttle:
        return ": ".join(filter(None, (untrusted(", ".join(reading.throttle)), less))), PALETTE.warning
    if (node.name, reading.index) in scene.slowed:
        return " ".join(filter(None, ("straggler", less))), PALETTE.warning
    return less, PALETTE.warning


def _owner(scene: Scene, node: NodeState, reading: DeviceReading) -> Piece:
    """Our rank, else the run that holds it, else the users of its processes, else that it is free."""
    place = (node.name, reading.index)
    held = scene.holders.get(place)
    if held is not None:
        run, rank = held
        return f"{untrusted(run.run_id)[-6:]} rank {rank.rank}", PALETTE.accent if node.state == "ok" else PALETTE.dim
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    if reading.holder:
        return f"{untrusted(reading.holder)[-6:]} of {untrusted(reading.holder_user) or 'somebody'}", style
    running = workers(reading)
    if running:
        first = running[0]
        owners = dict.fromkeys(untrusted(process.user or f"pid {process.pid}", 40) for process in running)
        if len(running) == 1 and first.user and first.name:
            return f"{untrusted(first.name, 40)} of {untrusted(first.user, 40)}", style
        more = f" +{len(owners) - 3}" if len(owners) > 3 else ""
        return ", ".join(list(owners)[:3]) + more, style
    if node.state != "ok" or reading.error:
        return "", style
    return ("free" if is_free(reading, place, scene) else UNKNOWN), PALETTE.dim


def fleet_summary(view: View, listing: Listing, wish: FleetQuery, marked: int, density: str, width: int) -> list[Strip]:
    """One line over the list: what is wrong in all of it, and which part of it is listed how."""
    nodes = list(view.state.nodes.values())
    if not nodes:
        return [line(width, ("no nodes yet: name your machines in nodes.toml, or try  paceline demo", PALETTE.dim))]
    end = _listed(listing, wish, density)
    free = width - 2 - sum(cells(text) for text, _ in end)
    left: list[Piece] = []
    for text, style in _about(nodes, listing, wish, marked, is_short=width < WIDE):
        room = free - sum(cells(other) for other, _ in left)
        if cells(text) <= room:
            left.append((text, style))
    return [spread(width, left, end)] if left else [line(width, *end)]


def _listed(listing: Listing, wish: FleetQuery, density: str) -> list[Piece]:
    """``5 of 19 devices · by trouble · faults only``: never left out, and short enough for the smallest screen."""
    pieces: list[Piece] = []
    if listing.hidden:
        pieces.append((f"{listing.shown:,} of {count(listing.devices, 'device')}", PALETTE.text))
        pieces.append((" · ", PALETTE.faint))
    pieces.append((f"by {wish.order}{', reversed' if wish.is_reversed else ''}", PALETTE.dim))
    if wish.is_faults_only:
        pieces += [(" · ", PALETTE.faint), ("faults only", PALETTE.accent)]
    if density:
        pieces += [(" · ", PALETTE.faint), (density, PALETTE.dim)]
    return pieces


def _about(nodes: Sequence[NodeState], listing: Listing, wish: FleetQuery, marked: int, is_short: bool) -> list[Piece]:
    pieces: list[Piece] = []
    if wish.text:
        pieces.append((f"/ {pad(untrusted(wish.text), 24 if is_short else 60).rstrip()}  ", PALETTE.accent))
    if not listing.hidden:
        pieces.append((f"{count(listing.devices, 'device')} on {count(len(nodes), 'node')}  ", PALETTE.text))
    for word in ("refused", "lost", "stale", "connecting"):
        amount = sum(node.state == word for node in nodes)
        if amount:
            pieces.append((f"{GLYPHS[word]} {amount} {word}  ", PALETTE.of(word)))
    if marked:
        pieces.append((f"▎{marked} marked  ", PALETTE.accent))
    readings = [device.reading for node in nodes for device in node.devices]
    if is_short and any(reading.kind == "emulated" for reading in readings):
        pieces.append(("* emulated  ", PALETTE.dim))
    fresh = [device.reading.utilization for node in nodes if node.state == "ok" for device in node.devices]
    used = [utilization for utilization in fresh if utilization is not None]
    if used:
        pieces.append((f"mean utilization {percent(sum(used) / len(used))}", PALETTE.dim))
    return pieces


def hidden_line(listing: Listing, width: int) -> Strip:
    """Under the list: what is not in it, and the keys that bring it back; empty where all is there."""
    parts = []
    if listing.healthy:
        parts.append(f"+{count(listing.healthy, 'healthy device')} hidden (x shows {'it' if listing.healthy == 1 else 'them'})")
    if listing.filtered:
        parts.append(f"+{listing.filtered:,} hidden by the filter (Esc clears it)")
    return line(width, ("  " + ", ".join(parts) if parts else "", PALETTE.dim))
