"""Formats of values for people, and ``sanitize``, through which all remote text reaches a screen."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

from rich.cells import cell_len, set_cell_size

UNKNOWN = "—"
"""Shown for an unknown value, which is never 0 and never empty."""
_REJECTED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are not visible and control a terminal or the direction of text instead."""

_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u3164\uffa0")
"""Hangul fillers: letters without a visible shape."""


def sanitize(text: object, width: int = 500) -> str:
    """Remote text made safe to draw: one line, no control, bidirectional or invisible characters, at most ``width`` characters.

    Combining marks are dropped too, because any number of them fits into one cell. Markup is left in: nothing parses it.
    """
    if isinstance(text, str) and len(text) <= width and text.isascii() and text.isprintable():
        return text
    full = str(text)
    cut = full[: 4 * width].replace("\n", " ").replace("\t", " ")
    visible = "".join(c for c in cut if (c.isprintable() if c.isascii() else _is_visible(c)))
    return visible if len(visible) <= width and len(full) <= 4 * width else visible[: width - 1] + "…"


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in _REJECTED_CATEGORIES and character not in _INVISIBLE_LETTERS and not category.startswith("M")


def pad(text: str, width: int) -> str:
    """The text in exactly ``width`` cells: truncated with an ellipsis, or filled with spaces."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    return text + " " * (width - length)


def pad_left(text: str, width: int) -> str:
    """The text in exactly ``width`` cells, aligned to the right."""
    return pad(text, width) if cell_len(text) >= width else " " * (width - cell_len(text)) + text


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separators."""
    if value is None:
        return UNKNOWN
    return f"{value:,.{digits}f}" if abs(value) < 1e15 else f"{value:.2g}"


def tflops(value: float | None) -> str:
    """TFLOPS with at least two significant digits: a processor has less than a tenth of one."""
    return UNKNOWN if value is None else number(value, 1) if abs(value) >= 1 else f"{value:.2g}"


def percent(fraction: float | None) -> str:
    """``0.41`` as ``41 %``."""
    return UNKNOWN if fraction is None else f"{fraction * 100:.0f} %"


def ratio(value: float | None) -> str:
    """``2.17`` as ``2.17x``."""
    return UNKNOWN if value is None else f"{value:.2f}x"


def milliseconds(seconds: float | None) -> str:
    """A step time in milliseconds, without the unit."""
    return UNKNOWN if seconds is None else f"{seconds * 1000:,.0f}"


def loss(value: float | None) -> str:
    """A loss with three significant digits."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}"


def memory(used: int | None, total: int | None) -> str:
    """``3.6 / 12 GiB``."""
    gib = 1024**3
    if total is None and used is None:
        return UNKNOWN
    total_text = UNKNOWN if total is None else f"{total / gib:.0f} GiB" if total >= gib else f"{total / 1024**2:.0f} MiB"
    used_text = UNKNOWN if used is None else f"{used / gib:.1f}" if total is None or total >= gib else f"{used / 1024**2:.0f}"
    return f"{used_text} / {total_text}"


def size(amount: int) -> str:
    """A size in bytes as ``3.6 GiB``."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if amount >= unit:
            return f"{amount / unit:.1f} {name}"
    return f"{amount} B"


def duration(seconds: float | None) -> str:
    """``61`` as ``1:01``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    total = max(0, round(seconds))
    hours, rest = divmod(total, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def age(seconds: float) -> str:
    """An age in seconds as ``9 s``, ``4 min`` or ``2 h``."""
    if not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 120:
        return f"{max(0, int(seconds))} s"
    return f"{int(seconds // 60)} min" if seconds < 7200 else f"{int(seconds // 3600)} h"


def clock(seconds: float | None) -> str:
    """Local wall clock time, ``14:02:31``."""
    return local_time(seconds, "%H:%M:%S") or "--:--:--"


def local_time(seconds: float | None, form: str) -> str:
    """Local time in a format of strftime; empty where the time is unknown or out of range, as a remote node may send it."""
    try:
        return "" if seconds is None else datetime.fromtimestamp(seconds).strftime(form)
    except (OverflowError, ValueError, OSError):
        return ""


def count(amount: int, one: str, many: str = "") -> str:
    """``1 node``, ``4 nodes``."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"
