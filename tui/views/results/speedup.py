"""The chart of a comparison: a bar a policy, the bound that no sharing can pass, and where the prediction stood. Pure."""

from __future__ import annotations

from rich.style import Style
from textual.strip import Strip

from ...terminal.format import pad, pad_left, ratio
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import BLOCK, NONE, Piece, line
from .policies import PolicyRow

BOUND, FORESEEN = "│", "◇"
_NAME, _VALUE = 16, 8
_WORDS = {"waiting": "waits for its turn", "measuring": "each device is measured alone", "running": "training"}


def speedup_lines(rows: list[PolicyRow], limit: float | None, width: int) -> list[Strip]:
    """Speed-up over equal shares, of what is known; over the best device alone where equal shares are not among the cases.

    ``limit``: samples per second of all devices at their own pace; None: not known yet.
    """
    base, whose = _base(rows)
    if base is None:
        return _states(rows, width)
    bound = None if limit is None else limit / base
    ratios = [None if row.rate is None else row.rate / base for row in rows]
    foreseen = [None if row.predicted is None else row.predicted / base for row in rows]
    scale = max([1.0, *(value for value in (bound, *ratios, *foreseen) if value is not None)])
    room = max(10, width - _NAME - _VALUE - 3)
    best = max((value for value in ratios if value is not None), default=None)
    lines = [line(width, (f"speed-up over {whose}", PALETTE.dim))]
    for row, value, expected in zip(rows, ratios, foreseen, strict=True):
        is_best = value is not None and value == best and len(rows) > 1
        style = PALETTE.bar if is_best else PALETTE.bar_past
        cells: list[Piece] = [
            (pad(f"  {row.policy}", _NAME), PALETTE.accent_strong if is_best else PALETTE.text),
            (pad_left(ratio(value), _VALUE) + "  ", PALETTE.strong if is_best else PALETTE.text),
        ]
        if value is None and expected is None:
            cells.append((_WORDS.get(row.state, ""), PALETTE.dim))
        else:
            cells += _bar(value, expected, bound, scale, room, style)
        lines.append(line(width, *cells))
    legend: list[Piece] = [(" " * (_NAME + _VALUE + 2), NONE)]
    if bound is not None:
        words = f"{ratio(bound)} the limit" + (": all devices at their own pace" if width >= 100 else "")
        legend += [(f"{BOUND} ", PALETTE.accent), (words, PALETTE.dim)]
    else:
        legend.append(("the limit is known when each device was measured alone", PALETTE.dim))
    if any(value is not None for value in foreseen):
        legend += [(f"   {FORESEEN} ", PALETTE.accent), ("predicted", PALETTE.dim)]
    return [*lines, line(width, *legend)]


def _base(rows: list[PolicyRow]) -> tuple[float | None, str]:
    """Samples per second that are 1x, and what that is."""
    for row in rows:
        if row.rate and row.over_equal is not None and row.over_equal > 0:
            return row.rate / row.over_equal, "equal shares"
    for row in rows:
        if row.rate and row.over_best is not None and row.over_best > 0:
            return row.rate / row.over_best, "the best device alone"
    return None, ""


def _states(rows: list[PolicyRow], width: int) -> list[Strip]:
    """Nothing can be compared yet: what each policy is about."""
    told = [(row, _WORDS[row.state]) for row in rows if row.state in _WORDS]
    return [
        line(
            width,
            (f"{GLYPHS.get(row.state, ' ')} ", PALETTE.accent),
            (pad(row.policy, _NAME - 2), PALETTE.text),
            (words, PALETTE.dim),
        )
        for row, words in told
    ]


def _bar(value: float | None, expected: float | None, bound: float | None, scale: float, room: int, style: Style) -> list[Piece]:
    """A bar up to its value, dots on to the bound, and a mark where the prediction stood."""

    def place(amount: float) -> int:
        return min(room - 1, max(0, round(amount / scale * (room - 1))))

    filled = 0 if value is None else max(1, place(value))
    end = filled if bound is None else place(bound)
    cells = [(BLOCK if at < filled else "·" if at < end else " ") for at in range(room)]
    marks = {} if bound is None else {end: (BOUND, PALETTE.accent)}
    if expected is not None:
        marks[place(expected)] = (FORESEEN, PALETTE.accent)
    return [marks.get(at, (sign, style if sign == BLOCK else PALETTE.rest)) for at, sign in enumerate(cells)]
