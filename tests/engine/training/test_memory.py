"""The samples that fit in a device's memory are measured, and an out-of-memory error leaves nothing behind."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.balancer.step_phases import StepTimes
from paceline.engine.training import probe
from paceline.engine.training.data import Split
from paceline.engine.training.guard import Guard
from paceline.engine.training.models import build_model
from paceline.engine.training.probe import max_samples_in_memory
from paceline.engine.training.rank_log import RankLog
from paceline.engine.training.shares.step_stats import Replica
from paceline.engine.training.tasks import Task
from paceline.engine.training.timing.timers import CpuTimer


class SmallDevice(CpuTimer):
    """Runs out of memory beyond a number of samples."""

    def __init__(self, holds: int) -> None:
        super().__init__()
        self.holds, self.largest = holds, 0

    def take_measured(self) -> list[StepTimes]:
        """Return the times of a device of fixed speed, independent of this machine's load."""
        return [replace(one, compute_seconds=2e-5 + 1e-6 * one.samples) for one in super().take_measured()]

    def begin(self, step: int, samples: int) -> None:
        """Raise as torch does on a GPU."""
        if samples > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, samples)
        super().begin(step, samples)


@pytest.mark.parametrize("holds", [1, 3, *(pytest.param(many, marks=pytest.mark.slow) for many in (7, 50, 500))])
def test_a_probe_that_runs_out_of_memory_finds_a_size_that_fits(tmp_path: Path, holds: int) -> None:
    rng = np.random.default_rng(0)
    data = Split(rng.random((600, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 600))
    timer = SmallDevice(holds)
    replica = Replica(build_model("digits-cnn"), timer, 0, 1)
    line, most = probe._probe_device(replica, Task(True), data, timer, 512, Guard(RankLog(tmp_path / "0.jsonl", 0)))
    assert 1 <= most <= holds
    assert line.seconds_per_sample > 0.0


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 1 << 30), st.integers(1, 1 << 20), st.integers(1 << 31, 1 << 36))
def test_the_samples_that_fit_by_two_peaks_stay_within_the_usable_memory(
    few: int, more: int, fixed: int, each: int, room: int
) -> None:
    many = few + more
    most = max_samples_in_memory((few, fixed + few * each), (many, fixed + many * each), room)
    assert most == many or fixed + most * each <= probe.USABLE_MEMORY_FRACTION * room + each


def test_without_a_measured_peak_nothing_is_limited() -> None:
    assert max_samples_in_memory((1, None), (4, None), None) == sys.maxsize
