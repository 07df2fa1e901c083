"""Inside an allocation of Slurm its machines are the lab, unless a file is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.errors import ConfigurationError
from paceline.engine.inventory.allocation import allocation_inventory
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.slurm.hostlist import expand_hosts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("lab1", ["lab1"]),
        ("n[01-03,7],login.x", ["n01", "n02", "n03", "n7", "login.x"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("gpu-a[9-11]-ib", ["gpu-a9-ib", "gpu-a10-ib", "gpu-a11-ib"]),
    ],
)
def test_a_host_list_is_its_names_in_order(text: str, names: list[str]) -> None:
    assert expand_hosts(text) == names


@pytest.mark.parametrize("text", ["-oProxyCommand=x", "n[3-1]", "n[1-999999999]", "n[1-99999]m[1-99999]", "a b", "n[", "$(x)"])
def test_what_is_no_host_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|range"):
        expand_hosts(text)
    with pytest.raises(ConfigurationError, match="SLURM_JOB_NODELIST"):
        allocation_inventory({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": text}, Path("nodes.toml"), "python3")


def test_the_machines_of_all_components_are_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert allocation_inventory({"SLURM_JOB_NODELIST": "lab1"}, Path("nodes.toml"), "python3") is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "lab[1-2]")
    monkeypatch.setenv("SLURM_JOB_NODELIST_HET_GROUP_1", "lab3")
    monkeypatch.setenv("SLURM_JOB_NODELIST_HET_GROUP_0", "lab[1-2]")
    nodes = tmp_path / "nodes.toml"
    nodes.write_text('[[node]]\nname = "atlas"\n')
    assert [node.name for node in load_inventory(nodes, None).nodes] == ["lab1", "lab2", "lab3"]
    assert [node.name for node in load_inventory(nodes, "lab[2-3]").nodes] == ["lab2", "lab3"]
    assert [node.name for node in load_inventory(nodes, None, is_named=True).nodes] == ["atlas"]
