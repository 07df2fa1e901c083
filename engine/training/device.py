"""Which device a rank computes on, and what takes its time there."""

from __future__ import annotations

import os

import torch

from ..errors import WorkFailed
from ..plan import RankPlan
from ..workloads import Workload
from .emulation.device import EmulatedTimer
from .models import build
from .timing.timers import CpuTimer, CudaTimer


def device_of(rank: RankPlan) -> torch.device:
    """The CPU for emulated and real CPU devices, else the CUDA device of the plan."""
    if rank.device_kind != "cuda":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return torch.device("cpu")
    if rank.device_index >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise WorkFailed(f"no CUDA device {rank.device_index}, torch finds {found}", node=rank.node, hint="paceline doctor")
    torch.cuda.set_device(rank.device_index)
    return torch.device("cuda", rank.device_index)


def timer_for(rank: RankPlan, workload: Workload, device: torch.device) -> CpuTimer:
    """What measures this rank's steps; for an emulated device, what paces them too."""
    if rank.emulation is not None:
        return EmulatedTimer(rank, rank.emulation, workload, build(workload.name))
    return CudaTimer(device) if device.type == "cuda" else CpuTimer()
