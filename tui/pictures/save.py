"""Saves the screen of a running app: drawn where it stands, written in a thread, told in the bottom bar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from paceline.engine.errors import PacelineError, UsageError
from textual.app import App

from ..messages import NoticeTone
from .draw import check_suffix, ground_of, png_bytes, rows_of, write_new


class NoticeHost(Protocol):
    """An app that tells the person something in its bottom bar."""

    def show_notice(self, text: str, severity: NoticeTone = "warning") -> None:
        """Show one line for a few seconds."""
        ...


async def save_screen(host: NoticeHost, name: str, is_png_too: bool = False) -> None:
    """Write what the screen shows now. ``is_png_too``: beside an SVG a PNG of the same name, where library and font are there."""
    app = cast("App[Any]", host)
    path = Path(name).expanduser()
    saved: list[str] = []
    try:
        for one in (path, path.with_suffix(".png")) if is_png_too else (path,):
            data = _drawn(app, check_suffix(one))
            try:
                await asyncio.to_thread(_write, one, data)
            except UsageError:
                if not saved:
                    raise
                continue  # the SVG is there; a PNG needs more than the program itself
            saved.append(one.name)
    except PacelineError as error:
        host.show_notice(str(error), "critical")
    else:
        host.show_notice(f"saved {' and '.join(saved)} in {path.parent.resolve()}", "done")


def _write(path: Path, data: Callable[[], bytes]) -> None:
    write_new(path, data())


def _drawn(app: App[Any], suffix: str) -> Callable[[], bytes]:
    """What makes the file, from the screen as it is now."""
    if suffix == ".svg":
        data = app.export_screenshot(title="paceline", simplify=True).encode()
        return lambda: data
    rows, columns, ground = rows_of(app), app.size.width, ground_of(app)

    def drawn() -> bytes:
        from .raster import draw

        return png_bytes(draw(rows, columns, ground))

    return drawn
