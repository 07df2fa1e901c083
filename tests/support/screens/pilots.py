"""The app under Textual's pilot: waiting for it and reading what it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from paceline.tui.app import PacelineApp
from textual.app import App
from textual.pilot import Pilot

from tests.support.waiting import POLL_S, until


async def until_app(pilot: Pilot[None], condition: Callable[..., bool]) -> None:
    """Let the app work until a condition is true and what follows from it is drawn. Raises what the app raised meanwhile.

    The condition takes no arguments; loop variables may be bound as its defaults.
    """

    async def pause() -> None:
        if pilot.app._exception is not None:
            raise pilot.app._exception
        await asyncio.sleep(POLL_S)  # a pause of the pilot would wake every widget and paint

    await until(condition, pause)
    await pilot.pause()


async def shown(pilot: Pilot[None]) -> PacelineApp:
    """The app, once it has drawn all events of its story."""
    app = pilot.app
    assert isinstance(app, PacelineApp)
    events = app.session.events  # type: ignore[attr-defined]  # a StorySession, not any session
    await until_app(pilot, lambda: app.view.state.events >= len(events))
    return app


def screen_text(app: App[Any]) -> str:
    """The text of the screen, one line a row."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    assert len(lines) == height
    assert all(strip.cell_length == width for strip in lines)
    return "\n".join(strip.text for strip in lines)
