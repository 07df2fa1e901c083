"""The speed-up chart: a bar per policy, the limit set by the standalone rates, and the predictions. Pure."""

from __future__ import annotations

from rich.style import Style
from textual.strip import Strip

from ...terminal.format import pad, pad_left, ratio
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import FULL_BLOCK, NO_STYLE, Piece, line
from .policies import PolicyRow

LIMIT_SIGN, PREDICTION_SIGN = "│", "◇"
_NAME_COLUMNS, _VALUE_COLUMNS = 16, 8
_STATE_TEXTS = {"waiting": "waits for its turn", "measuring": "each device is measured alone", "running": "training"}


def speedup_lines(rows: list[PolicyRow], limit: float | None, width: int, *, is_exceeded: bool = False) -> list[Strip]:
    """Speed-up over equal shares; over the best single device where no case has equal shares.

    ``limit``: sum of the standalone rates in samples per second; None: unknown. ``is_exceeded``: it is unknown because a policy
    measured more.
    """
    baseline, baseline_name = _baseline(rows)
    if baseline is None:
        return _state_lines(rows, width)
    bound = None if limit is None else limit / baseline
    ratios = [None if row.samples_per_second is None else row.samples_per_second / baseline for row in rows]
    predicted = [None if row.predicted_samples_per_second is None else row.predicted_samples_per_second / baseline for row in rows]
    scale = max([1.0, *(value for value in (bound, *ratios, *predicted) if value is not None)])
    room = max(10, width - _NAME_COLUMNS - _VALUE_COLUMNS - 3)
    best = max((value for value in ratios if value is not None), default=None)
    lines = [line(width, (f"speed-up over {baseline_name}", PALETTE.dim))]
    for row, value, expected in zip(rows, ratios, predicted, strict=True):
        is_best = value is not None and value == best and len(rows) > 1
        style = PALETTE.bar if is_best else PALETTE.bar_past
        cells: list[Piece] = [
            (pad(f"  {row.policy}", _NAME_COLUMNS), PALETTE.accent_strong if is_best else PALETTE.text),
            (pad_left(ratio(value), _VALUE_COLUMNS) + "  ", PALETTE.strong if is_best else PALETTE.text),
        ]
        if value is None and expected is None:
            cells.append((_STATE_TEXTS.get(row.state, ""), PALETTE.dim))
        else:
            cells += _bar(value, expected, bound, scale, room, style)
        lines.append(line(width, *cells))
    legend: list[Piece] = [(" " * (_NAME_COLUMNS + _VALUE_COLUMNS + 2), NO_STYLE)]
    if bound is not None:
        limit_text = f"{ratio(bound)} the limit" + (": all devices at their own pace" if width >= 100 else "")
        legend += [(f"{LIMIT_SIGN} ", PALETTE.accent), (limit_text, PALETTE.dim)]
    else:
        why = "is known when each device was measured alone"
        if is_exceeded:
            why = "is unknown: a policy was faster than all devices alone together"
        legend.append((f"the limit {why}", PALETTE.dim))
    if any(value is not None for value in predicted):
        legend += [(f"   {PREDICTION_SIGN} ", PALETTE.accent), ("predicted", PALETTE.dim)]
    return [*lines, line(width, *legend)]


def _baseline(rows: list[PolicyRow]) -> tuple[float | None, str]:
    """Samples per second of a speed-up of 1, and the name of that baseline."""
    for row in rows:
        if row.samples_per_second and row.speedup_over_equal is not None and row.speedup_over_equal > 0:
            return row.samples_per_second / row.speedup_over_equal, "equal shares"
    for row in rows:
        if row.samples_per_second and row.speedup_over_best is not None and row.speedup_over_best > 0:
            return row.samples_per_second / row.speedup_over_best, "the best device alone"
    return None, ""


def _state_lines(rows: list[PolicyRow], width: int) -> list[Strip]:
    """The state of each policy, while nothing can be compared yet."""
    unfinished = [(row, _STATE_TEXTS[row.state]) for row in rows if row.state in _STATE_TEXTS]
    return [
        line(
            width,
            (f"{GLYPHS.get(row.state, ' ')} ", PALETTE.accent),
            (pad(row.policy, _NAME_COLUMNS - 2), PALETTE.text),
            (state_text, PALETTE.dim),
        )
        for row, state_text in unfinished
    ]


def _bar(value: float | None, expected: float | None, bound: float | None, scale: float, room: int, style: Style) -> list[Piece]:
    """A bar up to its value, dots up to the limit, and a mark at the prediction."""

    def column_of(amount: float) -> int:
        return min(room - 1, max(0, round(amount / scale * (room - 1))))

    filled = 0 if value is None else max(1, column_of(value))
    end = filled if bound is None else column_of(bound)
    cells = [(FULL_BLOCK if at < filled else "·" if at < end else " ") for at in range(room)]
    marks = {} if bound is None else {end: (LIMIT_SIGN, PALETTE.accent)}
    if expected is not None:
        marks[column_of(expected)] = (PREDICTION_SIGN, PALETTE.accent)
    return [marks.get(at, (sign, style if sign == FULL_BLOCK else PALETTE.rest)) for at, sign in enumerate(cells)]
