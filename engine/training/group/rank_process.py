"""Facts of a rank's own process: which rank it is, and that it dies with its torchrun."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from ...errors import PlanImpossible
from ...plan import Plan, RankPlan
from ...protocol.run_files import RANK_NAME

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when its parent ends: a rank with its torchrun, so that none outlives it (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)


def name_process(rank: int) -> None:
    """Name this process ``paceline-r<rank>`` in ps, top and nvidia-smi (Linux only). A forked rank has no environment to see."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"{RANK_NAME}{rank}".encode(), 0, 0, 0)


def own_rank(plan: Plan, node: str) -> RankPlan:
    """Return the rank of this process, by torchrun's LOCAL_RANK. Raises PlanImpossible where the plan has none."""
    local_rank = int(os.environ["LOCAL_RANK"])
    for planned in plan.nodes:
        if planned.name == node and local_rank < len(planned.ranks):
            return plan.ranks[planned.ranks[local_rank]]
    raise PlanImpossible(f"the plan has no local rank {local_rank} on {node}", node=node)
