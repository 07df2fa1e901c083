"""Where the time of a step goes, as a result's document tells it: a bar a policy or a rank, and what to try next. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from paceline.engine.reports.phases import COMPUTE, PHASES, bottleneck_sentence
from rich.style import Style
from textual.strip import Strip

from ...command_line.json_fields import listed, numeric
from ...terminal.format import milliseconds, pad, pad_left, percent, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import BLOCK, NONE, Piece, line, stacked

MOST_RANKS = 16
"""Ranks of a training that have a bar each."""
_NAME, _MEAN = 24, 10
_SANE = 1e6
"""Seconds beyond which no clock can have meant it."""
_SIGNS = dict(zip(PHASES, ("▒", "▄", "▓", "▅", BLOCK, "·", "░", "▀"), strict=True))
Step = dict[str, float]
"""Seconds by phase."""


def phase_lines(document: Mapping[str, Any], width: int, widest: int) -> list[Strip]:
    """Nothing where no phases are known. A benchmark's bars are means over its ranks, a training's those of each rank."""
    cases = listed(document, "cases")
    by_rank = {untrusted(case.get("policy", "")): _steps(case) for case in cases or [document]}
    bars: list[tuple[str, Step]]
    if cases:
        bars = [(policy, _mean(list(steps.values()))) for policy, steps in by_rank.items() if steps]
    else:
        bars = list(next(iter(by_rank.values())).items())[:MOST_RANKS]
    scale = max((sum(step.values()) for _, step in bars), default=0.0)
    if scale <= 0:
        return []
    room = max(10, min(width, widest) - _NAME - _MEAN - 4)
    head = pad("where a step goes", 2 + _NAME) + pad_left("ms", _MEAN) + ("  mean of the ranks" if cases else "")
    lines = [line(width), line(width, (head, PALETTE.dim))]
    for name, step in bars:
        parts = [(step.get(phase, 0.0), _SIGNS[phase], _style(phase)) for phase in PHASES]
        cells: list[Piece] = [
            (pad(f"  {name}", 2 + _NAME), PALETTE.text),
            (pad_left(milliseconds(sum(step.values())), _MEAN), PALETTE.text),
        ]
        lines.append(line(width, *cells, ("  ", NONE), *stacked(parts, scale, room)))
    hidden = 0 if cases else len(next(iter(by_rank.values()))) - len(bars)
    if hidden > 0:
        lines.append(line(width, (f"  and {hidden} more ranks, in result.json", PALETTE.dim)))
    lines.append(_legend(_mean([step for _, step in bars]), width, has_shares=not cases and width >= 100))
    if not cases:
        return lines + _bottleneck(document, "", min(width, widest))
    for case in cases:
        lines += _bottleneck(case, f"{untrusted(case.get('policy', ''))}: ", min(width, widest))
    return lines


def _steps(case: Mapping[str, Any]) -> dict[str, Step]:
    """By rank and node."""
    found: dict[str, Step] = {}
    for entry in listed(case, "phases"):
        seconds, phase = numeric(entry.get("seconds")), entry.get("phase")
        if seconds is not None and 0.0 <= seconds < _SANE and phase in PHASES:
            found.setdefault(f"{untrusted(entry.get('rank', ''), 8)} {untrusted(entry.get('node', ''))}", {})[phase] = seconds
    return found


def _mean(steps: list[Step]) -> Step:
    return {phase: sum(step.get(phase, 0.0) for step in steps) / len(steps) for phase in PHASES} if steps else {}


def _legend(step: Step, width: int, *, has_shares: bool) -> Strip:
    """What the bars are made of; what takes less than one percent is left out."""
    whole = sum(step.values())
    pieces: list[Piece] = [("  ", NONE)]
    for phase in PHASES:
        share = step.get(phase, 0.0) / whole if whole > 0 else 0.0
        if share >= 0.01:
            name = {"communication": "comm.", "host-to-device": "copy"}.get(phase, phase) if width < 120 else phase
            pieces += [(f"{_SIGNS[phase]} ", _style(phase)), (f"{name} ", PALETTE.dim)]
            pieces.append((f"{percent(share)}   " if has_shares else " ", PALETTE.text))
    return line(width, *pieces)


def _bottleneck(case: Mapping[str, Any], whose: str, width: int) -> list[Strip]:
    """The sentence of a case, in as many lines as it needs."""
    found = case.get("bottleneck")
    if not isinstance(found, Mapping) or numeric(found.get("share")) is None:
        return []
    told = {name: found.get(name) for name in ("phase", "share", "rank", "node", "advice")}
    is_fine = told["phase"] == COMPUTE
    if is_fine and whose:
        return []  # of several policies those are told apart by what is wrong with them
    sign: Piece = (f"{GLYPHS['done' if is_fine else 'warning']} ", PALETTE.ok if is_fine else PALETTE.warning)
    wrapped = textwrap.wrap(untrusted(whose + bottleneck_sentence(told)), max(20, width - 2)) or [""]
    return [line(width, sign if not place else ("  ", NONE), (text, PALETTE.text)) for place, text in enumerate(wrapped)]


def _style(phase: str) -> Style:
    styles = {"forward": PALETTE.bar, "backward": PALETTE.bar, "host": PALETTE.warning, "wait": PALETTE.wait}
    return styles.get(phase, PALETTE.dim if phase == "communication" else PALETTE.bar_past)
