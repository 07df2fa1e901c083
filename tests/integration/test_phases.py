"""Real ranks on emulated devices: what their ranks tell of a step is what was played, and its bottleneck is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.plan import Plan
from paceline.engine.reports.bench import train_document
from paceline.engine.specs import FaultSpec, LinkSpec

from tests.support.installed import needs
from tests.support.runs.training_lab import Lab, make_plan, toy_arrays

pytestmark = needs("torch")
SPEEDS = [[8.4, 2.8]]
"""64 samples take 112 and 336 ms by equal shares: so long that stalls of a busy machine stay small beside them. One torchrun forks
both ranks, which spares an import of torch."""


def trained(place: Path, plan: Plan) -> dict[str, Any]:
    """The result of a run with three epochs of three full steps and a small one."""
    lab = Lab(place, plan, toy_arrays(200))
    lab.start()
    assert lab.follow() == [0] * len(plan.nodes), lab.output()
    return train_document(plan, [event for rank in plan.ranks for event in lab.events(rank.rank)], "done", "")


def seconds(document: dict[str, Any], rank: int, *phases: str) -> float:
    return float(sum(entry["seconds"] for entry in document["phases"] if entry["rank"] == rank and entry["phase"] in phases))


@pytest.mark.slow  # tests/engine/reports/test_phases.py has its figures by hand
def test_the_faster_rank_waits_for_the_slower_one_and_the_result_says_so(tmp_path: Path) -> None:
    document = trained(tmp_path, make_plan("sp500-mlp", SPEEDS, ["equal"], epochs=3, batch=64))
    fast, slow = (seconds(document, rank, "forward", "backward") for rank in (0, 1))
    assert slow / fast == pytest.approx(3, rel=0.3)
    assert seconds(document, 1, "backward") / slow == pytest.approx(2 / 3, rel=0.2)
    assert seconds(document, 0, "wait") > 2 * seconds(document, 1, "wait")
    assert (document["bottleneck"]["phase"], document["bottleneck"]["rank"]) == ("wait", 1)
    assert all(len(entry["seconds_by_epoch"]) == 3 for entry in document["phases"])


@pytest.mark.slow
def test_a_slow_network_and_a_slow_loader_are_told_apart(tmp_path: Path) -> None:
    plan = make_plan("sp500-mlp", [[14.0], [14.0]], ["equal"], epochs=3, batch=64)
    network = trained(tmp_path / "network", replace(plan, link=LinkSpec(latency=0.03, bandwidth=1e8)))
    # A ring of two needs two hops; most of its time nothing is left to compute.
    assert 0.03 < seconds(network, 0, "communication") < 0.2
    assert (network["bottleneck"]["phase"], network["bottleneck"]["rank"]) == ("communication", None)
    assert "--compression bf16" in network["bottleneck"]["advice"]
    fault = {1: (FaultSpec(at_step=0, slowdown=2.0, cause="data"),)}
    loader = trained(tmp_path / "loader", make_plan("sp500-mlp", [[14.0], [14.0]], ["equal"], epochs=3, batch=64, faults=fault))
    assert seconds(loader, 1, "data") == pytest.approx(32 / (14 * 34), rel=0.3)
    assert (loader["bottleneck"]["phase"], loader["bottleneck"]["rank"]) == ("data", 1)
