"""The program of a script's rank: an unchanged script in real processes of two unlike devices, as the launch starts them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import (
    BalanceJudged,
    CaseEnded,
    CaseStarted,
    EpochEnded,
    MetricLogged,
    RankEpochEnded,
    RankFailed,
    RankJoined,
    SharesChanged,
    StepsTaken,
)
from paceline.engine.plan import ScriptPlan
from paceline.engine.ssh.bundle import bundle

from tests.support.installed import needs
from tests.support.runs.training_lab import Lab, make_plan

pytestmark = needs("torch")

UNCHANGED = """
import os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

dist.init_process_group("gloo")
torch.manual_seed(0)
data = TensorDataset(torch.randn(400, 8), torch.randint(0, 4, (400,)))
sampler = DistributedSampler(data)
loader = DataLoader(data, batch_size=16, sampler=sampler)
model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(int(sys.argv[1])):
    sampler.set_epoch(epoch)
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
print("environment", os.environ["RANK"], os.environ["WORLD_SIZE"], sys.argv[2:])
"""

OWN = """
import torch
from torch import nn

import paceline

run = paceline.init()
data = torch.utils.data.TensorDataset(torch.randn(200, 8), torch.randint(0, 4, (200,)))
model = run.wrap(nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = run.loader(data, 32, shuffle=True)
for epoch in run.epochs(2):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    run.log(loss=run.mean(loss.detach()))
"""


def lab(place: Path, source: str, *args: str, speeds: list[float], rate: float | None = 400.0, is_strict: bool = False) -> Lab:
    """One node for each device; ``rate``: samples per second of speed 1."""
    plan = make_plan("train.py", [[speed] for speed in speeds], ["hybrid"], epochs=0, batch=0)
    script = ScriptPlan("train.py", args, "digest", rate=rate, is_strict=is_strict)
    nodes = tuple(replace(node, paths={"data": "/there"}) for node in plan.nodes)
    made = Lab(place, replace(plan, program="script", script=script, nodes=nodes), {})
    for node in plan.nodes:
        work = made.run_dir(node.name) / "work"
        work.mkdir()
        (work / "train.py").write_text(source)
    return made


def test_an_unchanged_script_is_balanced_and_seen_like_our_own(tmp_path: Path) -> None:
    ours = lab(tmp_path, UNCHANGED, "2", "{data}/x", speeds=[3.0, 1.0])
    ours.start(with_torchrun=False)
    assert ours.follow() == [0, 0], ours.output()
    assert ours.first(RankJoined, 1).world_size == 2
    assert ours.first(CaseStarted).local_batch_sizes == (16, 16)
    judged = ours.of(BalanceJudged, 0)[-1]
    assert (judged.state, judged.door, judged.loss, judged.reason) == ("balanced", "torch", "mean", None)
    changes = ours.of(SharesChanged, 0)
    assert changes
    assert 20 <= changes[-1].after[0] <= 28  # 24 : 8 by speed
    epochs = ours.of(EpochEnded, 0)
    assert [epoch.samples for epoch in epochs] == [400, 400]
    for epoch in (0, 1):
        assert sum(ours.of(RankEpochEnded, rank)[epoch].samples for rank in (0, 1)) == 400
    assert sum(steps.steps for steps in ours.of(StepsTaken, 1)) == 26
    assert ours.first(CaseEnded).changes == len(changes)
    assert "environment 0 2 ['/there/x']" in ours.output()


@pytest.mark.slow
def test_a_script_on_the_library_logs_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundle alone on the path, as on a node."""
    packed = tmp_path / bundle().name
    packed.write_bytes(bundle().data)
    monkeypatch.setenv("PYTHONPATH", str(packed))
    ours = lab(tmp_path, OWN, speeds=[1.0, 1.0], rate=2000.0)
    ours.start(with_torchrun=False)
    assert ours.follow() == [0, 0], ours.output()
    metrics = ours.of(MetricLogged, 0)
    assert [(metric.name, metric.epoch) for metric in metrics] == [("loss", 0), ("loss", 1)]
    assert ours.of(BalanceJudged, 0)[-1].door == "library"
    assert [epoch.samples for epoch in ours.of(EpochEnded, 0)] == [200, 200]


@pytest.mark.slow
def test_a_rank_that_ends_early_is_named_by_the_others(tmp_path: Path) -> None:
    source = UNCHANGED.replace(
        "        optimizer.step()\n", '        optimizer.step()\n        if os.environ["RANK"] == "1":\n            sys.exit(0)\n'
    )
    ours = lab(tmp_path, source, "1", speeds=[1.0, 1.0])
    ours.start(with_torchrun=False)
    assert sorted(ours.follow()) == [0, 1]
    assert "rank 1 had ended while this rank went on" in ours.first(RankFailed, 0).reason


@pytest.mark.slow
def test_a_strict_run_refuses_a_script_that_cannot_be_balanced(tmp_path: Path) -> None:
    source = UNCHANGED.replace("sampler=sampler", "sampler=list(range(32))").replace("    sampler.set_epoch(epoch)\n", "")
    ours = lab(tmp_path, source, "4", speeds=[1.0, 1.0], is_strict=True)
    ours.start(with_torchrun=False)
    assert ours.follow() == [1, 1]
    assert "not balanced: its loader has a sampler of its own" in ours.first(RankFailed, 0).reason
