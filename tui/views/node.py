"""The page of one node as lines: machine, disks, links, devices, processes and alerts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paceline.engine.events import DiskReading, HostProcess, LinkReading, ProcessReading
from paceline.engine.store.selectors import open_alerts
from paceline.engine.store.state import DeviceState, NodeState, State
from rich.cells import cell_len
from textual.strip import Strip

from ..terminal.format import UNKNOWN, age, count, memory, number, pad, pad_left, percent, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NO_STYLE, Piece, bar, justified_line, line
from .fleet.device_facts import DeviceUse

GIB = 1024**3
NAME_COLUMNS, NAME_COLUMNS_WIDE = 10, 20
"""Width of a device in its row of the fleet, in narrow and in wide terminals."""
MIN_BOTH_LINES = 8
"""Height from which the processes on the processor stand below those on accelerators."""
_CORE_LEVELS = "▁▂▃▄▅▆▇"


def node_head(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """Name and state, then address and system."""
    state_style = PALETTE.state_style(node.state)
    left: list[Piece] = [(f"{sanitize(node.name)}  ", PALETTE.strong), (f"{GLYPHS[node.state]} {node.state}", state_style)]
    if node.state != "ok" and node.at is not None:
        left.append((f"  last word {age(state.at - node.at)} ago", state_style))
    if node.state != "ok" and node.reason:
        left.append((f"  {sanitize(node.reason)}", PALETTE.dim))
    uptime = [(f"up {_uptime(node.host.uptime)}", PALETTE.dim)] if node.host.uptime is not None else []
    address = " on ".join(filter(None, (sanitize(node.address), sanitize(node.interface))))
    facts = (
        sanitize(node.hostname) if node.hostname != node.name else "",
        "read-only" if node.is_read_only else "",
        "embedded node" if node.kind == "embedded" else "",
        address,
        sanitize(node.system, 80),
        f"Python {sanitize(node.python, 20)}" if node.python else "",
    )
    facts_line = " · ".join(filter(None, facts)) or (sanitize(node.hint) or "nothing is known of it yet")
    return [justified_line(width, left, uptime), line(width, (facts_line, PALETTE.dim))][: max(1, height)]


def host_lines(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """CPU, load, memory and swap: bars, or one line in short terminals."""
    host = node.host
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    cores = f" of {host.cores}" if host.cores is not None else ""
    load = number(host.load, 1) + cores
    swap = host.swap_used / host.swap_total if host.swap_used is not None and host.swap_total else None
    if height < 4:
        swapped = f"   swap {percent(swap)}" if swap else ""
        text = f"cpu {percent(host.cpu)}   load {load}   memory {memory(host.memory_used, host.memory_total)}{swapped}"
        cores_text = f"   cores {core_bars(host.core_use, width - cell_len(text) - 9)}" if host.core_use else ""
        return [line(width, (pad(text + cores_text if cell_len(text) + 17 <= width else text, width), style))]
    used = host.memory_used / host.memory_total if host.memory_used is not None and host.memory_total else None
    room = max(4, width - 30)
    fill = PALETTE.bar if node.state == "ok" else PALETTE.faint
    rows: list[tuple[str, float | None, str]] = [
        ("cpu", host.cpu, percent(host.cpu)),
        ("load", host.load / host.cores if host.load is not None and host.cores else None, load),
        ("memory", used, memory(host.memory_used, host.memory_total)),
        ("swap", swap, "none" if host.swap_total == 0 else memory(host.swap_used, host.swap_total)),
    ]
    lines = [
        line(width, (pad(name, 8), PALETTE.dim), (bar(fraction, room), fill), ("  " + pad_left(text, 18), style))
        for name, fraction, text in rows
    ]
    free = f"{host.disk_free / GIB:,.0f} GiB" if host.disk_free is not None else UNKNOWN
    cores_line = line(width, (pad("cores", 8), PALETTE.dim), (core_bars(host.core_use or (), width - 8), fill))
    lines.append(cores_line if host.core_use else line(width))
    return [*lines, line(width, (f"free where runs are kept: {free}", PALETTE.dim))][:height]


def core_bars(use: Sequence[int], room: int) -> str:
    """A bar a core, of its utilization in percent; where they are too many, a bar is the busiest of its neighbours."""
    if room < 1 or not use:
        return ""
    each = -(-len(use) // room)
    busiest = [max(use[start : start + each]) for start in range(0, len(use), each)]
    return "".join(_CORE_LEVELS[round(min(100, max(0, percent_used)) / 100 * (len(_CORE_LEVELS) - 1))] for percent_used in busiest)


def disk_lines(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """Disks, first those that did not answer, then the fullest."""
    disks = sorted(node.host.disks, key=lambda disk: -1.0 if disk.used is None else -_fill(disk))
    disks.sort(key=lambda disk: disk.used is not None)
    if not disks:
        return [line(width, ("disks  " + UNKNOWN if height < 3 else UNKNOWN, PALETTE.dim))]
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    if height < 3:
        named = [f"{sanitize(disk.mount, 30)} {_disk_text(disk)}" for disk in disks]
        return [_one_line("disks", named, width)]
    room = max(4, (width - 24) // 2)
    shown = disks if len(disks) <= height else disks[: height - 1]
    lines = []
    for disk in shown:
        has_no_answer = disk.used is None
        text_style = PALETTE.warning if has_no_answer or _fill(disk) > 0.95 else style
        fill = PALETTE.warning if not has_no_answer and _fill(disk) > 0.95 else PALETTE.bar_past
        pieces = [
            (pad(sanitize(disk.mount), width - room - 20) + " ", style),
            (bar(None if has_no_answer else _fill(disk), room), fill),
        ]
        text = "no answer" if has_no_answer else _capacity(disk)
        lines.append(line(width, *pieces, (" " + pad_left(text, 18), text_style)))
    return _with_hidden_count(lines, len(disks) - len(shown), "disk", width)


def _fill(disk: DiskReading) -> float:
    return disk.used / disk.total if disk.used is not None and disk.total else 0.0


def _capacity(disk: DiskReading) -> str:
    if disk.used is None or disk.total is None or disk.total < 1024 * GIB:
        return memory(disk.used, disk.total)
    return f"{disk.used / GIB / 1024:.1f} / {disk.total / GIB / 1024:.1f} TiB"


def _disk_text(disk: DiskReading) -> str:
    return "no answer" if disk.used is None else percent(_fill(disk)) if disk.total else UNKNOWN


def network_lines(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """Network interfaces with their traffic, the busiest first; the one for training is coloured."""
    links = sorted(node.host.links, key=lambda link: -((link.received or 0.0) + (link.sent or 0.0)))
    if not links:
        return [line(width, ("links  " + UNKNOWN if height < 3 else UNKNOWN, PALETTE.dim))]
    if height < 3:
        named = [f"{sanitize(link.interface, 20)} ↓ {byte_rate(link.received)} ↑ {byte_rate(link.sent)}" for link in links]
        return [_one_line("links", named, width)]
    shown = links if len(links) <= height else links[: height - 1]
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    lines = []
    for link in shown:
        is_for_training = bool(node.interface) and link.interface == node.interface
        lines.append(
            line(
                width,
                (pad(sanitize(link.interface), max(4, width - 41)) + " ", PALETTE.accent if is_for_training else style),
                (f"↓ {pad_left(byte_rate(link.received), 10)}  ↑ {pad_left(byte_rate(link.sent), 10)}", style),
                ("  " + pad_left(_speed(link), 11), PALETTE.dim),
            )
        )
    return _with_hidden_count(lines, len(links) - len(shown), "link", width)


def byte_rate(value: float | None) -> str:
    """Bytes per second as ``118 MiB/s``."""
    if value is None:
        return UNKNOWN
    for unit, size in (("GiB/s", GIB), ("MiB/s", 1024**2), ("KiB/s", 1024)):
        if value >= size:
            return f"{value / size:.1f} {unit}" if value < 10 * size else f"{value / size:.0f} {unit}"
    return f"{max(0.0, value):.0f} B/s"


def _speed(link: LinkReading) -> str:
    if not link.speed:
        return UNKNOWN
    return f"{link.speed / 1e9:g} Gbit/s" if link.speed >= 1e9 else f"{link.speed / 1e6:g} Mbit/s"


def _one_line(what: str, parts: Sequence[str], width: int) -> Strip:
    """As many parts as fit on one line; the others are counted."""
    text = f"{what}  "
    for index, part in enumerate(parts):
        rest = len(parts) - index - 1
        more = f"   +{rest} more" if rest else ""
        if index and cell_len(text + part + more) > width:
            return line(width, (text.rstrip() + f"   +{rest + 1} more", PALETTE.dim))
        text += part + "   "
    return line(width, (pad(text.rstrip(), width), PALETTE.dim))


def _with_hidden_count(lines: list[Strip], hidden: int, what: str, width: int) -> list[Strip]:
    many = "processes" if what == "process" else ""
    return [*lines, line(width, (f"+{count(hidden, what, many)} hidden", PALETTE.dim))] if hidden > 0 else lines


def device_facts(node: NodeState, device: DeviceState | None, width: int, height: int) -> list[Strip]:
    """Readings of the device under the cursor that its row has no room for."""
    if device is None:
        return []
    reading = device.reading
    now, maximum = reading.pcie[:2], reading.pcie[2:4]
    pcie = (
        f"PCIe {now[0]} x{now[1]}" + (f" of {maximum[0]} x{maximum[1]}" if maximum and maximum != now else "")
        if len(now) == 2
        else ""
    )
    facts = [
        "emulated" if reading.kind == "emulated" else "",
        f"power {number(reading.power)} of {number(reading.power_limit)} W" if reading.power is not None else "",
        f"clock {number(reading.clock)} MHz" if reading.clock is not None else "",
        f"memory {number(reading.memory_clock)} MHz" if reading.memory_clock is not None else "",
        f"P{reading.performance_state}" if reading.performance_state is not None else "",
        f"fan {percent(reading.fan)}" if reading.fan is not None else "",
        pcie,
        f"ECC errors {reading.ecc_errors}" if reading.ecc_errors is not None else "",
    ]
    trouble = ", ".join(filter(None, (sanitize(reading.error), *map(sanitize, reading.throttle))))
    label = f"{reading.index} {sanitize(reading.name)}"
    is_cut = cell_len(label) > (NAME_COLUMNS_WIDE if width >= 110 else NAME_COLUMNS)  # in its row, which has all of a short name
    if not any(facts) and not trouble and not is_cut:
        return []
    name: Piece = (pad(label, min(cell_len(label), width // 2)) + "  " if is_cut else f"device {reading.index}  ", PALETTE.text)
    text_lines = _wrapped([*filter(None, facts)], width - cell_len(name[0]), max(1, height))
    lines = [
        line(width, name if not row else (" " * cell_len(name[0]), NO_STYLE), (text, PALETTE.dim))
        for row, text in enumerate(text_lines)
    ]
    if trouble and len(lines) < height:
        lines.append(line(width, (" " * cell_len(name[0]), NO_STYLE), (trouble, PALETTE.warning)))
    return lines


def _wrapped(parts: Iterable[str], width: int, height: int) -> list[str]:
    """Parts joined to lines; no part is broken."""
    lines = [""]
    for part in parts:
        grown = f"{lines[-1]} · {part}" if lines[-1] else part
        if cell_len(grown) <= width or not lines[-1]:
            lines[-1] = grown
        elif len(lines) < height:
            lines.append(part)
        else:
            lines[-1] = pad(grown, width)
            break
    return lines


def process_lines(state: State, use: DeviceUse, node: NodeState, width: int, height: int) -> list[Strip]:
    """Processes on the devices, those with most memory first, ranks of Paceline in the accent colour; below, or alone on a machine
    without accelerators, those that use its processors most."""
    busy = busy_process_lines(use, node, width, height)
    if busy and all(device.reading.kind == "cpu" for device in node.devices):
        return busy
    lines = _device_process_lines(use, node, width, height)
    room = height - len(lines) - 1
    return [*lines, line(width), *busy_process_lines(use, node, width, room)] if height >= MIN_BOTH_LINES and room > 2 else lines


def busy_process_lines(use: DeviceUse, node: NodeState, width: int, height: int) -> list[Strip]:
    """The processes that use the processors most; none where they are not known."""
    processes = node.host.processes
    if not processes or height < 1:
        return []
    start = f"{pad_left('pid', 8)}  {pad('user', 12)} {pad('process', 20)} {pad_left('cores', 7)} {pad_left('memory', 10)}  job"
    shown = processes if len(processes) < height else processes[: max(0, height - 2)]
    lines = [line(width, (pad(start, width), PALETTE.dim)), *(_busy_process(node, one, width) for one in shown)]
    return _with_hidden_count(lines, len(processes) - len(shown), "process", width)[:height]


def _busy_process(node: NodeState, one: HostProcess, width: int) -> Strip:
    style = PALETTE.text if node.state == "ok" else PALETTE.dim
    cores = UNKNOWN if one.cpu is None else f"{one.cpu:.2f}"
    text = f"{pad_left(str(one.pid), 8)}  {pad(sanitize(one.user) or UNKNOWN, 12)} {pad(sanitize(one.name) or UNKNOWN, 20)}"
    figures = f" {pad_left(cores, 7)} {pad_left(_memory_text(one.memory), 10)}  "
    job = sanitize(one.run_id, 60)[0 if width >= 100 else -6 :]
    return line(width, (text + figures, style), (job, PALETTE.accent if node.state == "ok" else PALETTE.dim))


def _device_process_lines(use: DeviceUse, node: NodeState, width: int, height: int) -> list[Strip]:
    heading = f"{'gpu':<5}{pad_left('pid', 8)}  {pad('user', 12)} {pad('process', 20)} {pad_left('memory', 10)}  job"
    if all(device.reading.processes is None for device in node.devices):
        is_emulated = any(device.reading.kind == "emulated" for device in node.devices)
        why = "emulated devices have no processes of their own" if is_emulated else "the node does not report them"
        return [line(width, (pad(heading, width), PALETTE.dim)), line(width, (f"{UNKNOWN}  {why}", PALETTE.dim))][:height]
    rows = [
        (device.reading.index, process)
        for device in node.devices
        for process in sorted(device.reading.processes or (), key=lambda process: -(process.memory or 0))
    ]
    if not rows:
        return [line(width, (pad(heading, width), PALETTE.dim)), line(width, ("no process uses a device", PALETTE.dim))][:height]
    room = max(1, height - 1)
    shown = rows if len(rows) <= room else rows[: room - 1]
    lines = [line(width, (pad(heading, width), PALETTE.dim))]
    lines += [_process_line(use, node, index, process, width) for index, process in shown]
    return _with_hidden_count(lines, len(rows) - len(shown), "process", width)[:height]


def _process_line(use: DeviceUse, node: NodeState, index: int, process: ProcessReading, width: int) -> Strip:
    holder = use.holders.get((node.name, index))
    rank = process.rank
    if rank is None and holder is not None and holder[0].run_id == process.run_id:
        rank = holder[1].rank
    job = sanitize(process.run_id, 60)[0 if width >= 100 else -6 :] + (f" rank {rank}" if rank is not None else "")
    if process.is_graphics:
        job = "draws the desktop"
    style = PALETTE.dim if process.is_graphics or node.state != "ok" else PALETTE.text
    return line(
        width,
        (f"{index:<5}", style),
        (pad_left(str(process.pid), 8) + "  ", style),
        (pad(sanitize(process.user) or UNKNOWN, 12) + " ", style),
        (pad(sanitize(process.name) or UNKNOWN, 20) + " ", style),
        (pad_left(_memory_text(process.memory), 10) + "  ", style),
        (job.strip() or UNKNOWN, PALETTE.accent if process.run_id and node.state == "ok" else PALETTE.dim),
    )


def _memory_text(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value / GIB:.1f} GiB" if value >= GIB else f"{value / 1024**2:.0f} MiB"


def node_alerts(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """Open alerts of this node, worst first."""
    alerts = [alert for alert in open_alerts(state) if alert.node == node.name]
    if not alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing is wrong here", PALETTE.dim))]
    shown = alerts if len(alerts) <= height else alerts[: max(1, height - 1)]
    lines = []
    for alert in shown:
        more = len(alerts) - len(shown) if height == 1 else 0
        end: Piece = (f"  {age(state.at - alert.at)}" + (f"  +{more} more" if more else ""), PALETTE.dim)
        room = max(1, width - 2 - cell_len(end[0]))
        hint = f"  → {sanitize(alert.hint)}" if alert.hint else ""
        text = sanitize(alert.text)
        text = text + hint if cell_len(text + hint) <= room else text
        severity_style = PALETTE.state_style(alert.severity)
        lines.append(line(width, (GLYPHS[alert.severity] + " ", severity_style), (pad(text, room), PALETTE.text), end))
    return lines if height == 1 else _with_hidden_count(lines, len(alerts) - len(shown), "alert", width)


def _uptime(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds >= 2 * 86400 else age(seconds)
