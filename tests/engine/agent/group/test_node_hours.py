"""A node with hours leaves its run before they end and joins again when they begin."""

from __future__ import annotations

import random
import time

import pytest
from paceline.engine.agent.group.node_hours import CLOSING_LEAD_S, end_reason, keep_hours
from paceline.engine.errors import UsageError
from paceline.engine.protocol.hours import DAY_S, parse_hours


def test_hours_reach_across_midnight(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(200):
        start, end = draw.sample(range(DAY_S // 60), 2)
        hours = parse_hours(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
        assert hours is not None
        second = draw.randrange(DAY_S)
        is_open = start * 60 <= second < end * 60 if start < end else second >= start * 60 or second < end * 60
        assert (hours.seconds_left(second) > 0) == is_open
        assert hours.seconds_left(start * 60) == hours.span


@pytest.mark.parametrize(
    "text", ["", "20:00", "20:00-20:00", "24:00-07:00", "8:00-9:00", "20:00-07:60", "20:00 - 07:00", "٢0:00-07:00"]
)
def test_what_names_no_hours_is_none(text: str) -> None:
    assert parse_hours(text) is None


class Group:
    """A node that takes part, and what it was asked."""

    def __init__(self) -> None:
        self.is_member, self.rest_reason = True, ""
        self.is_last = False
        self.asked: list[str] = []

    async def drain(self, reason: str) -> None:
        if self.is_last:
            raise UsageError("the last node")
        self.asked.append(f"drain: {reason}")
        self.is_member, self.rest_reason = False, reason

    def come_back(self) -> None:
        self.asked.append("come back")
        self.is_member, self.rest_reason = True, ""


class DayOver(Exception):
    """The clock has come to its end."""


async def _live(group: Group, text: str, moments: list[str]) -> None:
    hours = parse_hours(text)
    assert hours is not None
    times = iter([time.strptime(moment, "%H:%M:%S") for moment in moments])
    left = len(moments)

    async def sleep(seconds: float) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise DayOver

    with pytest.raises(DayOver):
        await keep_hours(group, hours, clock=lambda: next(times), sleep=sleep)


async def test_it_leaves_before_the_end_and_joins_at_the_beginning() -> None:
    group = Group()
    await _live(group, "20:00-07:00", ["23:00:00", "06:58:00"])
    assert group.asked == []
    assert CLOSING_LEAD_S < 120
    await _live(group, "20:00-07:00", ["06:59:00", "07:00:00", "19:59:59"])
    assert group.asked == ["drain: its hours are 20:00-07:00"]
    await _live(group, "20:00-07:00", ["20:00:00", "20:00:05"])
    assert group.asked[1:] == ["come back"]


async def test_the_last_node_stays_until_another_one_is_there() -> None:
    group = Group()
    group.is_last = True
    await _live(group, "20:00-07:00", ["08:00:00", "08:00:05"])
    assert group.is_member
    group.is_last = False
    await _live(group, "20:00-07:00", ["08:00:10"])
    hours = parse_hours("20:00-07:00")
    assert hours is not None
    assert group.rest_reason == end_reason(hours)


async def test_a_node_that_a_person_took_out_stays_out_in_its_hours() -> None:
    group = Group()
    await group.drain("drained by a person")
    await _live(group, "20:00-07:00", ["21:00:00"])
    assert not group.is_member
