"""Login questions in the terminal UI: asked one after the other, secrets hidden and never stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import paceline.tui.app as app_module
import pytest
from paceline.engine.ssh.prompts import LoginPrompt, PromptBroker
from paceline.tui.app import PacelineApp
from paceline.tui.screens.dialogs import HelpPage, HostKeyPrompt, PromptModal, TextPrompt
from paceline.tui.theme import NIGHT
from textual.app import App
from textual.pilot import Pilot

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.support.waiting import loop_turns, until
from tests.tui.test_app import HOSTILE

PASSPHRASE = LoginPrompt("atlas", "atlas.lab", "passphrase", "Passphrase of the key ~/.ssh/id_ed25519")
CODE = LoginPrompt("atlas", "gate.lab", "code", "me@gate.lab asks: Verification code:", is_secret=False)
FINGERPRINT = "ssh-ed25519 SHA256:0qWj3Hc1zJtJyq2sJ0lq8Zk6m9J9m4v5u0tFq8mX2bY"
HOST_KEY = LoginPrompt("atlas", "gate.lab", "host key", f"The host key of gate.lab is unknown: {FINGERPRINT}", is_secret=False)
QUESTIONS = {"passphrase": PASSPHRASE, "code": CODE, "host-key": HOST_KEY}


def new_app() -> PacelineApp:
    return PacelineApp(story.StorySession(story.healthy()[:5]))


async def test_a_secret_is_hidden_while_typed_and_returned() -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        answer = asyncio.create_task(app.ask(PASSPHRASE))
        await until_app(pilot, lambda: isinstance(app.screen, TextPrompt))
        await pilot.press(*"q1?:C")
        assert "q1" not in screen_text(app)
        await pilot.press("enter")
        assert await answer == "q1?:C"
        await until_app(pilot, lambda: not isinstance(app.screen, PromptModal))


async def test_escape_returns_no_answer() -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for question in QUESTIONS.values():
            answer = asyncio.create_task(app.ask(question))
            await until_app(pilot, lambda: isinstance(app.screen, PromptModal))
            await pilot.press("escape")
            assert await answer is None


@pytest.mark.parametrize(("key", "answer"), [("y", "yes"), ("n", None), ("q", None)])
async def test_only_y_trusts_a_host_key(key: str, answer: str | None) -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        given = asyncio.create_task(app.ask(HOST_KEY))
        await until_app(pilot, lambda: isinstance(app.screen, HostKeyPrompt))
        assert FINGERPRINT in screen_text(app)
        await pilot.press("enter")
        assert not given.done()
        await pilot.press(key)
        assert await given == answer


async def test_questions_are_asked_one_after_the_other() -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        answers = [asyncio.create_task(app.ask(question)) for question in (PASSPHRASE, CODE)]
        await until_app(pilot, lambda: isinstance(app.screen, PromptModal))
        await pilot.press("a", "enter")
        await until_app(pilot, lambda: isinstance(app.screen, PromptModal) and answers[0].done())
        await pilot.press("b", "enter")
        assert await asyncio.gather(*answers) == ["a", "b"]


async def test_a_question_closes_with_its_connection_even_under_another_dialog() -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        answer = asyncio.create_task(app.ask(HOST_KEY))
        await until_app(pilot, lambda: isinstance(app.screen, HostKeyPrompt))
        app.action_explain()
        await until_app(pilot, lambda: isinstance(app.screen, HelpPage))
        answer.cancel()
        await pilot.pause()
        await pilot.press("escape")
        await until_app(pilot, lambda: len(app.screen_stack) == 1)


async def test_hostile_questions_are_drawn_harmlessly() -> None:
    async with new_app().run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        for kind in ("code", "host key"):
            answer = asyncio.create_task(app.ask(LoginPrompt(HOSTILE, HOSTILE, kind, HOSTILE)))
            await until_app(pilot, lambda: isinstance(app.screen, PromptModal))
            text = screen_text(app)
            assert not {"\x1b", "\x07", "\u202e", "\u200b"} & set(text)
            assert "[red]x[/" in text
            await pilot.press("escape")
            assert await answer is None


async def test_equal_questions_of_many_nodes_are_asked_once_and_a_declined_one_never_again() -> None:
    asked: list[LoginPrompt] = []
    answers: asyncio.Queue[str | None] = asyncio.Queue()

    async def person(question: LoginPrompt) -> str | None:
        asked.append(question)
        return await answers.get()

    broker = PromptBroker(person)
    nodes = [LoginPrompt(f"node{i}", f"host{i}", "passphrase", "Passphrase of the key k") for i in range(8)]
    waiting = [asyncio.create_task(broker(question)) for question in nodes]
    await until(lambda: asked)
    answers.put_nowait("secret")
    assert await asyncio.gather(*waiting) == ["secret"] * 8
    assert len(asked) == 1
    answers.put_nowait(None)
    assert await broker(nodes[0]) is None
    assert await broker(nodes[1]) is None
    assert len(asked) == 2
    codes = [asyncio.create_task(broker(CODE)) for _ in range(2)]
    for code in ("1", "2"):
        answers.put_nowait(code)
    assert sorted(await asyncio.gather(*codes), key=str) == ["1", "2"]


async def test_a_question_is_withdrawn_when_its_last_waiter_is_cancelled() -> None:
    withdrawn = asyncio.Event()

    async def person(question: LoginPrompt) -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return None

    broker = PromptBroker(person)
    first, second = (asyncio.create_task(broker(PASSPHRASE)) for _ in range(2))
    await loop_turns()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not withdrawn.is_set()
    second.cancel()
    await withdrawn.wait()


class Alone(App[None]):
    """An app that shows only a question, so that snapshots do not depend on the screen below."""

    CSS_PATH = Path(app_module.__file__).with_name("app.tcss")

    def __init__(self, screen: PromptModal) -> None:
        super().__init__()
        self.question = screen

    def on_mount(self) -> None:
        self.register_theme(NIGHT)
        self.theme = NIGHT.name
        self.push_screen(self.question)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_looks_as_it_was_approved(name: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    question = QUESTIONS[name]
    screen = HostKeyPrompt(question) if question.kind == "host key" else TextPrompt(question)

    async def type_something(pilot: Pilot[None]) -> None:
        await until_app(pilot, lambda: pilot.app.screen is screen)
        if isinstance(screen, TextPrompt):
            await pilot.press(*"123 456")

    assert snap_compare(Alone(screen), terminal_size=size, run_before=type_something)
