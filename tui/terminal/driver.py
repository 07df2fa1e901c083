"""What a terminal is sent: the same picture in fewer bytes, for a screen that is looked at from far away.

Each piece of text comes with its whole style before it and a reset behind it. A terminal keeps its pen, so what differs is enough.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from textual.drivers.linux_driver import LinuxDriver

STYLE_OR_MOVE = re.compile(r"(\x1b\[[0-9;]*[mH])")
OFF = {"1": "22", "2": "22", "3": "23", "4": "24", "5": "25", "6": "25", "7": "27", "8": "28", "9": "29", "21": "24", "53": "55"}
"""Attributes, and what ends them (ECMA-48, 8.3.117)."""


class Pen(NamedTuple):
    """With what the next character is drawn: parameters of SGR; empty: the terminal's own."""

    foreground: str = ""
    background: str = ""
    attributes: frozenset[str] = frozenset()


PLAIN = Pen()


class CompactDriver(LinuxDriver):
    """The terminal of Linux and macOS, told only how its pen changes."""

    def write(self, data: str) -> None:
        super().write(shortened(data))


def shortened(data: str) -> str:
    """The same cells in the same looks, by fewer bytes; what does not begin and end with a plain pen stays as it is. Pure."""
    has = wanted = PLAIN
    told: list[str] = []
    for token in STYLE_OR_MOVE.split(data):
        if not token:
            continue
        if token[0] == "\x1b" and token[-1] == "m" and STYLE_OR_MOVE.fullmatch(token):
            pen = _styled(wanted, token[2:-1])
            if pen is None:
                return data
            wanted = pen
            continue
        if has != wanted and not (token[0] == "\x1b" and token[-1] == "H"):  # a move draws nothing
            told.append(_change(has, wanted))
            has = wanted
        told.append(token)
    if wanted != PLAIN:
        return data
    if has != PLAIN:
        told.append(_change(has, PLAIN))
    return "".join(told)


@lru_cache(4096)
def _styled(pen: Pen, parameters: str) -> Pen | None:
    """The pen after these parameters; None: one that is not known here."""
    foreground, background, attributes = pen
    codes = parameters.split(";")
    while codes:
        code = codes.pop(0)
        if code in ("", "0"):
            foreground, background, attributes = PLAIN
        elif code in OFF:
            attributes |= {code}
        elif code in ("38", "48") and codes:
            size = {"5": 2, "2": 4}.get(codes[0], 0)
            if not size or len(codes) < size:
                return None
            colour = ";".join([code, *codes[:size]])
            del codes[:size]
            foreground, background = (colour, background) if code == "38" else (foreground, colour)
        elif code.isdigit() and (30 <= int(code) <= 37 or 90 <= int(code) <= 97):
            foreground = code
        elif code.isdigit() and (40 <= int(code) <= 47 or 100 <= int(code) <= 107):
            background = code
        elif code in ("39", "49"):
            foreground, background = ("", background) if code == "39" else (foreground, "")
        else:
            return None
    return Pen(foreground, background, attributes)


@lru_cache(4096)
def _change(has: Pen, wanted: Pen) -> str:
    """From one pen to another, by what is shorter: what differs, or all of it anew."""
    anew = ["", *sorted(wanted.attributes), wanted.foreground, wanted.background]
    ended = {OFF[code] for code in has.attributes - wanted.attributes}
    kept = {code for code in wanted.attributes if code not in has.attributes or OFF[code] in ended}
    differs = sorted(ended) + sorted(kept)
    if has.foreground != wanted.foreground:
        differs.append(wanted.foreground or "39")
    if has.background != wanted.background:
        differs.append(wanted.background or "49")
    all_of_it = ";".join(code for place, code in enumerate(anew) if code or not place)
    return f"\x1b[{min(';'.join(differs), all_of_it, key=len)}m"
