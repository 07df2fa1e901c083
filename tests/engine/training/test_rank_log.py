"""The event log of a rank: whole lines, few of them, and a clear error when the disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.balancer.step_phases import StepTimes
from paceline.engine.errors import StorageFailed
from paceline.engine.events import RankJoined, StepsTaken
from paceline.engine.training.rank_log import LoggedStep, RankLog, StepLog
from paceline.engine.wire import decode


def step(number: int, samples: int = 8) -> LoggedStep:
    return LoggedStep(0, number, 32, StepTimes(number, samples, 0.1, 0.02, data_seconds=0.01), 0.13, 1.5)


def lines(path: Path) -> list[StepsTaken]:
    events = [decode(line) for line in path.read_bytes().splitlines()]
    assert all(isinstance(event, StepsTaken) for event in events)
    return [event for event in events if isinstance(event, StepsTaken)]


def test_summaries_together_contain_every_step(tmp_path: Path) -> None:
    log = StepLog(RankLog(tmp_path / "0.jsonl", 0))
    for number in range(100):
        log.add(step(number), is_change=False, utilization=0.9, memory_used=5)
    log.flush()
    events = lines(tmp_path / "0.jsonl")
    assert sum(event.steps for event in events) == 100
    assert sum(event.samples for event in events) == 800
    assert events[-1].step == 99
    assert len(events) < 20
    assert [events[-1].compute_seconds, events[-1].data_seconds] == pytest.approx([0.1, 0.01])


def test_every_step_around_a_change_has_a_line_of_its_own(tmp_path: Path) -> None:
    log = StepLog(RankLog(tmp_path / "0.jsonl", 0))
    for number in range(40):
        log.add(step(number, 8 if number <= 20 else 9), is_change=number == 20, utilization=None, memory_used=None)
    log.flush()
    single = {event.step for event in lines(tmp_path / "0.jsonl") if event.steps == 1}
    assert {20, 21, 22, 23} <= single


def test_a_line_names_its_rank_case_and_time(tmp_path: Path) -> None:
    log = RankLog(tmp_path / "3.jsonl", 3)
    log.case = "hybrid"
    log.write(RankJoined(pid=1))
    event = decode((tmp_path / "3.jsonl").read_bytes())
    assert isinstance(event, RankJoined)
    assert (event.rank, event.case, event.run_id, event.node) == (3, "hybrid", "", "")
    assert event.node_time is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_raises_and_the_final_failure_line_does_not() -> None:
    log = RankLog(Path("/dev/full"), 2)
    with pytest.raises(StorageFailed, match="rank 2 cannot write /dev/full: No space left"):
        log.write(RankJoined())
    log.write_failure("disk full", is_collateral=False)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"missing/0\.jsonl"):
        RankLog(tmp_path / "missing" / "0.jsonl", 0)
