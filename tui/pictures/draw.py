"""Draws the screen in front of an app as SVG, PNG or a frame of an animated GIF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.errors import StorageFailed, UsageError
from rich.segment import Segment
from textual.app import App
from textual.color import Color

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".svg", ".png")


def rows_of(app: App[Any]) -> list[list[Segment]]:
    """What the screen shows, a list of segments a row."""
    return [list(strip) for strip in app.screen._compositor.render_strips()]


def picture_of(app: App[Any], scale: int = 1) -> Image:
    """The screen in pixels. Raises UsageError where a library or the font is missing."""
    from .raster import draw

    return draw(rows_of(app), app.size.width, ground_of(app), scale)


def ground_of(app: App[Any]) -> tuple[int, int, int]:
    """The colour behind everything, of the theme."""
    return Color.parse(app.current_theme.background or "#0e1217").rgb


def write_picture(app: App[Any], path: Path) -> None:
    """Write the screen as the suffix of the path says; never over a file. Raises UsageError or StorageFailed."""
    is_svg = check_suffix(path) == ".svg"
    write_new(path, app.export_screenshot(title="paceline", simplify=True).encode() if is_svg else png_bytes(picture_of(app)))


def check_suffix(path: Path) -> str:
    """The suffix of a picture. Raises UsageError for an unknown one."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: no picture of that kind", hint=f"a name that ends in {' or '.join(SUFFIXES)}")
    return suffix


def png_bytes(image: Image) -> bytes:
    """The image as PNG: with a palette where its colours fit into one, which takes a third of the bytes."""
    import io

    out = io.BytesIO()
    (image.quantize(256, dither=0) if image.getcolors(256) is not None else image).save(out, "PNG", optimize=True)
    return out.getvalue()


def gif_bytes(frames: Sequence[tuple[Image, float]]) -> bytes:
    """An animation that repeats: images with the seconds that each is shown. One palette for all, so that nothing flickers."""
    import io

    from PIL import Image

    images = [image for image, _ in frames]
    width, height = images[0].size
    sheet = Image.new("RGB", (width, height * len(images)))
    for number, image in enumerate(images):
        sheet.paste(image, (0, number * height))
    palette = sheet.quantize(255, dither=Image.Dither.NONE)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    out = io.BytesIO()
    durations = [round(seconds * 1000) for _, seconds in frames]
    first.save(out, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=False)
    return out.getvalue()


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet, for its owner only. Raises UsageError or StorageFailed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="choose another name") from None
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from None
