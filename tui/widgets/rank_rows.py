"""The ranks of a run: each one's share, and its step as compute and wait on a common scale. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.engine.store.questions import imbalance_now
from paceline.engine.store.state import RankState, RunState, State
from textual.strip import Strip

from ..format import UNKNOWN, age, fit, milliseconds, percent, right, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .lines import BLOCK, Piece, bar, line, nice_ceiling, stacked

LATE = 10.0
"""Seconds without a line of a stepping rank after which its numbers say their age."""
SLOW = 1.15
"""A rank whose compute seconds exceed the median by this factor holds the others up visibly."""


def rank_lines(view: View, width: int, height: int) -> list[Strip]:
    """One line a rank: its share, and its step as compute and wait on a common scale."""
    run = view.run
    if run is None or not run.ranks:
        return [line(width, ("the ranks appear here once a run is planned", PALETTE.dim))]
    ranks = sorted(run.ranks.values(), key=lambda rank: rank.rank)
    look = _look(run, ranks, width)
    lines = [_heading(look, width)]
    room = max(1, height - 2)
    for rank in ranks if len(ranks) <= room else _worst(ranks, room - 1):
        lines.append(_rank_line(view.state, rank, look, width))
    if len(ranks) > room:
        lines.append(line(width, (f"+{len(ranks) - room + 1} ranks that wait longer hidden", PALETTE.dim)))
    uneven = imbalance_now(run)
    end = [("compute ", PALETTE.dim), (BLOCK, PALETTE.bar), ("  wait ", PALETTE.dim), ("░", PALETTE.wait)]
    if uneven is not None:
        end.append((f"   imbalance {percent(uneven)}", PALETTE.text if uneven < 0.2 else PALETTE.warning))
    if len(lines) < height:
        lines.append(line(width, (" " * max(0, width - sum(len(text) for text, _ in end)), PALETTE.dim), *end))
    return lines


@dataclass(frozen=True, slots=True)
class Look:
    """What all lines have in common: widths of their columns, scales of their bars."""

    name: int
    share: int
    bars: int
    scale: float
    """Seconds of a full step bar."""
    largest: int
    """Local batch size of a full share bar."""
    holding_up: frozenset[int]
    """Ranks that the others visibly wait for."""
    stragglers: frozenset[int | None]
    """Ranks that are slower than their own healthy time."""
    is_stepping: bool


def _look(run: RunState, ranks: list[RankState], width: int) -> Look:
    name = min(28, max(14, width // 4))
    share = max(6, min(14, width // 9))
    longest = max(_step(rank) for rank in ranks)
    case = run.current
    return Look(
        name=name,
        share=share,
        bars=width - name - share - 25,
        scale=nice_ceiling(longest * 1.02) if longest > 0 else 0.0,
        largest=max(rank.local_batch_size or 0 for rank in ranks),
        holding_up=_holding_up(ranks),
        stragglers=frozenset(one.found.straggler for one in case.stragglers if one.is_open) if case is not None else frozenset(),
        is_stepping=run.state == "running" and case is not None and case.state == "running",
    )


def _heading(look: Look, width: int) -> Strip:
    text = f"rank {fit('device', look.name)}{fit('batch', look.share + 6)}{right('compute', 7)}{right('wait', 5)}  "
    return line(width, (text, PALETTE.dim), (_scale(look.scale, look.bars) if look.scale else "", PALETTE.dim))


def _step(rank: RankState) -> float:
    return max(0.0, rank.compute_seconds or 0.0) + max(0.0, rank.wait_seconds or 0.0)


def _worst(ranks: list[RankState], amount: int) -> list[RankState]:
    """Those the others wait for, in the order of ranks."""
    kept = sorted(ranks, key=lambda rank: -(rank.compute_seconds or 0.0))[: max(0, amount)]
    return sorted(kept, key=lambda rank: rank.rank)


def _holding_up(ranks: list[RankState]) -> frozenset[int]:
    seconds = sorted(rank.compute_seconds for rank in ranks if rank.compute_seconds is not None)
    median = seconds[(len(seconds) - 1) // 2] if seconds else 0.0
    return frozenset(rank.rank for rank in ranks if median > 0 and (rank.compute_seconds or 0.0) > SLOW * median)


def _scale(scale: float, width: int) -> str:
    """``0      200      400 ms`` over the bars."""
    middle, end = milliseconds(scale / 2), f"{milliseconds(scale)} ms"
    if width < len(middle) + len(end) + 6:
        return right(end, width)
    half = fit("0", width // 2 - len(middle) // 2) + middle
    return half + right(end, width - len(half))


def _rank_line(state: State, rank: RankState, look: Look, width: int) -> Strip:
    where = f"{untrusted(rank.node)} {untrusted(rank.device_name)}".strip()
    node = state.nodes.get(rank.node)
    glyph, glyph_style = " ", PALETTE.text
    if rank.failure:
        glyph, glyph_style = GLYPHS["failed"], PALETTE.critical
    elif node is not None and node.state in ("stale", "lost", "refused"):
        glyph, glyph_style = GLYPHS[node.state], PALETTE.of(node.state)
    elif rank.rank in look.stragglers:
        glyph, glyph_style = GLYPHS["warning"], PALETTE.critical
    elif rank.rank in look.holding_up:
        glyph, glyph_style = GLYPHS["warning"], PALETTE.warning
    start: list[Piece] = [
        (right(str(rank.rank), 4) + " ", PALETTE.dim),
        (fit(where, look.name - 2), PALETTE.text),
        (glyph + " ", glyph_style),
    ]
    if rank.failure:
        return line(width, *start, (untrusted(rank.failure), PALETTE.critical))
    size = right(UNKNOWN if rank.local_batch_size is None else str(rank.local_batch_size), 5) + " "
    start += [
        (size, PALETTE.strong),
        (bar((rank.local_batch_size or 0) / look.largest if look.largest else None, look.share), PALETTE.bar_past),
    ]
    if rank.compute_seconds is None:
        word = "waiting for its first step" if rank.is_joined else "joining"
        return line(width, *start, (f"  {word}", PALETTE.dim))
    seconds = 0.0 if rank.at is None or not look.is_stepping else state.at - rank.at
    late = "" if seconds < LATE else f" {GLYPHS['stale']} {age(seconds)}"
    waits = rank.wait_seconds or 0.0
    return line(
        width,
        *start,
        (right(milliseconds(rank.compute_seconds), 7), PALETTE.text),
        (right(milliseconds(rank.wait_seconds), 5) + "  ", PALETTE.wait if waits > 0.15 * _step(rank) else PALETTE.dim),
        *stacked(
            ((rank.compute_seconds, BLOCK, PALETTE.bar), (waits, "░", PALETTE.wait)), look.scale, max(0, look.bars - len(late))
        ),
        (late, PALETTE.warning),
    )
