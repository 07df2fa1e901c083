"""Every screen with hostile text in every field, and with impossible values."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
from typing import Any

import pytest
from paceline.engine.events import Event
from paceline.engine.wire import decode, dumps, encode
from paceline.tui.app import PacelineApp

from tests.support.screens import story
from tests.support.screens.hostile import mutated, unseen
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.tui.test_app import MODES

SEED = 20261121
OVER = (
    *(("fleet", "enter"), ("run", "C"), ("run", "question_mark"), ("run", "ctrl+p")),
    *(("jobs", "colon"), ("jobs", "t"), ("jobs", "enter")),
)
"""Screens, and the keys that open pages, dialogs, palette, prompt and form from them."""


def with_hostile_text(value: Any, before: str) -> Any:
    """The event or value with every text made hostile; equal texts stay equal."""
    if isinstance(value, str):
        return before + value if value else value
    if isinstance(value, dict):
        return {key: with_hostile_text(item, before) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_hostile_text(item, before) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keep = ("kind", "state", "device_kind", "policy", "metric_name", "severity")  # words of Paceline, checked elsewhere
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name not in keep}
        return dataclasses.replace(value, **{name: with_hostile_text(item, before) for name, item in fields.items()})
    return value


@pytest.mark.parametrize("size", [(40, 10), *(pytest.param(size, marks=pytest.mark.slow) for size in ((160, 50), (80, 24)))])
async def test_every_screen_draws_hostile_text_harmlessly(size: tuple[int, int]) -> None:
    before = "[red]\x1b[31m\u202e\u200b語e\u0301[/\x9b"
    events = [with_hostile_text(event, before) for event in (*story.healthy(), *story.trouble())]
    async with PacelineApp(story.StorySession(events)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for mode in MODES:
            await app.action_visit(mode)
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
            assert unseen(screen_text(app).replace("\n", "")) == []
        for mode, key in OVER:
            await app.action_visit(mode)
            await pilot.press(key)
            await pilot.pause()
            assert unseen(screen_text(app).replace("\n", "")) == []
            await pilot.press("escape")
        app.show_notice(before * 100)
        await app.action_visit("run")
        app.action_cancel()
        await pilot.pause()
        assert unseen(screen_text(app).replace("\n", "")) == []


async def draw_mad_sessions(count: int) -> int:
    """Draw every screen in ``count`` sessions with impossible events; returns the number of paints with control characters."""
    random_numbers = random.Random(SEED)
    bad_paints = 0
    for _ in range(count):
        events: list[Event] = []
        for event in (*story.healthy(), *story.trouble()):
            events.append(event)
            if random_numbers.random() < 0.3:
                with contextlib.suppress(ValueError):
                    impossible = decode(dumps(mutated(json.loads(encode(event)), random_numbers)))
                    events += [dataclasses.replace(impossible, at=event.at)] if impossible is not None else []
        async with PacelineApp(story.StorySession(events)).run_test(size=random_numbers.choice(((80, 24), (160, 50)))) as pilot:
            app = await shown(pilot)
            for mode in MODES:
                await app.action_visit(mode)
                await until_app(pilot, lambda mode=mode, app=app: app.current_mode == mode)
                bad_paints += unseen(screen_text(app).replace("\n", "")) != []
            for mode, key in OVER:
                await app.action_visit(mode)
                await pilot.press(key)
                await pilot.pause()
                bad_paints += unseen(screen_text(app).replace("\n", "")) != []
                await pilot.press("escape")
    print(f"sessions with impossible events, seed {SEED}: {count}, paints with control characters: {bad_paints}")
    return bad_paints


async def test_screens_survive_a_session_of_impossible_events() -> None:
    assert await draw_mad_sessions(1) == 0


@pytest.mark.slow
async def test_screens_survive_thirty_sessions_of_impossible_events() -> None:
    assert await draw_mad_sessions(30) == 0
