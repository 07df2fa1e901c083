"""The rows of the fleet: every device of every node, trouble first. Pure."""

from __future__ import annotations

from paceline.engine.events import DeviceReading
from paceline.engine.store.questions import occupants
from paceline.engine.store.state import NodeState, State
from textual.strip import Strip

from ..format import age, count, fit, memory, number, percent, right, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .lines import NONE, Piece, bar, history, line, spread

WIDE = 120
"""Columns from which a row has room for bars, power and clocks."""
_ORDER = {"refused": 0, "lost": 0, "stale": 1, "connecting": 2, "ok": 3}


def fleet_keys(state: State) -> list[str]:
    """One key a row, ``node index``; a node without devices has one row of its own."""
    nodes = sorted(state.nodes.values(), key=_trouble)
    return [f"{node.name} {index}" for node in nodes for index in (range(len(node.devices)) if node.devices else (-1,))]


def _trouble(node: NodeState) -> int:
    is_troubled = any(device.reading.error or device.reading.throttle for device in node.devices)
    return 1 if node.state == "ok" and is_troubled else _ORDER.get(node.state, 3)


def fleet_heading(width: int) -> Strip:
    """Names of the columns."""
    if width < WIDE:
        names = f"{fit('node', 8)} {fit('device', 11)} {right('util', 5)} {fit('history', 8)} {right('memory', 13)}  °C"
    else:
        names = f"{fit('node', 10)} {fit('device', 22)} {right('util', 5)}  {fit('', 10)} {fit('history', _history(width))}  "
        names += f"{fit('', 8)} {right('memory', 13)} {right('W', 8)} {right('°C', 4)} {right('MHz', 6)}"
    return line(width, (f"  {names}  who", PALETTE.dim))


def _history(width: int) -> int:
    return max(8, width - 123)


def fleet_row(view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One device."""
    name, _, number_text = key.rpartition(" ")
    node, index = view.state.nodes.get(name), int(number_text)
    background = PALETTE.cursor if is_under_cursor else NONE
    if node is None:
        return Strip.blank(width, NONE)
    if index < 0 or index >= len(node.devices):
        text = node.reason or ("connecting" if node.state == "connecting" else "no device found")
        word = PALETTE.of(node.state)
        pieces: list[Piece] = [(GLYPHS[node.state] + " ", word), (fit(untrusted(node.name), 10) + " ", PALETTE.text)]
        return line(width, *pieces, (f"{node.state}  ", word), (untrusted(text), PALETTE.dim), background=background)
    device = node.devices[index]
    reading = device.reading
    is_fresh = node.state == "ok"
    text_style = PALETTE.text if is_fresh else PALETTE.dim
    state = _device_state(node, reading)
    busy = PALETTE.bar if is_fresh else PALETTE.dim
    util = None if reading.error else reading.utilization
    start: list[Piece] = [(GLYPHS[state] + " ", PALETTE.of(state))]
    shown_name = untrusted(node.name) if index == 0 else ""
    who_text, who_style = _who(view.state, node, reading)
    temperature = number(reading.temperature)
    hot = PALETTE.warning if reading.throttle else text_style
    if width < WIDE:
        star = "*" if reading.kind == "emulated" else ""
        start += [
            (fit(shown_name, 8) + " ", text_style),
            (fit(untrusted(reading.name) + star, 11) + " ", text_style),
            (right(percent(util), 5) + " ", text_style),
            (history(device.utilization, 8) + " ", busy),
            (right(memory(reading.memory_used, reading.memory_total), 13) + " ", text_style),
            (right(temperature, 3) + "  ", hot),
        ]
        return line(width, *start, (fit(who_text, width - 57), who_style), background=background)
    filled = reading.memory_used / reading.memory_total if reading.memory_used is not None and reading.memory_total else None
    power = number(reading.power) + (f"/{reading.power_limit:.0f}" if reading.power_limit else "")
    label = " emulated" if reading.kind == "emulated" else ""
    device_name = fit(f"{reading.index} {untrusted(reading.name)}", 22 - len(label))
    start += [
        (fit(shown_name, 10) + " ", text_style),
        (device_name, text_style),
        (label + " ", PALETTE.faint if not is_fresh else PALETTE.dim),
        (right(percent(util), 5) + "  ", text_style),
        (bar(util, 10) + " ", busy),
        (history(device.utilization, _history(width)) + "  ", PALETTE.bar_past if is_fresh else PALETTE.faint),
        (bar(filled, 8) + " ", PALETTE.bar_past if is_fresh else PALETTE.faint),
        (right(memory(reading.memory_used, reading.memory_total), 13) + " ", text_style),
        (right(power, 8) + " ", text_style),
        (right(temperature, 4) + " ", hot),
        (right(number(reading.clock), 6) + "  ", hot),
    ]
    taken = 93 + _history(width)
    return line(width, *start, (fit(who_text, width - taken), who_style), background=background)


def _device_state(node: NodeState, reading: DeviceReading) -> str:
    if node.state != "ok":
        return node.state
    return "critical" if reading.error else "warning" if reading.throttle else "ok"


def _who(state: State, node: NodeState, reading: DeviceReading) -> Piece:
    """Why a device is of interest, shortest first: trouble, then our job, then foreign processes, then free."""
    if node.state in ("lost", "refused"):
        return f"{node.state}: {untrusted(node.reason)}", PALETTE.of(node.state)
    if node.state == "stale" and node.at is not None:
        return f"no word for {age(state.at - node.at)}", PALETTE.warning
    if node.state == "connecting":
        return ("connecting" if node.attempt < 2 else f"connecting, try {node.attempt}"), PALETTE.dim
    if reading.error:
        return untrusted(reading.error), PALETTE.critical
    if reading.throttle:
        return untrusted(", ".join(reading.throttle)), PALETTE.warning
    found = occupants(state).get((node.name, reading.index))
    if found:
        run, rank = found
        return f"{untrusted(run.run_id)[-6:]} rank {rank.rank}", PALETTE.accent
    if reading.holder:
        return f"{untrusted(reading.holder)[-6:]} of {untrusted(reading.holder_user) or 'somebody'}", PALETTE.text
    if reading.processes:
        owners = ", ".join(dict.fromkeys(untrusted(process.user or process.name) for process in reading.processes))
        return owners, PALETTE.text
    return ("free" if reading.utilization is not None else "—"), PALETTE.dim


def fleet_summary(view: View, width: int, height: int) -> list[Strip]:
    """One line over the list: how many answer, and what is wrong."""
    state = view.state
    nodes = list(state.nodes.values())
    if not nodes:
        return [line(width, ("no nodes yet: name your machines in nodes.toml, or try  paceline demo", PALETTE.dim))]
    devices = [device for node in nodes for device in node.devices]
    left: list[Piece] = [(f"{count(len(devices), 'device')} on {count(len(nodes), 'node')}", PALETTE.text)]
    for word in ("refused", "lost", "stale", "connecting"):
        amount = sum(node.state == word for node in nodes)
        if amount:
            left.append((f"  {GLYPHS[word]} {amount} {word}", PALETTE.of(word)))
    fresh = [device.reading.utilization for node in nodes if node.state == "ok" for device in node.devices]
    used = [utilization for utilization in fresh if utilization is not None]
    if used:
        left.append((f"  mean utilization {percent(sum(used) / len(used))}", PALETTE.dim))
    is_emulated = any(device.reading.kind == "emulated" for device in devices)
    note = "* emulated" if width < WIDE and is_emulated else "trouble first"
    return [spread(width, left, [(note, PALETTE.dim)])]
