"""The torch device of a rank, and the timer that measures its steps."""

from __future__ import annotations

import os

import torch

from ..errors import WorkFailed
from ..plan import RankPlan
from ..workloads import Workload
from .emulation.device import EmulatedTimer
from .models import build_model
from .timing.timers import CpuTimer, CudaTimer


def select_device(rank: RankPlan) -> torch.device:
    """Return the CPU for emulated and CPU devices, else the CUDA device of the plan. Raises WorkFailed where it is missing."""
    if rank.device_kind != "cuda":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return torch.device("cpu")
    if rank.device_index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise WorkFailed(
            f"no CUDA device {rank.device_index}, torch finds {count}", node=rank.node, hint="nvidia-smi there lists them"
        )
    torch.cuda.set_device(rank.device_index)
    return torch.device("cuda", rank.device_index)


def make_timer(rank: RankPlan, workload: Workload, device: torch.device) -> CpuTimer:
    """Return the timer that measures this rank's steps; the timer of an emulated device also paces them."""
    if rank.emulation is not None:
        return EmulatedTimer(rank, rank.emulation, workload, build_model(workload.name))
    return CudaTimer(device) if device.type == "cuda" else CpuTimer()
