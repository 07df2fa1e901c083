"""One rank under torchrun: ``python -m paceline.engine.training.worker RUN_DIR NODE MODULE``.

torchrun knows one node only. This program puts the plan's view into the environment, has the kernel end the rank with its torchrun,
makes the run's store the one that ``init_process_group`` finds by itself, and then becomes the module: it runs as ``__main__`` with
the arguments RUN_DIR and NODE.
"""

from __future__ import annotations

import contextlib
import os
import resource
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from ..plan import Plan, RankPlan
from ..protocol.run_plan import read_run_plan
from .group.pulse import start_pulse
from .group.rank_process import die_with_parent, name_process, own_rank


def rank_environment(plan: Plan, rank: RankPlan) -> Mapping[str, str]:
    """torchrun's variables for a rank, counted over all nodes of the plan."""
    world, nodes = str(len(plan.ranks)), str(len(plan.nodes))
    return {
        "RANK": str(rank.rank),
        "WORLD_SIZE": world,
        "LOCAL_RANK": str(rank.local_rank),
        "LOCAL_WORLD_SIZE": str(len(plan.nodes[rank.node_rank].ranks)),
        "GROUP_RANK": str(rank.node_rank),
        "GROUP_WORLD_SIZE": nodes,
        "ROLE_RANK": str(rank.rank),
        "ROLE_WORLD_SIZE": world,
        "NODE_RANK": str(rank.node_rank),
        "MASTER_ADDR": plan.node_of(0).address,
        "MASTER_PORT": "0",
        "TORCHELASTIC_RUN_ID": plan.run_id,
    }


def allow_many_descriptors() -> None:
    """Raise the soft limit of open files to the hard one: strangers at gloo's port hold descriptors of this rank."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_rank(run_dir: Path, node: str) -> None:
    """Prepare this process as a rank of the plan, by torchrun's LOCAL_RANK."""
    die_with_parent()
    allow_many_descriptors()
    plan = read_run_plan(run_dir)
    rank = own_rank(plan, node)
    name_process(rank.rank)
    start_pulse(run_dir, rank.rank)
    os.environ.update(rank_environment(plan, rank))
    from .group.default_store import offer_store  # imports torch: seconds, for which the rank would outlive its torchrun

    offer_store(run_dir, rank.rank, len(plan.ranks))


def main(run_dir: Path, node: str, module: str) -> None:
    """Prepare the process of a rank and run its module."""
    prepare_rank(run_dir, node)
    sys.argv = [module, str(run_dir), node]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
