"""Lines for terminals that know ASCII only: every sign of ours has a plain twin of the same width; foreign letters become ``?``."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.scrollbar import ScrollBarRender

_TWINS = {
    **dict(zip("●✔▶↻◌■▲▼✖·◇", "o+>~?#!vX.<", strict=True)),
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-=+*#", strict=True)),
    **dict(zip("▏▎▍▌▋▊▉", "|||####", strict=True)),
    **dict(zip("░▒▓▀", '/:%"', strict=True)),
    **dict(zip("┈┊", ".:", strict=True)),
    **dict(zip("━─╸│┃┌┐└┘├┤┬┴┼╭╮╰╯", "=--||" + 13 * "+", strict=True)),
    **dict(zip("←↑→↓↵", "<^>v<", strict=True)),
    **dict(zip("—–×−±°µ…“”’‹›", '--x-~ou~""\'<>', strict=True)),
}
_TABLE = str.maketrans(_TWINS)


def to_ascii(text: str) -> str:
    """The same text in ASCII, cell for cell: a braille pattern by how full it is, a wide letter as two marks."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else _plain(c) for c in text.translate(_TABLE))


def _plain(character: str) -> str:
    if "\u2800" <= character <= "\u28ff":
        return " .:-=+*%#"[(ord(character) - 0x2800).bit_count()]
    return "?" * cell_len(character)


class PlainBars(ScrollBarRender):
    """Scroll bars whose ends are cells and not eighths of them."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


class ToAscii(LineFilter):
    """The last step of every line that is drawn, whoever drew it: frames and dialogs of Textual's are lines as well."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells in the same styles."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]
