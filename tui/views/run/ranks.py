"""The ranks of a run as lines: share of the batch, and step time split into its parts on a common scale. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.engine.store.selectors import StepParts, current_imbalance, step_parts
from paceline.engine.store.state import RankState, RunState, State
from rich.style import Style
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, age, milliseconds, pad, pad_left, percent, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import FULL_BLOCK, NO_STYLE, Piece, bar, justified_line, line, nice_ceiling, stacked_bar

SILENT_AFTER_S = 10.0
"""Time without a step summary after which the values of a rank are shown with their age."""
SLOW_RANK_FACTOR = 1.15
"""A rank is marked as waited for if its compute seconds exceed the median by this factor."""
FIGURE_COLUMNS = 9
"""Width of a number column of the wide table."""
RANKS_WIDE_COLUMNS = 120
"""Width from which shares are shown in percent, and data and communication as numbers."""


@dataclass(frozen=True, slots=True)
class RanksLayout:
    """The common layout of all rank lines: column widths, scales of the bars, and the step parts of every rank."""

    name: int
    share: int
    note: int
    bars: int
    is_wide: bool
    scale: float
    """Seconds of a full step bar."""
    largest: int
    """Local batch size of a full share bar."""
    total: int
    """Samples of a step of all ranks."""
    parts: dict[int, StepParts]
    notes: dict[int, Piece]


def rank_keys(run: RunState, room: int) -> list[str]:
    """Keys of all ranks: by number if they fit into ``room`` lines, else failed ones, stragglers and the slowest first."""
    ranks = sorted(run.ranks.values(), key=lambda rank: rank.rank)
    if len(ranks) > room:
        slow = {one.found.straggler for one in run.current.stragglers if one.is_open} if run.current is not None else set()
        ranks.sort(key=lambda rank: (not rank.failure, rank.rank not in slow, -(rank.compute_seconds or 0.0)))
    return [str(rank.rank) for rank in ranks]


def ranks_layout(view: View, width: int) -> RanksLayout | None:
    """Compute the layout for a view and width; None: there are no ranks yet."""
    run = view.run
    if run is None or not run.ranks:
        return None
    ranks = list(run.ranks.values())
    parts = step_parts(run)
    notes = _notes(view.state, run, ranks)
    is_wide = width >= RANKS_WIDE_COLUMNS
    name = min(28, max(14, width // 4))
    share = max(6, min(14, width // 9))
    note = max((len(text) + 1 for text, _ in notes.values()), default=0)
    longest_step = max((_step_seconds(step) for step in parts.values()), default=0.0)
    taken = 5 + name + 6 + share + (6 if is_wide else 0) + (4 * FIGURE_COLUMNS if is_wide else 14) + note
    return RanksLayout(
        name=name,
        share=share,
        note=note,
        bars=max(0, width - taken - 1),
        is_wide=is_wide,
        scale=nice_ceiling(longest_step * 1.02) if longest_step > 0 else 0.0,
        largest=max(rank.local_batch_size or 0 for rank in ranks),
        total=sum(rank.local_batch_size or 0 for rank in ranks),
        parts=parts,
        notes=notes,
    )


def rank_heading(view: View, layout: RanksLayout | None, width: int) -> Strip:
    """Column headings, and the scale of the bars."""
    if layout is None:
        return line(width, ("the ranks appear here once a run is planned", PALETTE.dim))
    columns = ("data", "compute", "comm.", "wait") if layout.is_wide else ("compute", "wait")
    text = (
        f"rank {pad('device', layout.name)}{pad_left('batch', 5)} {pad('share', layout.share)}{' ' * 6 if layout.is_wide else ''}"
    )
    text += "".join(pad_left(name, FIGURE_COLUMNS if layout.is_wide else 6 if name == "wait" else 8) for name in columns) + " "
    return line(width, (text, PALETTE.dim), (_scale_labels(layout.scale, layout.bars) if layout.scale else "", PALETTE.dim))


def rank_line(view: View, layout: RanksLayout, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One rank; ``key`` is its number."""
    run = view.run
    rank = run.ranks.get(int(key)) if run is not None else None
    if rank is None:
        return Strip.blank(width, NO_STYLE)
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    note = layout.notes.get(rank.rank)
    where = f"{sanitize(rank.node)} {sanitize(rank.device_name)}".strip()
    pieces: list[Piece] = [
        (pad_left(str(rank.rank), 4) + " ", PALETTE.dim),
        (pad(where, layout.name - 1) + " ", PALETTE.text),
    ]
    if rank.failure:
        why = f"{GLYPHS['failed']} failed: {sanitize(rank.failure)}"
        return line(width, *pieces, (why, PALETTE.critical), background=background)
    size = rank.local_batch_size
    pieces.append((pad_left(UNKNOWN if size is None else str(size), 5) + " ", PALETTE.strong))
    pieces.append((bar((size or 0) / layout.largest if layout.largest else None, layout.share), PALETTE.bar_past))
    if layout.is_wide:
        pieces.append((pad_left(percent(size / layout.total if size is not None and layout.total else None), 6), PALETTE.dim))
    parts = layout.parts.get(rank.rank)
    if parts is None:
        word = "waiting for its first step" if rank.is_joined else "joining"
        return line(width, *pieces, (f"  {word}", PALETTE.dim), background=background)
    pieces += [*_figures(parts, layout.is_wide), (" ", NO_STYLE), *stacked_bar(_bar_parts(parts), layout.scale, layout.bars)]
    if note is not None:
        pieces.append((f" {note[0]}", note[1]))
    return line(width, *pieces, background=background)


RANK_COLUMNS = (
    *("rank", "node", "device_index", "device", "local_batch_size", "compute_seconds", "input_seconds", "host_seconds"),
    *("wait_seconds", "step_seconds", "samples_per_second", "failure"),
)


def rank_table(run: RunState | None) -> list[Sequence[object]]:
    """The ranks by number as data: a heading, then the last summary of each; None: unknown."""
    rows: list[Sequence[object]] = [RANK_COLUMNS] if run is not None and run.ranks else []
    for one in sorted(run.ranks.values(), key=lambda rank: rank.rank) if run is not None else ():
        start: list[object] = [one.rank, one.node, one.device_index, one.device_name, one.local_batch_size, one.compute_seconds]
        rows.append([*start, one.input_seconds, one.host_seconds, one.wait_seconds, one.step_seconds, one.samples_per_second])
        rows[-1] = [*rows[-1], one.failure]
    return rows


def rank_legend(view: View, width: int, hidden: int) -> list[Strip]:
    """The legend of the bars with the fraction of each part over all ranks, the imbalance, and the number of hidden ranks."""
    run = view.run
    parts = list(step_parts(run).values()) if run is not None else []
    total = sum(map(_step_seconds, parts))
    if run is None or not parts or total <= 0:
        return [line(width)]
    sums = [
        ("data", "▒", PALETTE.bar_past, sum(one.data for one in parts)),
        ("stall", "▓", PALETTE.warning, sum(one.host for one in parts)),
        ("compute", FULL_BLOCK, PALETTE.bar, sum(one.compute for one in parts)),
        ("communication" if width >= 100 else "comm.", "·", PALETTE.dim, sum(one.communication for one in parts)),
        ("wait", "░", PALETTE.wait, sum(one.wait for one in parts)),
    ]
    pieces: list[Piece] = []
    for name, sign, style, seconds in sums:
        if seconds > 0.005 * total:
            pieces += [(f"{sign} ", style), (f"{name} ", PALETTE.dim), (f"{percent(seconds / total)}   ", PALETTE.text)]
    uneven = current_imbalance(run)
    end: list[Piece] = []
    if uneven is not None and len(parts) > 1:
        end = [("imbalance ", PALETTE.dim), (percent(uneven), PALETTE.text if uneven < 0.2 else PALETTE.warning)]
    if hidden > 0:
        pieces.insert(0, (f"+{hidden} hidden   ", PALETTE.accent))
    return [justified_line(width, pieces, end)]


def _notes(state: State, run: RunState, ranks: Sequence[RankState]) -> dict[int, Piece]:
    """A glyph and a word for each rank that failed, is silent, slow or waited for."""
    case = run.current
    slow = {one.found.straggler: one.found.slowdown for one in case.stragglers if one.is_open} if case is not None else {}
    is_stepping = run.state == "running" and case is not None and case.state == "running"
    seconds = sorted(rank.compute_seconds for rank in ranks if rank.compute_seconds is not None)
    median = seconds[(len(seconds) - 1) // 2] if seconds else 0.0
    notes: dict[int, Piece] = {}
    for rank in ranks:
        node = state.nodes.get(rank.node)
        silent = state.at - rank.at if rank.at is not None and is_stepping else 0.0
        if rank.failure:
            notes[rank.rank] = (GLYPHS["failed"], PALETTE.critical)
        elif not run.is_over and node is not None and node.state in ("stale", "lost", "refused"):
            since = f" {age(silent)}" if silent >= SILENT_AFTER_S else ""
            notes[rank.rank] = (f"{GLYPHS[node.state]} {node.state}{since}", PALETTE.state_style(node.state))
        elif silent >= SILENT_AFTER_S:
            notes[rank.rank] = (f"{GLYPHS['stale']} silent {age(silent)}", PALETTE.warning)
        elif rank.rank in slow:
            notes[rank.rank] = (f"{GLYPHS['warning']} {slow[rank.rank]:.1f}x slower", PALETTE.critical)
        elif median > 0 and (rank.compute_seconds or 0.0) > SLOW_RANK_FACTOR * median:
            notes[rank.rank] = (f"{GLYPHS['warning']} waited for", PALETTE.warning)
    return notes


def _figures(parts: StepParts, is_wide: bool) -> list[Piece]:
    wait = PALETTE.wait if parts.wait > 0.15 * _step_seconds(parts) else PALETTE.dim
    own = parts.host + parts.compute
    if not is_wide:
        return [(pad_left(milliseconds(parts.data + own), 8), PALETTE.text), (pad_left(milliseconds(parts.wait), 6), wait)]
    return [
        (pad_left(milliseconds(parts.data), FIGURE_COLUMNS), PALETTE.dim),
        (pad_left(milliseconds(own), FIGURE_COLUMNS), PALETTE.text),
        (pad_left(milliseconds(parts.communication), FIGURE_COLUMNS), PALETTE.dim),
        (pad_left(milliseconds(parts.wait), FIGURE_COLUMNS), wait),
    ]


def _bar_parts(parts: StepParts) -> list[tuple[float, str, Style]]:
    return [
        (parts.data, "▒", PALETTE.bar_past),
        (parts.host, "▓", PALETTE.warning),
        (parts.compute, FULL_BLOCK, PALETTE.bar),
        (parts.communication, "·", PALETTE.dim),
        (parts.wait, "░", PALETTE.wait),
    ]


def _step_seconds(parts: StepParts) -> float:
    return parts.data + parts.host + parts.compute + parts.communication + parts.wait


def _scale_labels(scale: float, width: int) -> str:
    """Labels of the scale, such as ``0      200      400 ms``."""
    middle, end = milliseconds(scale / 2), f"{milliseconds(scale)} ms"
    if width < len(middle) + len(end) + 6:
        return pad_left(end, width)
    half = pad("0", width // 2 - len(middle) // 2) + middle
    return half + pad_left(end, width - len(half))
