"""The phases of a step, from the result document: a bar per policy or rank, and the bottleneck with its remedy. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from paceline.engine.reports.json_fields import listed, numeric
from paceline.engine.reports.phases import COMPUTE, PHASE_NAMES, PHASES, bottleneck_sentence
from rich.style import Style
from textual.strip import Strip

from ...terminal.format import milliseconds, pad, pad_left, percent, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import FULL_BLOCK, NO_STYLE, Piece, line, stacked_bar

MAX_RANK_BARS = 16
"""Largest number of ranks with a bar of their own."""
_NAME_COLUMNS, _MEAN_COLUMNS = 24, 10
_MAX_PHASE_S = 1e6
"""Longer phases are treated as invalid."""
_PHASE_SIGNS = dict(zip(PHASES, ("▒", "▄", "▓", "▅", FULL_BLOCK, "·", "░", "▀"), strict=True))
PhaseSeconds = dict[str, float]
"""Seconds by phase."""


def phase_lines(document: Mapping[str, Any], width: int, max_width: int) -> list[Strip]:
    """Bars of the phases; none where no phases are known. The bars of a benchmark are means over ranks, those of a training run are
    per rank."""
    cases = listed(document, "cases")
    by_rank = {sanitize(case.get("policy", "")): _steps(case) for case in cases or [document]}
    bars: list[tuple[str, PhaseSeconds]]
    if cases:
        bars = [(policy, _mean(list(steps.values()))) for policy, steps in by_rank.items() if steps]
    else:
        bars = list(next(iter(by_rank.values())).items())[:MAX_RANK_BARS]
    scale = max((sum(step.values()) for _, step in bars), default=0.0)
    if scale <= 0:
        return []
    room = max(10, min(width, max_width) - _NAME_COLUMNS - _MEAN_COLUMNS - 4)
    head = pad("where a step goes", 2 + _NAME_COLUMNS) + pad_left("ms", _MEAN_COLUMNS) + ("  mean of the ranks" if cases else "")
    lines = [line(width), line(width, (head, PALETTE.dim))]
    for name, step in bars:
        parts = [(step.get(phase, 0.0), _PHASE_SIGNS[phase], _phase_style(phase)) for phase in PHASES]
        cells: list[Piece] = [
            (pad(f"  {name}", 2 + _NAME_COLUMNS), PALETTE.text),
            (pad_left(milliseconds(sum(step.values())), _MEAN_COLUMNS), PALETTE.text),
        ]
        lines.append(line(width, *cells, ("  ", NO_STYLE), *stacked_bar(parts, scale, room)))
    hidden = 0 if cases else len(next(iter(by_rank.values()))) - len(bars)
    if hidden > 0:
        lines.append(line(width, (f"  and {hidden} more ranks, in result.json", PALETTE.dim)))
    lines.append(_legend(_mean([step for _, step in bars]), width, has_shares=not cases and width >= 100))
    if not cases:
        return lines + _bottleneck_lines(document, "", min(width, max_width))
    for case in cases:
        lines += _bottleneck_lines(case, f"{sanitize(case.get('policy', ''))}: ", min(width, max_width))
    return lines


def _steps(case: Mapping[str, Any]) -> dict[str, PhaseSeconds]:
    """Phases by ``rank node``."""
    by_rank: dict[str, PhaseSeconds] = {}
    for entry in listed(case, "phases"):
        seconds, phase = numeric(entry.get("seconds")), entry.get("phase")
        if seconds is not None and 0.0 <= seconds < _MAX_PHASE_S and phase in PHASES:
            by_rank.setdefault(f"{sanitize(entry.get('rank', ''), 8)} {sanitize(entry.get('node', ''))}", {})[phase] = seconds
    return by_rank


def _mean(steps: list[PhaseSeconds]) -> PhaseSeconds:
    return {phase: sum(step.get(phase, 0.0) for step in steps) / len(steps) for phase in PHASES} if steps else {}


def _legend(step: PhaseSeconds, width: int, *, has_shares: bool) -> Strip:
    """The legend of the bars, without phases below one percent."""
    total = sum(step.values())
    pieces: list[Piece] = [("  ", NO_STYLE)]
    for phase in PHASES:
        share = step.get(phase, 0.0) / total if total > 0 else 0.0
        if share >= 0.01:
            name = {"communication": "comm."}.get(phase, phase) if width < 120 else phase
            name = PHASE_NAMES.get(name, name)
            pieces += [(f"{_PHASE_SIGNS[phase]} ", _phase_style(phase)), (f"{name} ", PALETTE.dim)]
            pieces.append((f"{percent(share)}   " if has_shares else " ", PALETTE.text))
    return line(width, *pieces)


def _bottleneck_lines(case: Mapping[str, Any], prefix: str, width: int) -> list[Strip]:
    """The sentence about the bottleneck of a case, wrapped."""
    bottleneck = case.get("bottleneck")
    if not isinstance(bottleneck, Mapping) or numeric(bottleneck.get("share")) is None:
        return []
    bottleneck_fields = {name: bottleneck.get(name) for name in ("phase", "share", "rank", "node", "advice")}
    is_fine = bottleneck_fields["phase"] == COMPUTE
    if is_fine and prefix:
        return []  # of several policies only those with a bottleneck are listed
    sign: Piece = (f"{GLYPHS['done' if is_fine else 'warning']} ", PALETTE.ok if is_fine else PALETTE.warning)
    wrapped = textwrap.wrap(sanitize(prefix + bottleneck_sentence(bottleneck_fields)), max(20, width - 2)) or [""]
    return [line(width, sign if not row else ("  ", NO_STYLE), (text, PALETTE.text)) for row, text in enumerate(wrapped)]


def _phase_style(phase: str) -> Style:
    styles = {"forward": PALETTE.bar, "backward": PALETTE.bar, "host": PALETTE.warning, "wait": PALETTE.wait}
    return styles.get(phase, PALETTE.dim if phase == "communication" else PALETTE.bar_past)
