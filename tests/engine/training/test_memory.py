"""How much fits into a device's memory at once: tried, never assumed, and running out of it breaks nothing."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.balancer.step_phases import StepTimes
from paceline.engine.training.data import Split
from paceline.engine.training.models import build
from paceline.engine.training.rank_log import RankLog
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing import probe
from paceline.engine.training.timing.probe import fits_at_once
from paceline.engine.training.timing.timers import CpuTimer


class SmallDevice(CpuTimer):
    """Runs out of memory beyond a number of samples."""

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.holds, self.largest = holds, 0

    def take(self) -> list[StepTimes]:
        """As long as a device of this speed takes, whatever else this machine does."""
        return [replace(one, compute_seconds=2e-5 + 1e-6 * one.samples) for one in super().take()]

    def begin(self, step: int, samples: int) -> None:
        """As torch does on a GPU."""
        if samples > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, samples)
        super().begin(step, samples)


@pytest.mark.parametrize("holds", [1, 3, 7, 50, 500])
def test_a_probe_that_runs_out_of_memory_finds_a_size_that_fits(tmp_path: object, holds: int) -> None:
    rng = np.random.default_rng(0)
    data = Split(rng.random((600, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 600))
    timer = SmallDevice(holds)
    replica = Replica(build("digits-cnn"), timer, 0, 1)
    line, most = probe._probe(replica, Task(True), data, timer, 512, RankLog(tmp_path / "0.jsonl", 0))  # type: ignore[operator]
    assert 1 <= most <= holds
    assert line.seconds_per_sample > 0.0


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 1 << 30), st.integers(1, 1 << 20), st.integers(1 << 31, 1 << 36))
def test_what_fits_by_two_peaks_stays_within_its_part_of_memory(few: int, more: int, fixed: int, each: int, room: int) -> None:
    many = few + more
    most = fits_at_once((few, fixed + few * each), (many, fixed + many * each), room)
    assert most == many or fixed + most * each <= probe.ROOM * room + each


def test_without_a_measured_peak_nothing_is_limited() -> None:
    assert fits_at_once((1, None), (4, None), None) == sys.maxsize
