"""The ranks of a run: each one's share, and its step as compute and wait on a common scale. Pure."""

from __future__ import annotations

from paceline.engine.store.questions import imbalance_now
from paceline.engine.store.state import RankState, State
from textual.strip import Strip

from ..format import UNKNOWN, age, fit, milliseconds, percent, right, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .lines import BLOCK, Piece, bar, line, nice_ceiling, stacked

SLOW = 1.15
"""A rank whose compute seconds exceed the median by this factor holds the others up visibly."""


def rank_lines(view: View, width: int, height: int) -> list[Strip]:
    """One line a rank: its share, and its step as compute and wait on a common scale."""
    run = view.run
    if run is None or not run.ranks:
        return [line(width, ("the ranks appear here once a run is planned", PALETTE.dim))]
    ranks = sorted(run.ranks.values(), key=lambda rank: rank.rank)
    name = min(28, max(14, width // 4))
    share = max(6, min(14, width // 9))
    bars = width - (5 + name + 5 + share + 1 + 6 + 6 + 2)
    longest = max((_step(rank) for rank in ranks), default=0.0)
    scale = nice_ceiling(longest * 1.02) if longest > 0 else 1.0
    heading = f"rank {fit('device', name)}{fit('batch', share + 6)}{right('compute', 7)}{right('wait', 5)}  "
    lines = [line(width, (heading, PALETTE.dim), (_scale(scale, bars) if longest > 0 else "", PALETTE.dim))]
    room = max(1, height - 2)
    slow = _holding_up(ranks)
    largest = max((rank.local_batch_size or 0 for rank in ranks), default=0)
    for rank in ranks if len(ranks) <= room else _worst(ranks, room - 1):
        lines.append(_rank_line(view.state, rank, width, name, share, bars, scale, largest, rank.rank in slow))
    if len(ranks) > room:
        lines.append(line(width, (f"+{len(ranks) - room + 1} ranks that wait longer hidden", PALETTE.dim)))
    uneven = imbalance_now(run)
    end = [("compute ", PALETTE.dim), (BLOCK, PALETTE.bar), ("  wait ", PALETTE.dim), ("░", PALETTE.wait)]
    if uneven is not None:
        end.append((f"   imbalance {percent(uneven)}", PALETTE.text if uneven < 0.2 else PALETTE.warning))
    if len(lines) < height:
        lines.append(line(width, (" " * max(0, width - sum(len(text) for text, _ in end)), PALETTE.dim), *end))
    return lines


def _step(rank: RankState) -> float:
    return max(0.0, rank.compute_seconds or 0.0) + max(0.0, rank.wait_seconds or 0.0)


def _worst(ranks: list[RankState], amount: int) -> list[RankState]:
    """Those the others wait for, in the order of ranks."""
    kept = sorted(ranks, key=lambda rank: -(rank.compute_seconds or 0.0))[: max(0, amount)]
    return sorted(kept, key=lambda rank: rank.rank)


def _holding_up(ranks: list[RankState]) -> set[int]:
    """The ranks that the others visibly wait for."""
    seconds = sorted(rank.compute_seconds for rank in ranks if rank.compute_seconds is not None)
    median = seconds[(len(seconds) - 1) // 2] if seconds else 0.0
    return {rank.rank for rank in ranks if median > 0 and (rank.compute_seconds or 0.0) > SLOW * median}


def _scale(scale: float, width: int) -> str:
    """``0      200      400 ms`` over the bars."""
    middle, end = milliseconds(scale / 2), f"{milliseconds(scale)} ms"
    if width < len(middle) + len(end) + 6:
        return right(end, width)
    half = fit("0", width // 2 - len(middle) // 2) + middle
    return half + right(end, width - len(half))


def _rank_line(
    state: State, rank: RankState, width: int, name: int, share: int, bars: int, scale: float, largest: int, is_slow: bool
) -> Strip:
    where = f"{untrusted(rank.node)} {untrusted(rank.device_name)}".strip()
    node = state.nodes.get(rank.node)
    glyph, glyph_style = " ", PALETTE.text
    if rank.failure:
        glyph, glyph_style = GLYPHS["failed"], PALETTE.critical
    elif node is not None and node.state in ("stale", "lost", "refused"):
        glyph, glyph_style = GLYPHS[node.state], PALETTE.of(node.state)
    elif is_slow:
        glyph, glyph_style = GLYPHS["warning"], PALETTE.warning
    start: list[Piece] = [
        (right(str(rank.rank), 4) + " ", PALETTE.dim),
        (fit(where, name - 2), PALETTE.text),
        (glyph + " ", glyph_style),
    ]
    if rank.failure:
        return line(width, *start, (untrusted(rank.failure), PALETTE.critical))
    size = right(UNKNOWN if rank.local_batch_size is None else str(rank.local_batch_size), 5) + " "
    start += [(size, PALETTE.strong), (bar((rank.local_batch_size or 0) / largest if largest else None, share), PALETTE.bar_past)]
    if rank.compute_seconds is None:
        word = "waiting for its first step" if rank.is_joined else "joining"
        return line(width, *start, (f"  {word}", PALETTE.dim))
    late = "" if rank.at is None or state.at - rank.at < 10 else f" {GLYPHS['stale']} {age(state.at - rank.at)}"
    waits = rank.wait_seconds or 0.0
    return line(
        width,
        *start,
        (right(milliseconds(rank.compute_seconds), 7), PALETTE.text),
        (right(milliseconds(rank.wait_seconds), 5) + "  ", PALETTE.wait if waits > 0.15 * _step(rank) else PALETTE.dim),
        *stacked(((rank.compute_seconds, BLOCK, PALETTE.bar), (waits, "░", PALETTE.wait)), scale, max(0, bars - len(late))),
        (late, PALETTE.warning),
    )
