"""The wire: what one side writes the other reads, and whatever else arrives is refused with ValueError and nothing else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paceline.engine.events import EVENTS, DeviceReading, NodeReported, ProcessReading, StepsTaken
from paceline.engine.specs import NodeSpec
from paceline.engine.wire import INTEGER_LIMIT, decode, dumps, encode, from_plain

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
FIELDS = sorted({field.name for kind in EVENTS.values() for field in dataclasses.fields(kind)})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(EVENTS)), st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=6))
def test_whatever_stands_in_the_fields_an_event_comes_out_or_a_value_error(kind: str, fields: dict[str, Any]) -> None:
    line = json.dumps({**fields, "kind": kind})
    try:
        event = decode(line)
    except ValueError:
        return
    assert event is not None
    assert decode(encode(event)) == event


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_bytes_that_are_no_event_are_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence
        decode(line)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"kind":' * 50_000, '{"kind":["Ticked"]}', '{"kind":null}', "9" * 5000])
def test_deep_nesting_and_endless_numbers_are_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any sentence
        decode(line)


def test_a_wrong_value_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"^NodeReported\.devices\[1\]\.memory_used: expected int, got str$"):
        from_plain(NodeReported, {"devices": [{}, {"memory_used": "much"}]})
    with pytest.raises(ValueError, match=r"^NodeSpec: .*missing.*'name'"):
        from_plain(NodeSpec, {})
    with pytest.raises(ValueError, match=r"^NodeReported: expected an object, got list$"):
        from_plain(NodeReported, [])
    with pytest.raises(ValueError, match=r"^DeviceReading\.index: expected int, got bool$"):
        from_plain(DeviceReading, {"index": True})


def test_numbers_that_no_arithmetic_survives_do_not_come_in() -> None:
    assert from_plain(DeviceReading, {"utilization": float("nan"), "power": float("inf"), "clock": 3}) == DeviceReading(clock=3.0)
    for field, value in (("memory_used", INTEGER_LIMIT), ("power", -INTEGER_LIMIT), ("power", 10**400)):
        with pytest.raises(ValueError, match="large"):
            from_plain(DeviceReading, {field: value})
    with pytest.raises(ValueError, match=r"StepsTaken\.step_seconds: "):
        from_plain(StepsTaken, {"step_seconds": float("nan")})


def test_unknown_fields_are_passed_over_and_missing_ones_filled() -> None:
    assert decode('{"kind":"NodeReported","node":"a","of_tomorrow":[1]}') == NodeReported(node="a")
    assert decode('{"kind":"OfTomorrow"}') is None


def test_values_that_are_no_numbers_are_written_as_unknown() -> None:
    assert json.loads(dumps(DeviceReading(power=float("nan"))))["power"] is None


def test_what_is_not_known_of_a_device_takes_no_room_on_the_line_and_what_is_zero_does() -> None:
    reported = NodeReported(node="atlas", devices=(DeviceReading(index=1, utilization=0.0, processes=(ProcessReading(7),)),))
    line = encode(reported)
    devices = [{"index": 1, "utilization": 0.0, "processes": [{"pid": 7}]}]
    assert json.loads(line) == {"kind": "NodeReported", "node": "atlas", "host": {}, "devices": devices}
    assert decode(line) == reported
