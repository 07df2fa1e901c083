"""A device that clocks down by script in a real run: from its stamps to the alert, the narration and the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.installed import needs
from tests.support.runs.labs import LabDirectory

pytestmark = needs("torch", "sklearn")

FAULT = '\n[[node.fault]]\nat_step = 24\nuntil_step = 64\nslowdown = 1.6\ncause = "thermal"\n'


@pytest.mark.slow
def test_a_device_that_clocks_down_is_named_with_its_clock_and_the_shares_bring_time_back(tmp_path: Path) -> None:
    lab = LabDirectory(tmp_path, {"fast": 12.0, "slow": 8.0})
    with (tmp_path / "nodes.toml").open("a") as file:
        file.write(FAULT)
    status, document = lab.run("train", "--policy", "hybrid", "--epochs", "12", "--global-batch-size", "192")
    assert status == 0, lab.narration()
    mine = [entry for entry in document["stragglers"] if entry["rank"] == 1]
    entry = mine[0]
    assert (entry["node"], entry["device"], entry["cause"]) == ("n1", "slow", "compute")
    assert entry["slowdown"] == pytest.approx(1.6, abs=0.1)
    assert 23 <= entry["since_step"] <= 26
    assert 63 <= entry["until_step"] <= 67
    assert entry["gain"] > 0.3
    told = lab.narration()
    assert "x slower: thermal (scripted): clock 1,800 -> 1,125 MHz, 88 °C; since step 2" in told
    assert "rank 1 is itself again (compute); changed shares brought back" in told
