"""ASCII fallback: every glyph of the screens has an ASCII equivalent of the same width; other characters become ``?``."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.scrollbar import ScrollBarRender

_ASCII_EQUIVALENTS = {
    **dict(zip("●✔▶↻◌■▲▼✖·◇", "o+>~?#!vX.<", strict=True)),
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-=+*#", strict=True)),
    **dict(zip("▏▎▍▌▋▊▉", "|||####", strict=True)),
    **dict(zip("░▒▓▀", '/:%"', strict=True)),
    **dict(zip("┈┊", ".:", strict=True)),
    **dict(zip("━─╸│┃┌┐└┘├┤┬┴┼╭╮╰╯", "=--||" + 13 * "+", strict=True)),
    **dict(zip("←↑→↓↵", "<^>v<", strict=True)),
    **dict(zip("—–×−±°µ…“”’‹›", '--x-~ou~""\'<>', strict=True)),
}
_ASCII_TABLE = str.maketrans(_ASCII_EQUIVALENTS)


def to_ascii(text: str) -> str:
    """The text in ASCII, cell for cell: a braille pattern becomes a sign of similar density, a wide character two ``?``."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else _ascii_of(c) for c in text.translate(_ASCII_TABLE))


def _ascii_of(character: str) -> str:
    if "\u2800" <= character <= "\u28ff":
        return " .:-=+*%#"[(ord(character) - 0x2800).bit_count()]
    return "?" * cell_len(character)


class AsciiScrollBarRender(ScrollBarRender):
    """Scroll bars that end at whole cells instead of eighths of a cell."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


class AsciiFilter(LineFilter):
    """Converts every drawn line to ASCII as the last step, frames and dialogs of Textual included."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Convert the text of the segments; styles and widths stay."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]
