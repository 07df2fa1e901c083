"""The app on one moment of a recording, without a terminal: what pictures of recordings are drawn from."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import App

from ..app import PacelineApp
from ..pictures.draw import rows_of
from ..pictures.moment import MomentSession
from ..preferences import Preferences

DEFAULT_SIZE = (132, 42)
"""Columns and lines."""
SETTLED_LOOKS = 3
"""Looks in a row at the same picture after which a screen is complete."""
LOOK_INTERVAL_S = 0.03
MAX_LOOKS = 200


class StillApp:
    """The app with a screen drawn to its end: ``async with StillApp(...) as app``."""

    def __init__(self, session: MomentSession, screen: str, size: tuple[int, int] = DEFAULT_SIZE, theme: str = "night") -> None:
        """``screen``: the one to draw; empty: the one that the last caption points at, else Fleet. ``size``: columns and lines."""
        caption = session.state.caption
        self._screen = screen or (caption.screen if caption is not None else "") or "fleet"
        self._session = session
        self._app = PacelineApp(session, Preferences(theme=theme))
        self._running = self._app.run_test(size=size)

    async def __aenter__(self) -> App[Any]:
        await self._running.__aenter__()
        await self._app.action_visit(self._screen)
        last: list[Any] = []
        for _ in range(MAX_LOOKS):
            await asyncio.sleep(LOOK_INTERVAL_S)
            is_here = self._app.view.state is self._session.state and self._app.current_mode == self._screen
            last = [*last[-SETTLED_LOOKS + 1 :], rows_of(self._app)] if is_here else []
            if len(last) == SETTLED_LOOKS and all(rows == last[0] for rows in last):
                break
        return self._app

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(None, None, None)
