"""What a line at the prompt may become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.tui.command_line.commands import VERBS, parse
from paceline.tui.command_line.completion import complete_line

RUNS = ("20260101-0000-aaaaaa", "20260102-0000-bbbbbb")
VALUES = {"RUN": RUNS, "SET": ("lab1", "lab2")}


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("be", "bench"),
        ("fl", "fleet"),
        ("cancel ", f"cancel {RUNS[0]}"),
        ("cancel 20260102", f"cancel {RUNS[1]}"),
        ("stop ", f"stop {RUNS[0]}"),
        ("train --workl", "train --workload"),
        ("train --workload ", "train --workload digits-cnn"),
        ("train --workload digits-cnn --policy h", "train --workload digits-cnn --policy hybrid"),
        ("bench --policies equal,", "bench --policies equal,proportional"),
        ("train --wait --sh", "train --wait --share"),
    ],
)
def test_a_line_is_continued(line: str, first: str) -> None:
    assert complete_line(line, VALUES, ("fleet",))[:1] == [first]


@pytest.mark.parametrize("line", ["sing", "sing ", "cancel nothing", "train --epochs ", "bench"])
def test_nothing_is_made_up(line: str) -> None:
    assert complete_line(line, VALUES) == []


def test_an_option_is_not_offered_twice() -> None:
    assert "train --wait --wait" not in complete_line("train --wait --w", VALUES)


@given(st.text(max_size=30))
def test_every_continuation_begins_with_what_was_typed(line: str) -> None:
    assert all(found.startswith(line.lstrip()) for found in complete_line(line, VALUES))


def test_short_words_are_unique_and_mean_their_verb() -> None:
    words = [word for verb in VERBS.values() for word in (verb.name, *verb.aliases)]
    assert len(words) == len(set(words))
    assert parse("stop r1")[0] is VERBS["cancel"]
