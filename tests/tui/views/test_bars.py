"""The top bar names the screens in whole words, whatever the width."""

from __future__ import annotations

from paceline.engine.store.state import State
from paceline.tui.messages import View
from paceline.tui.views.bars import SCREENS, top_bar


def test_a_screen_is_named_by_its_whole_name_or_by_its_key_alone() -> None:
    keys, titles = [screen.key for screen in SCREENS], [screen.title for screen in SCREENS]
    for width in range(60, 201):
        for screen in SCREENS:
            words = top_bar(View(State()), screen.name, width).text.split()
            assert [word for word in words if word in keys] == keys, width
            assert [word for word in words if word not in titles and any(title.startswith(word) for title in titles)] == [], width
            assert screen.title in words
