"""The rows of the fleet: one line per device with its readings, faults and users. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.events import DeviceReading
from paceline.engine.store.state import DeviceState, NodeState, State
from rich.cells import cell_len as cells
from rich.style import Style
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, age, count, memory, number, pad, pad_left, percent, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NO_STYLE, Piece, bar, click_style, justified_line, line, merge_pieces, sparkline
from ..drawing.sorting import Order, sortable_heading
from .device_facts import DeviceUse, clock_drop, compute_processes, device_state, is_free
from .order import FleetListing, FleetQuery, device_at_key

FLEET_WIDE_COLUMNS = 120
"""Width from which a row shows bars, power and clocks."""


COLUMN_ORDERS = {"node": "node", "util": "utilization", "memory": "memory", "W": "power", "°C": "temperature"}
"""Sort keys by the headings that sort by them."""


def fleet_heading(width: int, order: Order | None = None) -> Strip:
    """Column headings; a click on one sorts by it. Without an order nothing can be sorted, and the column of nodes is left out."""
    if width < FLEET_WIDE_COLUMNS:
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
            pad("history", _history_columns(width)),
            pad("", 9),
        ]
        columns += [pad_left("memory", 13), pad_left("W", 8), pad_left("°C", 4), pad_left("MHz", 6) + " "]
    pieces: list[Piece] = [("  ", PALETTE.dim)]
    if order is None:
        return line(width, *pieces, *((f"{column} ", PALETTE.dim) for column in columns[1:]), (" who", PALETTE.dim))
    for column in columns:
        by = COLUMN_ORDERS.get(column.strip())
        pieces.append((f"{column} ", PALETTE.dim) if by is None else sortable_heading(f"{column} ", by, order))
    return line(width, *pieces, (" who", PALETTE.dim + click_style("screen.sort('trouble')")))


def _history_columns(width: int) -> int:
    return max(8, min(60, (width - 123) // 2 + 8))


def fleet_row(
    view: View,
    use: DeviceUse,
    key: str,
    width: int,
    *,
    is_under_cursor: bool = False,
    is_named: bool = True,
    is_marked: bool = False,
    is_alone: bool = False,
) -> Strip:
    """One device. ``is_named``: show the name of its node; ``is_alone``: leave out the column of node names."""
    node, device = device_at_key(view.state, key)
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    if node is None:
        return Strip.blank(width, NO_STYLE)
    mark: Piece = ("▎" if is_marked else " ", PALETTE.accent)
    if device is None:
        text = node.reason or ("connecting" if node.state == "connecting" else "no device found")
        state_style = PALETTE.state_style(node.state)
        name: Piece = (pad(sanitize(node.name), 10 if width >= FLEET_WIDE_COLUMNS else 8) + " ", PALETTE.text)
        tries = f", try {node.attempt}" if node.state == "connecting" and node.attempt > 1 else ""
        reason_piece = (f"  {sanitize(text)}{tries}" if text != node.state else tries, PALETTE.dim)
        return line(
            width, (GLYPHS[node.state], state_style), mark, name, (node.state, state_style), reason_piece, background=background
        )
    state = device_state(node, device.reading, use)
    start: list[Piece] = [(GLYPHS[state], PALETTE.state_style(state)), mark]
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    if not is_alone:
        start.append((pad(sanitize(node.name) if is_named else "", 10 if width >= FLEET_WIDE_COLUMNS else 8) + " ", style))
    pieces = _wide(node, device, style, _history_columns(width)) if width >= FLEET_WIDE_COLUMNS else _narrow(node, device, style)
    room = width - sum(cells(text) for text, _ in (*start, *pieces))
    drawn = merge_pieces((*start, *pieces, *fault_and_user(view.state, use, node, device, room)))
    return line(width, *drawn, background=background)


def _narrow(node: NodeState, device: DeviceState, style: Style) -> list[Piece]:
    reading = device.reading
    star = "*" if reading.kind == "emulated" else ""
    index = f"{reading.index} " if len(node.devices) > 1 else ""
    return [
        (pad(pad(index + sanitize(reading.name), 11 - len(star)).rstrip() + star, 12), style),
        (pad_left(percent(_utilization(reading)), 5) + " ", style),
        (sparkline(device.utilization, 8) + " ", PALETTE.bar if node.state == "ok" else PALETTE.dim),
        (pad_left(memory(reading.memory_used, reading.memory_total), 13) + " ", style),
        (pad_left(number(reading.temperature), 3), _clock_style(device, style)),
        ("▼ " if clock_drop(device) is not None else "  ", PALETTE.warning),
    ]


def _wide(node: NodeState, device: DeviceState, style: Style, history_columns: int) -> list[Piece]:
    reading, is_fresh = device.reading, node.state == "ok"
    used, total = reading.memory_used, reading.memory_total
    label = " emulated" if reading.kind == "emulated" else ""
    limit = f"/{reading.power_limit:.0f}" if reading.power_limit else ""
    util = _utilization(reading)
    fill = PALETTE.bar_past if is_fresh else PALETTE.faint
    return [
        (pad(f"{reading.index} {sanitize(reading.name)}", 22 - len(label)), style),
        (label + " ", PALETTE.dim),
        (pad_left(percent(util), 5) + "  ", style),
        (bar(util, 10) + " ", PALETTE.bar if is_fresh else PALETTE.dim),
        (sparkline(device.utilization, history_columns) + "  ", fill),
        (bar(used / total if used is not None and total else None, 8) + " ", fill),
        (pad_left(memory(used, total), 13) + " ", style),
        (pad_left(number(reading.power) + limit, 8) + " ", style),
        (pad_left(number(reading.temperature), 4) + " ", _clock_style(device, style)),
        (pad_left(number(reading.clock), 6), _clock_style(device, style)),
        ("▼  " if clock_drop(device) is not None else "   ", PALETTE.warning),
    ]


def _utilization(reading: DeviceReading) -> float | None:
    return None if reading.error else reading.utilization


def _clock_style(device: DeviceState, style: Style) -> Style:
    return PALETTE.warning if device.reading.throttle else style


def fault_and_user(state: State, use: DeviceUse, node: NodeState, device: DeviceState, room: int) -> list[Piece]:
    """The fault of a device, then its users, as much as fits into ``room`` cells."""
    reading = device.reading
    pieces = [piece for piece in (_fault(state, use, node, device), _user(use, node, reading)) if piece[0]]
    if len(pieces) == 2 and cells(pieces[0][0]) + cells(pieces[1][0]) + 2 > room:
        owner = pieces[1]
        user_width = room - cells(pieces[0][0]) - 2
        pieces = [pieces[0], (pad(owner[0], user_width), owner[1])] if user_width >= 6 else pieces[:1]
    if len(pieces) == 2:
        pieces.insert(1, ("  ", NO_STYLE))
    return pieces if len(pieces) > 1 else [(pad(text, room), style) for text, style in pieces]


def _fault(state: State, use: DeviceUse, node: NodeState, device: DeviceState) -> Piece:
    """The fault of a device in words; empty: none."""
    reading = device.reading
    if node.state in ("lost", "refused"):
        return ": ".join(filter(None, (node.state, sanitize(node.reason)))), PALETTE.state_style(node.state)
    if node.state == "stale" and node.at is not None:
        return f"no word for {age(state.at - node.at)}", PALETTE.warning
    if node.state == "connecting":
        return ("connecting" if node.attempt < 2 else f"connecting, try {node.attempt}"), PALETTE.dim
    if reading.error:
        return sanitize(reading.error), PALETTE.critical
    drop = clock_drop(device)
    drop_text = f"−{drop * 100:.0f} % clock" if drop is not None else ""
    if reading.throttle:
        return ": ".join(filter(None, (sanitize(", ".join(reading.throttle)), drop_text))), PALETTE.warning
    if (node.name, reading.index) in use.straggling:
        return " ".join(filter(None, ("straggler", drop_text))), PALETTE.warning
    return drop_text, PALETTE.warning


def _user(use: DeviceUse, node: NodeState, reading: DeviceReading) -> Piece:
    """The rank that holds the device, else the run of another session, else the users of its processes, else ``free``."""
    device_key = (node.name, reading.index)
    holder = use.holders.get(device_key)
    if holder is not None:
        run, rank = holder
        return f"{sanitize(run.run_id)[-6:]} rank {rank.rank}", PALETTE.accent if node.state == "ok" else PALETTE.dim
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    if reading.holder:
        return f"{sanitize(reading.holder)[-6:]} of {sanitize(reading.holder_user) or 'somebody'}", style
    processes = compute_processes(reading)
    if processes:
        first = processes[0]
        owners = dict.fromkeys(sanitize(process.user or f"pid {process.pid}", 40) for process in processes)
        if len(processes) == 1 and first.user and first.name:
            return f"{sanitize(first.name, 40)} of {sanitize(first.user, 40)}", style
        more = f" +{len(owners) - 3}" if len(owners) > 3 else ""
        return ", ".join(list(owners)[:3]) + more, style
    if node.state != "ok" or reading.error:
        return "", style
    return ("free" if is_free(reading, device_key, use) else UNKNOWN), PALETTE.dim


def fleet_summary(view: View, listing: FleetListing, query: FleetQuery, marked: int, density: str, width: int) -> list[Strip]:
    """The line above the list: faults of the whole fleet, and which part of it is listed in which order."""
    nodes = list(view.state.nodes.values())
    if not nodes:
        return [line(width, ("no nodes yet: name your machines in nodes.toml, or try  paceline demo", PALETTE.dim))]
    end = _listing_pieces(listing, query, density)
    free = width - 2 - sum(cells(text) for text, _ in end)
    left: list[Piece] = []
    for text, style in _summary_pieces(nodes, listing, query, marked, is_short=width < FLEET_WIDE_COLUMNS):
        room = free - sum(cells(other) for other, _ in left)
        if cells(text) <= room:
            left.append((text, style))
    return [justified_line(width, left, end)] if left else [line(width, *end)]


def _listing_pieces(listing: FleetListing, query: FleetQuery, density: str) -> list[Piece]:
    """``5 of 19 devices · by trouble · faults only``: always shown, and short enough for 80 columns."""
    pieces: list[Piece] = []
    if listing.hidden:
        pieces.append((f"{listing.shown:,} of {count(listing.devices, 'device')}", PALETTE.text))
        pieces.append((" · ", PALETTE.faint))
    pieces.append(query.order.label)
    if query.is_faults_only:
        pieces += [(" · ", PALETTE.faint), ("faults only", PALETTE.accent)]
    if density:
        pieces += [(" · ", PALETTE.faint), (density, PALETTE.dim)]
    return pieces


def _summary_pieces(
    nodes: Sequence[NodeState], listing: FleetListing, query: FleetQuery, marked: int, is_short: bool
) -> list[Piece]:
    pieces: list[Piece] = []
    if query.filter_text:
        pieces.append((f"/ {pad(sanitize(query.filter_text), 24 if is_short else 60).rstrip()}  ", PALETTE.accent))
    if not listing.hidden:
        pieces.append((f"{count(listing.devices, 'device')} on {count(len(nodes), 'node')}  ", PALETTE.text))
    for word in ("refused", "lost", "stale", "connecting"):
        amount = sum(node.state == word for node in nodes)
        if amount:
            pieces.append((f"{GLYPHS[word]} {amount} {word}  ", PALETTE.state_style(word)))
    if marked:
        pieces.append((f"▎{marked} marked  ", PALETTE.accent))
    readings = [device.reading for node in nodes for device in node.devices]
    if is_short and any(reading.kind == "emulated" for reading in readings):
        pieces.append(("* emulated  ", PALETTE.dim))
    fresh = [device.reading.utilization for node in nodes if node.state == "ok" for device in node.devices]
    used = [utilization for utilization in fresh if utilization is not None]
    if used:
        pieces.append((f"{'util' if is_short else 'mean utilization'} {percent(sum(used) / len(used))}  ", PALETTE.dim))
    totals = [(one.memory_used, one.memory_total) for one in readings if one.memory_used is not None and one.memory_total]
    if totals:
        pieces.append((f"memory {memory(sum(one for one, _ in totals), sum(total for _, total in totals))}  ", PALETTE.dim))
    watts = [one.power for one in readings if one.power is not None]
    if watts:
        pieces.append((f"{sum(watts):,.0f} W", PALETTE.dim))
    return pieces


def hidden_line(listing: FleetListing, width: int) -> Strip:
    """The line below the list: counts of hidden rows and the keys that show them; empty where nothing is hidden."""
    parts = []
    if listing.healthy:
        parts.append(f"+{count(listing.healthy, 'healthy device')} hidden (x shows {'it' if listing.healthy == 1 else 'them'})")
    if listing.filtered:
        parts.append(f"+{listing.filtered:,} hidden by the filter (Esc clears it)")
    return line(width, ("  " + ", ".join(parts) if parts else "", PALETTE.dim))
