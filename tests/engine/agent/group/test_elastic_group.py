"""A run that outlives its ranks: real runners, torchruns and gloo; ranks and nodes are killed and stopped in the middle of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs.elastic_lab import ElasticLab

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
        nodes = {lab.plan.ranks[number].node for number in left}
        await lab.until(lambda: all(map(lab.ended, nodes)))
        ends = [end for name in nodes if (end := lab.ended(name)) is not None]
        assert {end["state"] for end in ends} == {"done"}, lab.report()
        assert {tuple(end["gone"]) for end in ends} == {tuple(name for name in lab.names if name not in nodes)}
        epochs = [event for number in range(4) for event in lab.events(number, "EpochEnded")]
        assert sorted(event.get("epoch", 0) for event in epochs) == list(range(EPOCHS))
        assert {event["samples"] for event in epochs} == {96}
        newest = max(epochs, key=lambda event: event.get("epoch", 0))
    finally:
        await lab.end()
    assert newest["loss"] == pytest.approx(await _undisturbed_loss(tmp_path / "alone"), rel=1e-3)


async def _undisturbed_loss(place: Path) -> float:
    """Loss after the last epoch of one device alone: any shares of a batch give its gradient."""
    lab = ElasticLab(place, [[32.0]], epochs=EPOCHS)
    try:
        await lab.start()
        await lab.until(lambda: lab.ended("n0"))
        return float(lab.events(0, "EpochEnded")[-1]["loss"])
    finally:
        await lab.end()
