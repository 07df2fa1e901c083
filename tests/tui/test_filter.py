"""The filter language: which rows match, and which filters are refused at which column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.tui.filter import FLAGS, MAX_FILTER_CHARS, NUMBER_FIELDS, TEXT_FIELDS, FilterFields, FilterRefused, parse_filter

BUSY = FilterFields(
    numbers={"util": 97.0, "mem": 90.0, "temp": 87.0, "rank": 2.0},
    sizes={"mem": 3.6 * 2**30},
    texts={"node": "lab3", "device": "GTX 1650", "job": "20260101-0000-abcdef", "user": "eve", "state": "ok"},
    flags=frozenset({"busy", "throttled", "fault"}),
)
IDLE = FilterFields(
    numbers={"util": 3.0, "mem": 2.0}, texts={"node": "lab10", "device": "RTX 4090", "state": "ok"}, flags=frozenset({"free"})
)
MUTE = FilterFields(texts={"node": "hades", "device": "RTX 3090", "state": "lost"}, flags=frozenset({"fault", "lost"}))


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("", [BUSY, IDLE, MUTE]),
        ("util<20", [IDLE]),
        ("util > 90", [BUSY]),
        ("util!=3", [BUSY]),
        ("mem>3GiB", [BUSY]),
        ("mem>80%", [BUSY]),
        ("job:*", [BUSY]),
        ("util<20 & job:*", []),
        ("node:lab[1-3]", [BUSY]),
        ("node:lab*", [BUSY, IDLE]),
        ("node:lab3,hades", [BUSY, MUTE]),
        ("node=LAB3", [BUSY]),
        ("state!=ok", [MUTE]),
        ("fault", [BUSY, MUTE]),
        ("fault !lost", [BUSY]),
        ("!(free | lost)", [BUSY]),
        ("free | lost", [IDLE, MUTE]),
        ("free | util>90 & temp>80", [BUSY, IDLE]),
        ("rtx", [IDLE, MUTE]),
        ('"gtx 1650"', [BUSY]),
        ('device:"gtx 1650"', [BUSY]),
        ("1650", [BUSY]),
    ],
)
def test_a_filter_accepts_the_rows_that_match(text: str, passed: list[FilterFields]) -> None:
    predicate = parse_filter(text)
    assert [row for row in (BUSY, IDLE, MUTE) if predicate(row)] == passed


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("utl<20", 1, "did you mean util"),
        ("free & temp>hot", 13, "a number"),
        ("(free", 1, "never closed"),
        ("free)", 5, "no beginning"),
        ("& free", 1, "nothing before"),
        ("free &", 7, "ends too early"),
        ("node<3", 5, "is a text"),
        ("job:", 5, "job:* is any"),
        ("node:lab[3-1]", 6, "does not ascend"),
        ("temp>3GiB", 6, "no size"),
        ('"open', 1, "never closed"),
        ("x" * (MAX_FILTER_CHARS + 1), MAX_FILTER_CHARS + 1, "longer"),
    ],
)
def test_a_syntax_error_is_refused_with_its_column(text: str, column: int, told: str) -> None:
    with pytest.raises(FilterRefused) as refused:
        parse_filter(text)
    assert (refused.value.column, told in str(refused.value)) == (column, True), str(refused.value)


WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.builds("{}{}{}".format, st.sampled_from(NUMBER_FIELDS), st.sampled_from(("<", ">=", "=", "!=")), st.integers(0, 100)),
    st.builds("{}:{}*".format, st.sampled_from(TEXT_FIELDS), st.sampled_from(("lab", "rtx", "2026"))),
)


def test_each_of_several_names_can_match() -> None:
    job = FilterFields(texts={"node": "lab1\nlab3", "user": "ada\neve"})
    for text in ("node:lab1", "node:lab[3-4]", "node=LAB3", "user:e*", "user=ada", "user!=bob", "eve"):
        assert parse_filter(text)(job), text
    for text in ("node:lab2", "node:lab[4-5]", "user!=ada", "user:*bob*"):
        assert not parse_filter(text)(job), text


@given(WORDS, WORDS, st.sampled_from((BUSY, IDLE, MUTE)))
def test_not_and_or_follow_the_laws_of_logic(one: str, other: str, subject: FilterFields) -> None:
    def holds(text: str) -> bool:
        return parse_filter(text)(subject)

    assert holds(f"!({one} & {other})") == holds(f"!{one} | !{other}")
    assert holds(f"{one} {other}") == (holds(one) and holds(other))
    assert holds(f"{one} | {other}") == (holds(one) or holds(other))
    assert holds(f"!!{one}") == holds(one)


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    column = 1
    try:
        assert parse_filter(text)(BUSY) in (True, False)
    except FilterRefused as refused:
        column = refused.column
    assert 1 <= column <= len(text) + 1
