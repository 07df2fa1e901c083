"""A terminal driver that sends the same picture in fewer bytes, for slow links, and takes any byte of the keyboard.

Textual writes the whole style before each piece of text and a reset after it. A terminal keeps its SGR state, so it is enough to
send what changes.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache, partial
from typing import Any, NamedTuple

from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

from .cast import CastWriter


def _lenient_decoder(encoding: str) -> Any:
    """As ``codecs.getincrementaldecoder``; a byte that is no text becomes U+FFFD."""
    return partial(codecs.getincrementaldecoder(encoding), "replace")


# Textual's own decoder ends the input thread, and so the program, at such a byte.
setattr(linux_driver, "getincrementaldecoder", _lenient_decoder)  # noqa: B010 - the name is imported there, not exported

SGR_OR_CURSOR_MOVE = re.compile(r"(\x1b\[[0-9;]*[mH])")
ATTRIBUTE_OFF_CODES = {
    "1": "22",
    "2": "22",
    "3": "23",
    "4": "24",
    "5": "25",
    "6": "25",
    "7": "27",
    "8": "28",
    "9": "29",
    "21": "24",
    "53": "55",
}
"""SGR codes of attributes, and the code that ends each (ECMA-48, 8.3.117)."""


class SgrState(NamedTuple):
    """Style of the next character, as SGR parameters; empty: the terminal's default."""

    foreground: str = ""
    background: str = ""
    attributes: frozenset[str] = frozenset()


DEFAULT_SGR = SgrState()


class CompactDriver(LinuxDriver):
    """The driver for Linux and macOS, sending only changes of the SGR state."""

    def write(self, data: str) -> None:
        shown = minimize_sgr(data)
        super().write(shown)
        cast: CastWriter | None = getattr(self._app, "cast", None)
        if cast is not None:
            cast.output(shown)


def minimize_sgr(data: str) -> str:
    """Rewrite terminal output so that it draws the same with fewer SGR codes. Pure.

    Output that does not end in the default state, or that has unknown codes, is returned unchanged.
    """
    current = target = DEFAULT_SGR
    output: list[str] = []
    for token in SGR_OR_CURSOR_MOVE.split(data):
        if not token:
            continue
        if token[0] == "\x1b" and token[-1] == "m" and SGR_OR_CURSOR_MOVE.fullmatch(token):
            pen = _apply_sgr(target, token[2:-1])
            if pen is None:
                return data
            target = pen
            continue
        if current != target and not (token[0] == "\x1b" and token[-1] == "H"):  # a cursor move draws nothing
            output.append(_transition(current, target))
            current = target
        output.append(token)
    if target != DEFAULT_SGR:
        return data
    if current != DEFAULT_SGR:
        output.append(_transition(current, DEFAULT_SGR))
    return "".join(output)


@lru_cache(4096)
def _apply_sgr(state: SgrState, parameters: str) -> SgrState | None:
    """The state after these SGR parameters; None: a parameter is unknown."""
    foreground, background, attributes = state
    codes = parameters.split(";")
    while codes:
        code = codes.pop(0)
        if code in ("", "0"):
            foreground, background, attributes = DEFAULT_SGR
        elif code in ATTRIBUTE_OFF_CODES:
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
    return SgrState(foreground, background, attributes)


@lru_cache(4096)
def _transition(current: SgrState, target: SgrState) -> str:
    """The shorter code from one state to another: the differences, or a reset followed by the whole target."""
    reset = ["", *sorted(target.attributes), target.foreground, target.background]
    ended = {ATTRIBUTE_OFF_CODES[code] for code in current.attributes - target.attributes}
    started = {code for code in target.attributes if code not in current.attributes or ATTRIBUTE_OFF_CODES[code] in ended}
    changes = sorted(ended) + sorted(started)
    if current.foreground != target.foreground:
        changes.append(target.foreground or "39")
    if current.background != target.background:
        changes.append(target.background or "49")
    full = ";".join(code for index, code in enumerate(reset) if code or not index)
    return f"\x1b[{min(';'.join(changes), full, key=len)}m"
