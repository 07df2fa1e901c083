"""Draws rows of terminal cells as pixels: characters by a font, lines and blocks exactly, so that they meet between cells.

Needs Pillow and DejaVu Sans Mono, which Matplotlib brings: the extra ``reports``. Both are imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.errors import UsageError
from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme

if TYPE_CHECKING:
    from PIL.Image import Image

FONT_PIXELS = 15
"""Size of the font: cells of 9 x 18 pixels."""
SYSTEM_FONTS = (Path("/usr/share/fonts/truetype/dejavu"), Path("/usr/share/fonts/TTF"), Path("/usr/share/fonts/dejavu"))
REGULAR, BOLD = "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"
Rgb = tuple[int, int, int]
NIGHT_THEME = TerminalTheme((14, 18, 23), (213, 219, 227), [(0, 0, 0)] * 8)
"""Colours of cells whose style names none."""
_EIGHTHS = {chr(0x2581 + number): (number + 1) / 8 for number in range(8)}
"""Blocks that grow from below, as a part of the cell's height."""
_LEFT_EIGHTHS = {chr(0x258F - number): (number + 1) / 8 for number in range(7)}
"""Blocks that grow from the left."""
_SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}
_LINES = {
    "─": "lr", "━": "lr", "│": "ud", "┃": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "rud", "┤": "lud",
    "┬": "lrd", "┴": "lru", "┼": "lrud", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu", "╸": "l",
}  # fmt: skip
"""Box drawing, by the sides of the cell that a line reaches."""
_THICK = "━┃╸"


@dataclass(frozen=True, slots=True)
class ScreenCell:
    """One character, with the colours that it is seen in."""

    text: str
    columns: int
    foreground: Rgb
    background: Rgb
    is_bold: bool = False
    is_underlined: bool = False


def cells_of(row: Sequence[Segment], ground: Rgb) -> Iterator[ScreenCell]:
    """The cells of a row of the screen. ``ground``: colour behind cells that have none."""
    for text, style, control in row:
        if control:
            continue
        foreground, background, is_bold, is_underlined = _colours(style or Style.null(), ground)
        for character in text:
            if columns := cell_len(character):
                yield ScreenCell(character, columns, foreground, background, is_bold, is_underlined)


@lru_cache(4096)
def _colours(style: Style, ground: Rgb) -> tuple[Rgb, Rgb, bool, bool]:
    foreground = _rgb(style.color, NIGHT_THEME.foreground_color)
    background = _rgb(style.bgcolor, ground)
    if style.reverse:
        foreground, background = background, foreground
    if style.dim:
        foreground = _mixed(foreground, background, 0.6)
    return foreground, background, bool(style.bold), bool(style.underline)


def _rgb(color: RichColor | None, default: Sequence[int]) -> Rgb:
    if color is None or color.is_default:
        red, green, blue = default
    else:
        red, green, blue = color.get_truecolor()
    return red, green, blue


def _mixed(over: Rgb, under: Rgb, part: float) -> Rgb:
    red, green, blue = (round(part * one + (1 - part) * other) for one, other in zip(over, under, strict=True))
    return red, green, blue


def draw(rows: Sequence[Sequence[Segment]], columns: int, ground: Rgb, scale: int = 1) -> Image:
    """The picture of a screen. ``scale``: pixels for each pixel, for sharp print. Raises UsageError without font or library."""
    pillow, fonts = _tools(FONT_PIXELS * scale)
    width, height = round(fonts[0].getlength("M")), sum(fonts[0].getmetrics())
    image = pillow.Image.new("RGB", (columns * width, len(rows) * height), ground)
    pen = pillow.ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        x, y = 0, number * height
        for cell in cells_of(row, ground):
            box = (x, y, x + cell.columns * width, y + height)
            if cell.background != ground:
                pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=cell.background)
            if cell.text != " ":
                _draw_cell(pen, cell, box, fonts, scale)
            if cell.is_underlined:
                pen.rectangle((box[0], box[3] - 2 * scale, box[2] - 1, box[3] - scale - 1), fill=cell.foreground)
            x += cell.columns * width
    drawn: Image = image
    return drawn


def _draw_cell(pen: Any, cell: ScreenCell, box: tuple[int, int, int, int], fonts: Sequence[Any], scale: int) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if cell.text in _EIGHTHS:
        pen.rectangle((left, bottom - max(1, round(height * _EIGHTHS[cell.text])), right - 1, bottom - 1), fill=cell.foreground)
    elif cell.text in _LEFT_EIGHTHS:
        pen.rectangle((left, top, left + max(1, round(width * _LEFT_EIGHTHS[cell.text])) - 1, bottom - 1), fill=cell.foreground)
    elif cell.text == "▀":
        pen.rectangle((left, top, right - 1, top + height // 2 - 1), fill=cell.foreground)
    elif cell.text in _SHADES:
        pen.rectangle((left, top, right - 1, bottom - 1), fill=_mixed(cell.foreground, cell.background, _SHADES[cell.text]))
    elif cell.text in _LINES:
        _draw_lines(pen, cell, box, (2 if cell.text in _THICK else 1) * scale)
    elif "\u2800" <= cell.text <= "\u28ff":
        _draw_braille(pen, cell, box)
    else:
        pen.text((left, top), cell.text, font=fonts[cell.is_bold], fill=cell.foreground)


def _draw_lines(pen: Any, cell: ScreenCell, box: tuple[int, int, int, int], thickness: int) -> None:
    left, top, right, bottom = box
    x, y = (left + right) // 2, (top + bottom) // 2
    ends = {
        "l": (left, y, x + thickness - 1, y + thickness - 1),
        "r": (x, y, right - 1, y + thickness - 1),
        "u": (x, top, x + thickness - 1, y + thickness - 1),
        "d": (x, y, x + thickness - 1, bottom - 1),
    }
    for side in _LINES[cell.text]:
        pen.rectangle(ends[side], fill=cell.foreground)


def _draw_braille(pen: Any, cell: ScreenCell, box: tuple[int, int, int, int]) -> None:
    """Dots 1 to 8 are bits 0 to 7 of the character: down the left column, down the right one, then the two of the last line."""
    left, top, right, bottom = box
    bits = ord(cell.text) - 0x2800
    places = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    size = max(1, (right - left) // 5)
    for number, (column, line) in enumerate(places):
        if bits >> number & 1:
            x = left + round((column + 0.5) * (right - left) / 2) - size // 2 - size % 2
            y = top + round((line + 0.5) * (bottom - top) / 4) - size // 2
            pen.rectangle((x, y, x + size - 1 + size % 2, y + size), fill=cell.foreground)


@lru_cache(4)
def _tools(pixels: int) -> tuple[Any, tuple[Any, Any]]:
    """Pillow, and the regular and the bold font. Raises UsageError that names what is missing."""
    hint = "pip install 'paceline[reports]', or name a file that ends in .svg"
    try:
        import PIL.Image
        import PIL.ImageDraw
        import PIL.ImageFont
    except ImportError:
        raise UsageError("a picture in PNG or GIF needs Pillow", hint=hint) from None
    folder = _font_folder()
    if folder is None:
        raise UsageError(f"a picture in PNG or GIF needs the font {REGULAR}", hint=hint)
    regular, bold = (PIL.ImageFont.truetype(str(folder / name), pixels) for name in (REGULAR, BOLD))
    return PIL, (regular, bold)


def _font_folder() -> Path | None:
    """Where DejaVu Sans Mono lies: with Matplotlib, which is not imported for that, else with the fonts of the system."""
    from importlib.util import find_spec

    spec = find_spec("matplotlib")
    found = [Path(place) / "mpl-data" / "fonts" / "ttf" for place in (spec.submodule_search_locations or ())] if spec else []
    return next((folder for folder in (*found, *SYSTEM_FONTS) if (folder / REGULAR).exists() and (folder / BOLD).exists()), None)
