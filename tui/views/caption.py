"""The caption of a demo session: one or two lines above the keys that say what to look at. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.strip import Strip

from ..messages import View
from ..terminal.format import sanitize
from ..theme import PALETTE
from .bars import SCREENS
from .drawing.lines import line

MAX_CAPTION_LINES = 2
MAX_CAPTION_CHARS = 400
TITLES = {screen.name: f"{screen.key} {screen.title}" for screen in SCREENS}


def caption_rows(view: View, current: str, width: int) -> list[str]:
    """The text in as many lines as it needs, two at most; empty where nothing is said. ``current``: the screen in front."""
    caption = view.state.caption
    if caption is None or width < 20:
        return []
    where = TITLES.get(caption.screen, "")
    aside = f" (see {where})" if where and caption.screen != current else ""
    rows = textwrap.wrap(sanitize(caption.text, MAX_CAPTION_CHARS) + aside, width - 4)
    if len(rows) > MAX_CAPTION_LINES:
        rows = [
            *rows[: MAX_CAPTION_LINES - 1],
            textwrap.shorten(" ".join(rows[MAX_CAPTION_LINES - 1 :]), width - 4, placeholder=" …"),
        ]
    return rows


def caption_lines(view: View, current: str, width: int) -> Sequence[Strip]:
    """The lines of the caption."""
    return [
        line(width, (f" {'›' if not number else ' '} ", PALETTE.accent_strong), (text, PALETTE.strong))
        for number, text in enumerate(caption_rows(view, current, width))
    ]
