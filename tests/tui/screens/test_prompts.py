"""What a login asks in the terminal UI: one question after the other, hidden where it is a secret, and never kept."""

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
from tests.tui.test_app import HOSTILE, screen_text, shown, until

PASSPHRASE = LoginPrompt("atlas", "atlas.lab", "passphrase", "Passphrase of the key ~/.ssh/id_ed25519")
CODE = LoginPrompt("atlas", "gate.lab", "code", "me@gate.lab asks: Verification code:", is_secret=False)
FINGERPRINT = "ssh-ed25519 SHA256:0qWj3Hc1zJtJyq2sJ0lq8Zk6m9J9m4v5u0tFq8mX2bY"
HOST_KEY = LoginPrompt("atlas", "gate.lab", "host key", f"The host key of gate.lab is unknown: {FINGERPRINT}", is_secret=False)
QUESTIONS = {"passphrase": PASSPHRASE, "code": CODE, "host-key": HOST_KEY}


def app() -> PacelineApp:
    return PacelineApp(story.StorySession(story.healthy()[:5]))


async def test_a_secret_is_typed_unseen_and_handed_on() -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        answer = asyncio.create_task(made.ask(PASSPHRASE))
        await until(pilot, lambda: isinstance(made.screen, TextPrompt))
        await pilot.press(*"q1?:C")
        assert "q1" not in screen_text(made)
        await pilot.press("enter")
        assert await answer == "q1?:C"
        await until(pilot, lambda: not isinstance(made.screen, PromptModal))


async def test_escape_gives_no_answer() -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        for question in QUESTIONS.values():
            answer = asyncio.create_task(made.ask(question))
            await until(pilot, lambda: isinstance(made.screen, PromptModal))
            await pilot.press("escape")
            assert await answer is None


@pytest.mark.parametrize(("key", "answer"), [("y", "yes"), ("n", None), ("q", None)])
async def test_only_y_trusts_a_host_key(key: str, answer: str | None) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        given = asyncio.create_task(made.ask(HOST_KEY))
        await until(pilot, lambda: isinstance(made.screen, HostKeyPrompt))
        assert FINGERPRINT in screen_text(made)
        await pilot.press("enter")
        assert not given.done()
        await pilot.press(key)
        assert await given == answer


async def test_questions_wait_for_each_other() -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        answers = [asyncio.create_task(made.ask(question)) for question in (PASSPHRASE, CODE)]
        await until(pilot, lambda: isinstance(made.screen, PromptModal))
        await pilot.press("a", "enter")
        await until(pilot, lambda: isinstance(made.screen, PromptModal) and answers[0].done())
        await pilot.press("b", "enter")
        assert await asyncio.gather(*answers) == ["a", "b"]


async def test_a_question_goes_with_the_connection_that_asked_even_under_another_dialog() -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        answer = asyncio.create_task(made.ask(HOST_KEY))
        await until(pilot, lambda: isinstance(made.screen, HostKeyPrompt))
        made.action_explain()
        await until(pilot, lambda: isinstance(made.screen, HelpPage))
        answer.cancel()
        await pilot.pause()
        await pilot.press("escape")
        await until(pilot, lambda: len(made.screen_stack) == 1)


async def test_what_a_machine_asks_cannot_draw_what_it_wants() -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        made = await shown(pilot)
        for kind in ("code", "host key"):
            answer = asyncio.create_task(made.ask(LoginPrompt(HOSTILE, HOSTILE, kind, HOSTILE)))
            await until(pilot, lambda: isinstance(made.screen, PromptModal))
            text = screen_text(made)
            assert not {"\x1b", "\x07", "\u202e", "\u200b"} & set(text)
            assert "[red]x[/" in text
            await pilot.press("escape")
            assert await answer is None


async def test_the_same_question_of_many_nodes_is_asked_once_and_a_declined_one_never_again() -> None:
    asked: list[LoginPrompt] = []
    answers: asyncio.Queue[str | None] = asyncio.Queue()

    async def person(question: LoginPrompt) -> str | None:
        asked.append(question)
        return await answers.get()

    desk = PromptBroker(person)
    nodes = [LoginPrompt(f"node{i}", f"host{i}", "passphrase", "Passphrase of the key k") for i in range(8)]
    waiting = [asyncio.create_task(desk(question)) for question in nodes]
    await asyncio.sleep(0)
    answers.put_nowait("secret")
    assert await asyncio.gather(*waiting) == ["secret"] * 8
    assert len(asked) == 1
    answers.put_nowait(None)
    assert await desk(nodes[0]) is None
    assert await desk(nodes[1]) is None
    assert len(asked) == 2
    codes = [asyncio.create_task(desk(CODE)) for _ in range(2)]
    for code in ("1", "2"):
        answers.put_nowait(code)
    assert sorted(await asyncio.gather(*codes), key=str) == ["1", "2"]


async def test_a_question_is_withdrawn_only_when_nobody_waits_for_it_any_more() -> None:
    withdrawn = asyncio.Event()

    async def person(question: LoginPrompt) -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return None

    desk = PromptBroker(person)
    first, second = (asyncio.create_task(desk(PASSPHRASE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not withdrawn.is_set()
    second.cancel()
    await withdrawn.wait()


class Alone(App[None]):
    """A question over nothing, so that its looks do not change with the screen below."""

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
        await until(pilot, lambda: pilot.app.screen is screen)
        if isinstance(screen, TextPrompt):
            await pilot.press(*"123 456")

    assert snap_compare(Alone(screen), terminal_size=size, run_before=type_something)
