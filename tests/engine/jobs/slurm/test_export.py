"""An exported batch script is the job that ``train`` would submit: what a person runs by hand carries the same spec and plan."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

from paceline.engine.jobs.slurm.export import slurm_script
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.specs import NodeSpec, SlotSpec, TrainSpec
from paceline.engine.wire import from_plain

RUN = "20261130-1200-abcdef"
NODES = (NodeSpec("lab1", env={"A": "it's $HOME"}), NodeSpec("lab2"))
PLAN = Plan(
    RUN,
    "digits-cnn",
    (CasePlan("hybrid", "hybrid"),),
    (NodePlan("lab1", 0, (0, 1), "10.0.0.1", "eth0", "/x/python"), NodePlan("lab2", 1, (2,), "10.0.0.2", "eth1", "python3")),
    tuple(RankPlan(rank, f"lab{1 + rank // 2}", rank // 2, rank % 2, rank % 2, "cuda", "A100") for rank in range(3)),
    DataPlan("d" * 64, "made up", 1, "0" * 64),
    1,
    8,
)
KEYS = {"lab1": {"key": "k1"}, "lab2": {"key": "k2"}}


def run(script: str, place: Path) -> subprocess.CompletedProcess[str]:
    """The script as Slurm runs it, with a srun that prints its words."""
    (place / "bin").mkdir(exist_ok=True)
    (place / "bin/srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (place / "bin/srun").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "PACELINE_STATE": str(place / "s"),
    }
    return subprocess.run(["sh"], input=script, env=environment, capture_output=True, text=True, check=False)


def test_the_script_asks_for_as_many_gpus_as_the_plan_has_and_carries_spec_and_plan(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=1)
    script = slurm_script(PLAN, spec, NODES, KEYS, "b.zip")
    assert [line for line in script.splitlines() if "--gres" in line] == ["#SBATCH --gres=gpu:2", "#SBATCH --gres=gpu:1"]
    missing = run(script, tmp_path)
    assert missing.returncode == 1
    assert "bundles/b.zip is missing" in missing.stderr
    for needed in ("bundles/b.zip", f"data/{PLAN.data.digest}"):
        (tmp_path / "s" / needed).mkdir(parents=True)
    started = run(script, tmp_path)
    assert started.returncode == 0, started.stderr
    assert started.stdout.split()[-2:] == [str(tmp_path / "s"), RUN]
    job = tmp_path / "s/jobs" / RUN
    request = json.loads((job / "request.json").read_text())
    assert (job / "request.json").stat().st_mode & 0o077 == 0
    assert from_plain(TrainSpec, request["spec"]) == spec
    plan = from_plain(Plan, request["plan"])
    assert replace(plan, nodes=()) == replace(PLAN, nodes=())
    assert {(node.address, node.interface, node.python) for node in plan.nodes} == {("", "", "")}
    assert request["env"]["lab1"] == {"A": "it's $HOME"}
    assert request["certificates"] == KEYS
    assert json.loads((job / "submitted.json").read_text()) == {"job_id": 7}


def test_slots_are_asked_for_as_nodes_toml_says_below_the_directory_of_their_login_node() -> None:
    nodes = [replace(node, slot=SlotSpec("hpc", constraint=f"c{number}", account="lab")) for number, node in enumerate(NODES)]
    script = slurm_script(PLAN, TrainSpec(), nodes, KEYS, "b.zip", "/shared/a b")
    assert "#SBATCH --constraint=c0" in script
    assert script.count("#SBATCH --account=lab") == 2
    assert "ROOT='/shared/a b'" in script
