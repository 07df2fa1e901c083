"""The verb ``picture`` of a shell: a moment of a recording, drawn without a terminal."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from paceline.engine.errors import UsageError
from paceline.engine.events import EVENTS
from paceline.engine.reports.document_type import Document

from ..command_line.batch import print_document
from ..pictures.draw import check_suffix, write_picture
from ..pictures.moment import IsOver, MomentSession, after, at_second
from ..preferences import preferences_path, read_preferences
from ..theme import THEMES
from ..views.bars import SCREENS
from .still import DEFAULT_SIZE, StillApp

AFTER_EVENT_S = 1.5
"""Seconds after an event at which a picture shows what came of it."""


def draw_moment(args: argparse.Namespace) -> int:
    """Draw the picture that the arguments ask for, and print what it shows; returns the exit status. Raises PacelineError."""
    check_suffix(args.file)
    if args.of is None:
        raise UsageError("picture: of which recording?", hint="--of FILE, or the name of a demo session: --of straggler")
    if args.screen is not None and args.screen not in {screen.name for screen in SCREENS}:
        raise UsageError(f"no screen {args.screen!r}", hint=f"one of {', '.join(screen.name for screen in SCREENS)}")
    session = MomentSession(args.of, _moment(args.at))
    print_document(args, asyncio.run(_draw(args.file, session, args.screen or "", args.size or DEFAULT_SIZE)))
    return 0


def _moment(text: str | None) -> IsOver | None:
    """The moment that a person means: seconds, the first event of a kind, or None for the end. Raises UsageError."""
    if text is None:
        return None
    if text in EVENTS:
        return after(EVENTS[text], AFTER_EVENT_S)
    try:
        return at_second(float(text))
    except ValueError:
        raise UsageError(f"not a moment: {text}", hint="expected seconds such as 95, or an event such as StragglerFound") from None


async def _draw(path: Path, session: MomentSession, screen: str, size: tuple[int, int]) -> Document:
    preferences = read_preferences(preferences_path(), tuple(THEMES))
    async with StillApp(session, screen, size, preferences.theme) as app:
        write_picture(app, path)
        shown: dict[str, Any] = {"screen": app.current_mode, "columns": size[0], "lines": size[1]}
    return {"type": "picture", "file": str(path), "at": session.state.at, **shown}
