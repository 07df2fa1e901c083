"""Every screen, when all words on it are hostile and when nothing on it can be true."""

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
from tests.tui.test_app import MODES, screen_text, shown, until

SEED = 20261121
OVER = (
    *(("fleet", "enter"), ("run", "C"), ("run", "question_mark"), ("run", "ctrl+p")),
    *(("jobs", "colon"), ("jobs", "t"), ("jobs", "enter")),
)
"""Keys that bring up pages, dialogs, palette, prompt and form, and on which screen."""


def told_by_a_stranger(value: Any, before: str) -> Any:
    """The same event or value with every text of it hostile, and equal texts still equal."""
    if isinstance(value, str):
        return before + value if value else value
    if isinstance(value, dict):
        return {key: told_by_a_stranger(item, before) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(told_by_a_stranger(item, before) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keep = ("kind", "state", "device_kind", "policy", "metric_name", "severity")  # words of ours, checked elsewhere
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name not in keep}
        return dataclasses.replace(value, **{name: told_by_a_stranger(item, before) for name, item in fields.items()})
    return value


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (160, 50)])
async def test_every_screen_draws_strangers_words_harmlessly(size: tuple[int, int]) -> None:
    before = "[red]\x1b[31m\u202e\u200b語e\u0301[/\x9b"
    events = [told_by_a_stranger(event, before) for event in (*story.healthy(), *story.trouble())]
    async with PacelineApp(story.StorySession(events)).run_test(size=size) as pilot:
        app = await shown(pilot)
        for mode in MODES:
            await app.action_visit(mode)
            await until(pilot, lambda mode=mode: app.current_mode == mode)
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
    """So many sessions in which nodes say impossible things, on every screen; how many paints held a control character."""
    random_numbers = random.Random(SEED)
    found = 0
    for _ in range(count):
        events: list[Event] = []
        for event in (*story.healthy(), *story.trouble()):
            events.append(event)
            if random_numbers.random() < 0.3:
                with contextlib.suppress(ValueError):
                    mad = decode(dumps(mutated(json.loads(encode(event)), random_numbers)))
                    events += [dataclasses.replace(mad, at=event.at)] if mad is not None else []
        async with PacelineApp(story.StorySession(events)).run_test(size=random_numbers.choice(((80, 24), (160, 50)))) as pilot:
            app = await shown(pilot)
            for mode in MODES:
                await app.action_visit(mode)
                await until(pilot, lambda mode=mode, app=app: app.current_mode == mode)
                found += unseen(screen_text(app).replace("\n", "")) != []
            for mode, key in OVER:
                await app.action_visit(mode)
                await pilot.press(key)
                await pilot.pause()
                found += unseen(screen_text(app).replace("\n", "")) != []
                await pilot.press("escape")
    print(f"sessions of nodes that lost their mind, seed {SEED}: {count}, paints with control characters: {found}")
    return found


async def test_screens_survive_what_cannot_be() -> None:
    assert await draw_mad_sessions(3) == 0


@pytest.mark.slow
async def test_screens_survive_thirty_sessions_of_what_cannot_be() -> None:
    assert await draw_mad_sessions(30) == 0
