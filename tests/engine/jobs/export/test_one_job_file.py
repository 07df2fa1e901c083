"""One job file: the same plan, seeds and data digests over SSH, as a batch script of Slurm and as a manifest, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from paceline.engine.control import Control
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.tui.command_line.commands import parse

pytestmark = pytest.mark.slow
NODES = """
[[node]]
name = "fast"
kind = "embedded"
devices = [{ name = "RTX 3060", speed = 40.0, memory = "12GiB", noise = 0.1 }]

[[node]]
name = "slow"
kind = "embedded"
devices = [{ name = "GTX 1650", speed = 14.0, memory = "4GiB" }]
"""
JOB = """
workload = "digits-cnn"
epochs = 1
seed = 7
global_batch_size = 64
policies = ["hybrid"]
policy = "hybrid"
compression = "bf16"
checkpoint_every = "50 steps"
name = "night"
"""
PLACES = {"address", "interface", "python", "paths"}
"""Of a node of a plan: they belong to the machine that it is on."""


def plan_in_script(text: str) -> dict[str, Any]:
    """The request in a batch script: the one line that is a JSON object with a plan."""
    for line in text.splitlines():
        start = line.find('{"spec"')
        if start >= 0:
            request, _ = json.JSONDecoder().raw_decode(line[start:])
            return dict(request)
    raise AssertionError("no request in the script")


def comparable(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without its run id, which is of each launch, and without the places of its nodes."""
    nodes = [{key: value for key, value in node.items() if key not in PLACES} for node in plan["nodes"]]
    return {key: value for key, value in plan.items() if key not in ("run_id", "nodes")} | {"nodes": nodes}


async def test_one_job_file_is_one_plan_everywhere(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(NODES)
    (tmp_path / "job.toml").write_text(JOB)
    control = Control(read_inventory(tmp_path / "nodes.toml"))
    await control.open()
    try:
        documents = {}
        for line in ("train job.toml", "export job.toml --to slurm", "export job.toml --as jobset"):
            verb, args = parse(line.replace("job.toml", str(tmp_path / "job.toml")))
            documents[line.split()[-1]] = await verb.perform(control, args)
    finally:
        await control.close()

    run = tmp_path / "logs" / "runs" / documents["job.toml"]["run_id"] / "nodes" / "fast"
    over_ssh = {name: json.loads((run / f"{name}.json").read_text()) for name in ("plan", "spec")}
    script = plan_in_script(documents["slurm"]["text"])
    objects = list(yaml.safe_load_all(documents["jobset"]["text"]))
    config = next(one for one in objects if one["kind"] == "ConfigMap")["data"]
    manifest = {name: json.loads(config[f"{name}.json"]) for name in ("plan", "spec")}

    assert documents["job.toml"]["state"] == "done"
    expected = comparable(over_ssh["plan"])
    assert expected["seed"] == 7
    assert len(expected["data"]["sha256"]) == 64
    for field, value in expected.items():
        assert comparable(script["plan"])[field] == value, f"{field}, Slurm"
        assert comparable(manifest["plan"])[field] == value, f"{field}, manifest"
    assert comparable(manifest["plan"]).keys() == expected.keys()
    assert script["spec"] == manifest["spec"] == over_ssh["spec"]
