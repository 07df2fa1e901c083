"""Terminals of 60x15: every screen keeps its rows, questions are read to their end, also where the terminal changes meanwhile."""

from __future__ import annotations

import pytest
from paceline.tui.app import PacelineApp
from paceline.tui.screens.dialogs import ConfirmModal, ResultPage
from paceline.tui.widgets.line_canvas import RowList

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app


def text_at_its_size(app: PacelineApp) -> str:
    """The text of the screen; empty until it is drawn at the size of the terminal."""
    lines = app.screen._compositor.render_strips()
    return "" if len(lines) != app.size.height or any(strip.cell_length != app.size.width for strip in lines) else screen_text(app)


NEEDED = {
    "fleet": ("demo4", "✖ 1 lost"),
    "jobs": (story.RUN, "running"),
    "run": ("predicted 980", "demo2 rank 1 failed", "◌ stale"),
    "alerts": ("rank 1 failed: CUDA error: out of memory", "5 active"),
    "results": ("samples/s", "equal"),
    "advice": ("PAYS", "demo1,demo2,demo3,demo4", "pays from"),
    "profiles": ("demo4", "demo1  0 RTX 3060"),
}
"""What each screen says at least."""


async def test_every_screen_keeps_its_rows_in_60x15() -> None:
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(60, 15)) as pilot:
        app = await shown(pilot)
        for mode, facts in NEEDED.items():
            await app.action_visit(mode)
            await until_app(pilot, lambda facts=facts: all(fact in screen_text(app) for fact in facts))
            lists = app.screen.query(RowList)
            assert not lists or lists.first().size.height >= 2, mode


@pytest.mark.parametrize("size", [(60, 15), (44, 12)])
async def test_a_question_is_read_to_its_end_whatever_becomes_of_the_terminal(size: tuple[int, int]) -> None:
    async with PacelineApp(story.StorySession(story.trouble())).run_test(size=(160, 50)) as pilot:
        app = await shown(pilot)
        await pilot.press("3", "C")
        await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
        await pilot.resize_terminal(*size)
        named = ["n  no, go back", *(f"demo{number}" for number in range(1, 5))]
        await until_app(pilot, lambda: app.size.width == size[0] and all(word in text_at_its_size(app) for word in named))
        await pilot.press("n")
        await until_app(pilot, lambda: len(app.screen_stack) == 1)


async def test_wide_lines_of_a_page_are_marked_and_read_with_the_arrows() -> None:
    lines = ["short", "wide " + "x" * 90 + " END", "語" * 60 + " FIN"]
    async with PacelineApp(story.StorySession([story.inventory()])).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        app.push_screen(ResultPage("plan", "\n".join(lines)))
        await until_app(pilot, lambda: "← → show the rest" in text_at_its_size(app))
        assert text_at_its_size(app).count("…") >= 2
        await pilot.press("right")
        await until_app(pilot, lambda: "END" in text_at_its_size(app))
        await pilot.resize_terminal(160, 40)
        await pilot.press("left", "left")
        await until_app(pilot, lambda: "wide xxx" in text_at_its_size(app) and "END" in text_at_its_size(app))
