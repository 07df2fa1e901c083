"""A run that outlives its ranks: real runners, torchruns and gloo; ranks and nodes are killed and stopped in the middle of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runs.device_lock import holders
from paceline.engine.errors import UsageError
from paceline.engine.events import Event
from paceline.engine.jobs.members.watch import MemberWatch
from paceline.engine.protocol.run_files import MEMBERS_FILE

from tests.support.runs.elastic_lab import ElasticLab, undisturbed_loss
from tests.support.runs.runners import exists

pytestmark = pytest.mark.slow
EPOCHS = 40
NODES = [[8.0], [8.0, 8.0], [8.0]]
"""Ranks 0; 1 and 2; 3."""


def _kill_rank(lab: ElasticLab) -> None:
    lab.signal([lab.pid(2)], signal.SIGKILL)


def _stop_rank(lab: ElasticLab) -> None:
    lab.signal([lab.pid(2)], signal.SIGSTOP)


def _kill_first_node(lab: ElasticLab) -> None:
    lab.signal(lab.processes("n0"), signal.SIGKILL)


def _stop_node(lab: ElasticLab) -> None:
    lab.signal(lab.processes("n2"), signal.SIGSTOP)


FAULTS: dict[str, tuple[Callable[[ElasticLab], None], list[int], str]] = {
    "worker killed": (_kill_rank, [2], "rank 2 on n1 (toy): killed by SIGKILL"),
    "worker frozen": (_stop_rank, [2], "its process is stopped by a signal"),
    "first node, which keeps the store, killed": (_kill_first_node, [0], "its runner was killed"),
    "node frozen": (_stop_node, [3], "rank 3 is silent"),
}


RETURNING = ("worker killed", "worker frozen")


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_survivors_go_on_as_if_they_had_been_alone_with_every_sample_once(fault: str, tmp_path: Path) -> None:
    act, lost, reason = FAULTS[fault]
    left = [number for number in range(4) if number not in lost]
    lab = ElasticLab(tmp_path / "lab", NODES, epochs=EPOCHS)
    try:
        await lab.start()
        await lab.until_training(list(range(4)))
        act(lab)
        await lab.until(lambda: all(lab.events(number, "GroupReformed") for number in left))
        for number in left:
            reformed = lab.events(number, "GroupReformed")[0]
            assert (reformed["ranks"], reformed["lost"]) == (left, lost)
            assert reason in reformed["reason"]
            assert reformed.get("repeated_steps", 0) <= 1
        if fault in RETURNING:
            await _check_return(lab, left, lost)
        nodes = set(lab.names) if fault in RETURNING else {lab.plan.ranks[number].node for number in left}
        await lab.until(lambda: all(map(lab.ended, nodes)))
        newest = _check_end(lab, nodes)
    finally:
        await lab.end()
    assert newest == pytest.approx(await undisturbed_loss(tmp_path / "alone", EPOCHS), rel=1e-3)


async def test_a_drained_node_rests_without_a_step_lost_and_comes_back_when_it_is_wanted(tmp_path: Path) -> None:
    lab = ElasticLab(tmp_path / "lab", NODES, epochs=3 * EPOCHS, min_devices=2)
    run_id = lab.plan.run_id
    try:
        await lab.start()
        await lab.until_training(list(range(4)))
        assert await lab.ask("n1", "drain", run_id=run_id, reason="drained by a person") == {"ranks": [1, 2], "left": 2}
        await lab.until(lambda: all(lab.events(number, "GroupReformed") for number in (0, 3)))
        for number in (0, 3):
            reformed = lab.events(number, "GroupReformed")[0]
            assert (reformed["ranks"], reformed["lost"], reformed["reason"]) == ([0, 3], [1, 2], "drained by a person")
            assert reformed.get("repeated_steps", 0) == 0
        await lab.until(lambda: not any(map(exists, map(lab.pid, (1, 2)))))
        assert holders(lab.homes["n1"].root, "emulated", (0, 1)) == {}
        for name, refusal in (("n1", "takes no part in the run now"), ("n0", "1 devices would be left, and the run wants 2")):
            with pytest.raises(UsageError, match=refusal):
                await lab.ask(name, "drain", run_id=run_id, reason="drained by a person")
        assert await lab.ask("n1", "come_back", run_id=run_id) == {"ranks": [1, 2]}
        await _check_return(lab, [0, 3], [1, 2])
        assert holders(lab.homes["n1"].root, "emulated", (0, 1)).keys() == {0, 1}
        await lab.until(lambda: all(map(lab.ended, lab.names)))
        newest = _check_end(lab, set(lab.names), 3 * EPOCHS)
    finally:
        await lab.end()
    assert newest < 1e-6


async def test_a_node_that_was_frozen_joins_again_with_new_processes(tmp_path: Path) -> None:
    lab = ElasticLab(tmp_path / "lab", NODES, epochs=3 * EPOCHS)
    try:
        await lab.start()
        await lab.until_training(list(range(4)))
        frozen = lab.processes("n2")
        lab.signal(frozen, signal.SIGSTOP)
        await lab.until(lambda: all(lab.events(number, "GroupReformed") for number in (0, 1, 2)))
        lab.signal(frozen, signal.SIGCONT)
        await _check_return(lab, [0, 1, 2], [3])
        await lab.until(lambda: all(map(lab.ended, lab.names)))
        _check_end(lab, set(lab.names), 3 * EPOCHS)
    finally:
        await lab.end()


@pytest.mark.parametrize("dead", [["n2"], ["n0", "n1"]], ids=["one of three", "two of three"])
async def test_nodes_whose_runner_is_gone_are_brought_back_by_a_centre(dead: list[str], tmp_path: Path) -> None:
    lab = ElasticLab(tmp_path / "lab", NODES, epochs=8 * EPOCHS)
    fleet: Any = lab
    told: list[Event] = []
    watch = MemberWatch(lab.plan.run_id, lab.names, fleet, {}, told.append)
    watching = asyncio.ensure_future(watch.run())
    lost = [number for number in range(4) if lab.plan.ranks[number].node in dead]
    try:
        await lab.start()
        await lab.until_training(list(range(4)))
        for name in dead:
            lab.signal(lab.processes(name), signal.SIGKILL)
        left = [number for number in range(4) if number not in lost]
        await lab.until(lambda: bool(lab.events(left[0], "GroupReformed")) and _members_of(lab, left[0]) == {0, 1, 2, 3})
        await lab.until(lambda: all(map(lab.ended, lab.names)))
        _check_end(lab, set(lab.names), 8 * EPOCHS)
        assert told == []
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await lab.end()


def _members_of(lab: ElasticLab, number: int) -> set[int]:
    """Devices of the group that a process formed last."""
    return set(lab.events(number, "GroupReformed")[-1]["ranks"])


async def _check_return(lab: ElasticLab, left: list[int], lost: list[int]) -> None:
    """The lost devices train again in processes with new numbers; the files of the old ones stay as they are."""
    old = {rank: len(lab.events(rank, "StepsTaken")) for rank in lost}
    new = range(4, 4 + len(lost))
    await lab.until(lambda: all(lab.events(number, "StepsTaken") for number in new))
    for number in (*left, *new):
        reformed = lab.events(number, "GroupReformed")[-1]
        assert (reformed["ranks"], reformed["numbers"]) == ([*left, *lost], [*left, *new])
        assert reformed.get("repeated_steps", 0) == 0
    assert lab.events(0, "GroupReformed")[-1]["joined"] == lost
    for number, rank in zip(new, lost, strict=True):
        assert {(event["rank"], event["process"]) for event in lab.events(number, "StepsTaken")} == {(rank, number)}
        assert len(lab.events(rank, "StepsTaken")) == old[rank]
    lines = [json.loads(line) for line in (lab.run("n0") / MEMBERS_FILE).read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["gone"] == []


def _check_end(lab: ElasticLab, nodes: set[str], epochs: int = EPOCHS) -> float:
    """All epochs were trained with every sample; returns the last loss."""
    ends = [end for name in nodes if (end := lab.ended(name)) is not None]
    assert {end["state"] for end in ends} == {"done"}, lab.report()
    assert {tuple(end["gone"]) for end in ends} == {tuple(name for name in lab.names if name not in nodes)}
    ended = [event for number in range(8) for event in lab.events(number, "EpochEnded")]
    assert sorted(event.get("epoch", 0) for event in ended) == list(range(epochs))
    assert {event["samples"] for event in ended} == {96}
    return float(max(ended, key=lambda event: int(event.get("epoch", 0)))["loss"])
