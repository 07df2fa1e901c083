"""A program that forms its group by itself, as those of other people do. ``test_lab`` looks at the doors of a whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paceline.engine.wire import dumps

from tests.support.installed import needs
from tests.support.runs.store_service import StoreService
from tests.support.runs.training_lab import make_plan

pytestmark = needs("torch")

OWN_PROGRAM = """
import os, sys
import torch
import torch.distributed as dist
sys.path.insert(0, os.environ["CHECKOUT"])
from tests.support.listeners import listening_ports

for turn in (1, 2):  # torch's own default, env://, twice in one process
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    total = torch.ones(2) * (rank + 1)
    dist.all_reduce(total)
    group = dist.new_group([0, 1])
    dist.barrier(group)
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    network(torch.ones(3, 2) * rank).sum().backward()
    said = [None] * world
    dist.all_gather_object(said, [os.environ[name] for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE")])
    addresses = sorted({address for address, _ in listening_ports(os.getpid())})
    print("turn", turn, total.tolist(), round(float(network.module.weight.grad.sum()), 3), said, addresses, flush=True)
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_program_that_forms_its_group_by_itself_gets_the_store_of_the_run(tmp_path: Path) -> None:
    plan = make_plan("sp500-mlp", [[1.0], [1.0]], ["equal"], epochs=1, batch=8)
    (tmp_path / "own_program.py").write_text(OWN_PROGRAM)
    runs = [tmp_path / node.name / "runs" / plan.run_id for node in plan.nodes]
    for run in runs:
        run.mkdir(parents=True)
        (run / "plan.json").write_text(dumps(plan))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CHECKOUT": str(Path(__file__).parents[2])}
    environment |= {"LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    store = StoreService(runs, 2)
    store.start()
    try:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "paceline.engine.training.worker", str(run), node.name, "own_program"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for node, run in zip(plan.nodes, runs, strict=True)
        ]
        outputs = [rank.communicate()[0] for rank in ranks]
    finally:
        store.stop()
    facts = "[['0', '0', '0', '1'], ['1', '0', '1', '1']] ['127.0.0.1']"
    for output in outputs:
        told = [line for line in output.splitlines() if line.startswith("turn")]
        assert told == [f"turn {turn} [3.0, 3.0] 3.0 {facts}" for turn in (1, 2)], output
