"""A profile as lines: devices with scores, details of one device, links between nodes, all-reduce, machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paceline.engine.store.selectors import wall_clock
from paceline.engine.store.state import State
from paceline.engine.wire import from_plain
from rich.style import Style
from textual.strip import Strip

from ..terminal.format import UNKNOWN, age, count, local_time, number, pad, pad_left, sanitize, size, tflops
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NO_STYLE, Piece, bar, justified_line, line

PROFILE_WIDE_COLUMNS = 110
"""Width from which a row shows its secondary columns."""
LINK_COLUMNS = 15
PROFILE_ROW_CELLS = 104
"""Width of a whole row with the shortest bar."""


@dataclass(frozen=True, slots=True)
class ProfiledFit:
    """The step time model t = a + c * b, with batch size b, in seconds."""

    a: float | None = None
    c: float | None = None
    residual: float | None = None


@dataclass(frozen=True, slots=True)
class ProfiledDrift:
    """Change against the previous profile."""

    slowdown: float = 1.0
    since: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact reported by the driver or torch."""

    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class ProfiledDevice:
    """One device of a profile document, with the fields that are drawn."""

    node: str = ""
    index: int = 0
    name: str = ""
    emulated: bool = False
    memory: int | None = None
    tflops: dict[str, float | None] = field(default_factory=dict)
    memory_bandwidth: float | None = None
    host_to_device: float | None = None
    score: float | None = None
    fit: ProfiledFit = ProfiledFit()
    sizes: tuple[int, ...] = ()
    seconds: tuple[float | None, ...] = ()
    largest_batch: int | None = None
    power: float | None = None
    joules_per_sample: float | None = None
    facts: tuple[Fact, ...] = ()
    drift: ProfiledDrift | None = None
    error: str | None = None

    @property
    def rate(self) -> float | None:
        """Samples per second at large batch sizes."""
        return 1.0 / self.fit.c if self.fit.c is not None and self.fit.c > 0 else None


@dataclass(frozen=True, slots=True)
class ProfiledAllReduce:
    """The all-reduce model: time = alpha + bytes / beta, in seconds and bytes per second."""

    ranks: int = 0
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class ProfiledMachine:
    """One node without its devices."""

    node: str = ""
    processor: str | None = None
    cores: int | None = None
    memory: int | None = None
    disk_write: float | None = None
    disk_read: float | None = None
    processor_tflops: float | None = None
    memory_bandwidth: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ProfileView:
    """A document of the verb profile; parsed defensively, because a recording may hold anything."""

    workload: str = ""
    measured: float | None = None
    emulated: bool = False
    emulated_network: bool = False
    devices: tuple[ProfiledDevice, ...] = ()
    links: tuple[dict[str, Any], ...] = ()
    all_reduce: ProfiledAllReduce | None = None
    system: tuple[ProfiledMachine, ...] = ()


def profile_view(document: dict[str, Any] | None) -> ProfileView | None:
    """Parse a profile document; None where there is none or it is malformed."""
    try:
        return None if document is None else from_plain(ProfileView, document)
    except ValueError:
        return None


def _bar_cells(width: int) -> int:
    """Width of the bar of a score."""
    return min(40, 10 + max(0, width - PROFILE_ROW_CELLS))


def profile_heading(width: int) -> Strip:
    """Column headings."""
    text = f"  {pad('node', 10)}{pad('device', 16)}{pad('score', _bar_cells(width) + 7)}"
    text += f"{pad_left('samples/s', 9)}{pad_left('error', 7)}{pad_left('max batch', 10)}"
    return line(width, (text + ("   TFLOPS    fixed, ms    drift" if width >= PROFILE_WIDE_COLUMNS else "  drift"), PALETTE.dim))


def profile_row(shown: ProfileView | None, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One device."""
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    if shown is None or not key.isdecimal() or int(key) >= len(shown.devices):
        return Strip.blank(width, NO_STYLE)
    device = shown.devices[int(key)]
    sign, style = _state(device)
    pieces: list[Piece] = [
        (f"{GLYPHS[sign]} ", style),
        (pad(sanitize(device.node), 9) + " ", PALETTE.text),
        (pad(f"{device.index} {sanitize(device.name)}", 15) + " ", PALETTE.text),
    ]
    if device.rate is None:
        pieces.append((sanitize(device.error or "was not timed"), PALETTE.critical))
        return line(width, *pieces, background=background)
    off = UNKNOWN if device.fit.residual is None else f"{device.fit.residual * 100:.1f} %"
    pieces += [
        (bar(device.score, _bar_cells(width)) + " ", PALETTE.bar),
        (pad(number(device.score, 3), 6), PALETTE.text),
        (pad_left(number(device.rate, 1), 9), PALETTE.text),
        (pad_left(off, 7), PALETTE.dim),
        (pad_left(number(device.largest_batch), 10), PALETTE.text),
    ]
    if width >= PROFILE_WIDE_COLUMNS:
        fixed = None if device.fit.a is None else device.fit.a * 1000
        pieces += [(pad_left(tflops(device.tflops.get("fp32")), 9), PALETTE.text), (pad_left(number(fixed, 2), 9), PALETTE.text)]
    is_wide = width >= PROFILE_WIDE_COLUMNS
    pieces.append(
        (
            pad_left(_drift(device, is_short=not is_wide), 13 if is_wide else 7),
            PALETTE.warning if device.drift is not None else PALETTE.dim,
        )
    )
    return line(width, *pieces, background=background)


def _state(device: ProfiledDevice) -> tuple[str, Style]:
    if device.rate is None:
        return "failed", PALETTE.critical
    return ("warning", PALETTE.warning) if device.drift is not None or device.error else ("ok", PALETTE.ok)


def _drift(device: ProfiledDevice, *, is_short: bool = False) -> str:
    if device.drift is None:
        return UNKNOWN
    change = (device.drift.slowdown - 1) * 100
    if is_short:
        return f"{change:+.0f} %"
    return f"{abs(change):.0f} % {'slower' if change >= 0 else 'faster'}"


def profile_summary(state: State, shown: ProfileView | None, others: int, width: int) -> list[Strip]:
    """The line above the list: workload, number of devices, and age of the profile."""
    if shown is None:
        return [line(width, ("no profile yet: press : and type  profile", PALETTE.dim))]
    now = wall_clock(state, state.at)
    profile_age = UNKNOWN if now is None or shown.measured is None else age(now - shown.measured)
    left: list[Piece] = [(sanitize(shown.workload), PALETTE.strong), (f"  {count(len(shown.devices), 'device')}", PALETTE.text)]
    network = ", network too" if shown.emulated_network else ""
    left.append((f"  emulated{network}" if shown.emulated else "", PALETTE.dim))
    left.append((f"  measured {profile_age} ago, {local_time(shown.measured, '%Y-%m-%d %H:%M') or UNKNOWN}", PALETTE.dim))
    return [justified_line(width, left, [(f"← → {count(others, 'workload')}" if others > 1 else "", PALETTE.dim)])]


PROFILE_COLUMNS = (
    *("node", "index", "name", "emulated", "score", "samples_per_second", "fixed_seconds", "seconds_per_sample", "residual"),
    *("largest_batch", "tflops_fp32", "memory", "power", "joules_per_sample", "slowdown", "error"),
)


def profile_table(shown: ProfileView | None) -> list[Sequence[object]]:
    """The devices as data: a heading, then one row each; None: unknown. Bytes, seconds and watts."""
    rows: list[Sequence[object]] = [PROFILE_COLUMNS] if shown is not None else []
    for one in shown.devices if shown is not None else ():
        fit: list[object] = [one.fit.a, one.fit.c, one.fit.residual, one.largest_batch, one.tflops.get("fp32"), one.memory]
        drift = one.drift.slowdown if one.drift is not None else None
        start: list[object] = [one.node, one.index, one.name, one.emulated, one.score, one.rate]
        rows.append([*start, *fit, one.power, one.joules_per_sample, drift, one.error])
    return rows


def device_detail(shown: ProfileView | None, key: str, width: int, height: int) -> list[Strip]:
    """All measurements of the device under the cursor."""
    if shown is None or not key.isdecimal() or int(key) >= len(shown.devices):
        return []
    device = shown.devices[int(key)]
    emulated = "  emulated" if device.emulated else ""
    name = f"{sanitize(device.node)}  {device.index} {sanitize(device.name)}"
    lines = [line(width, (name, PALETTE.strong), (emulated, PALETTE.dim))]
    if device.drift is not None:
        since = local_time(device.drift.since, "%Y-%m-%d %H:%M") or "before"
        drift_text = f"{_drift(device)} than {since}: {sanitize(device.drift.reason or 'its driver says nothing new')}"
        lines.append(line(width, (drift_text, PALETTE.warning)))
    if device.error:
        lines.append(line(width, (sanitize(device.error), PALETTE.critical)))
    formats = "  ".join(f"{form} {tflops(device.tflops.get(form))}" for form in ("fp32", "tf32", "bf16", "fp16"))
    a, c = device.fit.a, device.fit.c
    step = UNKNOWN if a is None or c is None else f"{a * 1000:.2f} ms + {c * 1000:.3f} ms a sample"
    known = " ".join(
        f"{samples}:{seconds * 1000:,.0f}"
        for samples, seconds in zip(device.sizes, device.seconds, strict=False)
        if seconds is not None
    )
    energy = UNKNOWN if device.joules_per_sample is None else f"{device.joules_per_sample:.3g} J a sample"
    rows = (
        ("TFLOPS", formats),
        ("step", f"{step}; at most {number(device.largest_batch)} samples a step"),
        ("timed", f"samples:ms  {known}"),
        (
            "memory",
            f"{_bytes(device.memory)}, {_rate(device.memory_bandwidth)} within, {_rate(device.host_to_device)} from host",
        ),
        ("power", f"{number(device.power)} W, {energy}"),
        ("driver", "  ".join(f"{sanitize(fact.name)} {sanitize(fact.value)}" for fact in device.facts) or UNKNOWN),
    )
    lines += [line(width, (pad(name, 9), PALETTE.dim), (text, PALETTE.text)) for name, text in rows]
    if len(lines) > height > 1:
        lines = [*lines[: height - 1], line(width, (f"+{count(len(lines) - height + 1, 'line')} out of sight", PALETTE.dim))]
    return lines[:height]


def link_lines(shown: ProfileView | None, width: int, height: int) -> list[Strip]:
    """The all-reduce model; latency and bandwidth from the node of each row to the node of each column; the machines."""
    if shown is None:
        return []
    lines = _all_reduce_line(shown, width)
    nodes = list(dict.fromkeys(str(link.get("from", "")) for link in shown.links))
    by_pair = {(str(link.get("from", "")), str(link.get("to", ""))): link for link in shown.links}
    columns = nodes[: max(1, (width - 11) // LINK_COLUMNS)]
    if nodes:
        heads = [(pad_left(sanitize(name, LINK_COLUMNS - 1), LINK_COLUMNS), PALETTE.dim) for name in columns]
        lines.append(line(width, (pad("from \\ to", 11), PALETTE.dim), *heads))
        for source in nodes:
            cells = [_link_cell(by_pair.get((source, target)), source == target) for target in columns]
            lines.append(line(width, (pad(sanitize(source), 11), PALETTE.text), *cells))
        if len(columns) < len(nodes):
            lines.append(line(width, (f"+{count(len(nodes) - len(columns), 'column')} out of sight", PALETTE.dim)))
        for link in shown.links:
            if link.get("error"):
                lines.append(line(width, (f"{GLYPHS['warning']} {sanitize(link['error'])}", PALETTE.warning)))
    lines += _machine_lines(shown.system, width)
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], line(width, (f"+{len(lines) - height + 1} lines out of sight", PALETTE.dim))]
    return lines


def _link_cell(link: dict[str, Any] | None, is_self: bool) -> Piece:
    if is_self:
        return (pad_left("·", LINK_COLUMNS), PALETTE.faint)
    if link is None or link.get("error"):
        return (pad_left("blocked" if link else UNKNOWN, LINK_COLUMNS), PALETTE.warning if link else PALETTE.dim)
    latency, bandwidth = (
        value if isinstance(value, float | int) else None for value in (link.get("latency"), link.get("bandwidth"))
    )
    hop = UNKNOWN if latency is None else f"{latency * 1e6:,.0f}µs" if latency < 0.01 else f"{latency * 1e3:,.0f}ms"
    return (pad_left(f"{hop} {_rate(bandwidth).replace(' ', '').removesuffix('iB/s')}", LINK_COLUMNS), PALETTE.text)


def _all_reduce_line(shown: ProfileView, width: int) -> list[Strip]:
    total = shown.all_reduce
    if total is None or total.alpha is None:
        return [line(width, ("all-reduce ", PALETTE.dim), ("not measured", PALETTE.dim))]
    text = f"{total.alpha * 1000:.2f} ms + bytes / {_rate(total.beta)} over {count(total.ranks, 'rank')}"
    return [line(width, ("all-reduce ", PALETTE.dim), (text, PALETTE.text))]


def _machine_lines(machines: Sequence[ProfiledMachine], width: int) -> list[Strip]:
    lines = []
    for machine in machines:
        disk = f"disk {_rate(machine.disk_write)} written, {_rate(machine.disk_read)} read"
        speed = "" if machine.processor_tflops is None else f", {machine.processor_tflops:.2g} TFLOPS"
        ram = "" if machine.memory_bandwidth is None else f" at {_rate(machine.memory_bandwidth)}"
        cores = f"{number(machine.cores)} cores{speed}, {_bytes(machine.memory)}{ram}"
        text = f"{disk}  {cores}  {sanitize(machine.processor or UNKNOWN)}"
        piece: Piece = (sanitize(machine.error), PALETTE.warning) if machine.error else (text, PALETTE.text)
        lines.append(line(width, (pad(sanitize(machine.node), 11), PALETTE.text), piece))
    return lines


def _bytes(value: int | None) -> str:
    return UNKNOWN if value is None or value < 0 else size(value)


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None or value < 0 else f"{size(int(value))}/s"
