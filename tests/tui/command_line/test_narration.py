"""What a waiting person is told of a profiling run: every rank once, with what its second measurement adds."""

from __future__ import annotations

import io
import time

from paceline.engine.events import BaselineMeasured, StepTimesProfiled
from paceline.engine.telemetry.bus import Bus
from paceline.tui.command_line.narration import Narrator


def told(*events: StepTimesProfiled | BaselineMeasured) -> list[str]:
    stream, bus = io.StringIO(), Bus(time.monotonic)
    narrator = Narrator(stream, bus.subscribe)
    for event in events:
        bus.publish(event)
    narrator.close()
    return [line.partition("  ")[2] for line in stream.getvalue().splitlines()]


def test_a_cpu_rank_is_told_once_and_then_how_much_slower_all_ranks_of_its_machine_are_together() -> None:
    alone = StepTimesProfiled(node="lab1", rank=1, seconds_per_sample=0.01, fixed_seconds=0.0, sizes=(1,), seconds=(0.01,))
    together = StepTimesProfiled(node="lab1", rank=1, seconds_per_sample=0.01, crowding=1.42)
    assert told(alone, together) == [
        "rank 1 on lab1: 100.0 samples/s, no batch limit",
        "rank 1 on lab1: 1.42x as long while all ranks of its machine compute",
    ]
    assert told(StepTimesProfiled(node="lab1", rank=1, crowding=1.42, error="lost")) == ["rank 1 on lab1: lost"]


def test_the_baseline_of_over_best_device_is_told() -> None:
    event = BaselineMeasured(rank=2, local_batch_size=384, samples_per_second=431.0, steps=5)
    assert told(event) == ["rank 2 alone with the whole batch of 384: 431.0 samples/s"]
