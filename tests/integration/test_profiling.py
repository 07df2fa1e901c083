"""Profiling as people meet it: the command line, real SSH, real torchruns, a played network; and what happens when it breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from paceline.engine.advisor.whatif import WhatIf
from paceline.engine.control import Control
from paceline.engine.events import AllReduceProfiled
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.plan import Plan
from paceline.engine.profiles.assemble import assemble
from paceline.engine.specs import TrainSpec
from paceline.engine.ssh.embedded import EmbeddedNode
from paceline.engine.wire import from_plain

from tests.support.runs.labs import LabDirectory
from tests.support.runs.training_lab import Lab, digit_arrays, make_plan
from tests.support.screens.documents import documented, paths

pytestmark = pytest.mark.slow

LINK = """
[link]
latency = "2 ms"
bandwidth = "200 Mbit/s"
"""


SLOWER = """
[[node.fault]]
at_step = 0
slowdown = 1.5
cause = "thermal"
"""
REAL = """
[[node]]
name = "{name}"
host = "127.0.0.1"
port = {port}
user = "me"
key = "{key}"
host_key = "{pin}"
python = "{python}"
"""


def lab_of(directory: Path, speeds: dict[str, float], link: str = "") -> LabDirectory:
    """Devices of 4 GiB each, with a network between them."""
    lab = LabDirectory(directory, speeds)
    toml = directory / "nodes.toml"
    toml.write_text(link + toml.read_text())
    return lab


def test_devices_links_and_sums_of_a_lab_are_measured_and_never_read_from_its_settings(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, {"a": 12.0, "b": 6.0, "c": 3.0}, LINK)
    status, document = lab.run("profile")
    assert status == 0, lab.narration()
    assert paths(document) <= documented("profile") | {"devices[].drift"}
    assert [device["score"] for device in document["devices"]] == pytest.approx([1.0, 0.5, 0.25], rel=0.1)
    assert [device["tflops"]["fp32"] for device in document["devices"]] == pytest.approx([12, 6, 3], rel=0.1)
    # At least what the played link takes, and not more than a busy host adds to that.
    assert len(document["links"]) == 6
    for link in document["links"]:
        assert 0.002 <= link["latency"] < 0.004
        assert 15e6 < link["bandwidth"] < 25.1e6
    # A ring of three: four hops of 2 ms; each byte passes 4/3 links.
    assert 0.007 < document["all_reduce"]["alpha"] < 0.04
    assert 12e6 < document["all_reduce"]["beta"] < 19e6
    assert document["gradient"]["forward_share"] == pytest.approx(1 / 3, abs=0.05)
    compressing = document["gradient"]["compression_seconds"]
    assert all(0 < seconds < 1 for word in ("bf16", "fp16", "powersgd") for seconds in compressing[word])
    assert [system["error"] for system in document["system"]] == [None] * 3
    assert len(list((tmp_path / "data" / "profiles").iterdir())) == 1
    # A device that is slower the next time says so, and since when.
    assert [device["drift"] for device in document["devices"]] == [None] * 3
    with (tmp_path / "nodes.toml").open("a") as toml:
        toml.write(SLOWER)
    status, again = lab.run("profile")
    assert status == 0, lab.narration()
    assert [device["drift"] for device in again["devices"]][:2] == [None] * 2
    drift = again["devices"][2]["drift"]
    assert (drift["slowdown"], drift["since"]) == (pytest.approx(1.5, rel=0.1), document["measured"])
    assert re.search(r"n2 device 0: [3-6]\d % slower than on \d+ \w+ [\d:]+ with digits-cnn", lab.narration()), lab.narration()


async def test_a_run_on_real_processors_teaches_the_next_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A plan refuses two names of one machine (jobs/launch/same_machine.py); here they stand for two machines.
    monkeypatch.setattr("paceline.engine.jobs.launch.live_plan.shared_devices", lambda devices, facts: [])
    client = asyncssh.generate_private_key("ssh-ed25519")
    client.write_private_key(str(tmp_path / "key"))
    # Both nodes share the processors of this machine.
    spec = TrainSpec(policies=("equal",), global_batch_size=64, epochs=2, is_shared=True)
    async with AsyncExitStack() as stack:
        for name in ("n0", "n1"):
            served = EmbeddedNode(tmp_path / name, client)
            await served.start()
            stack.push_async_callback(served.close)
            with (tmp_path / "nodes.toml").open("a") as file:
                pin = served.host_key.get_fingerprint()
                file.write(REAL.format(name=name, port=served.port, key=tmp_path / "key", pin=pin, python=sys.executable))
        control = Control(load_inventory(tmp_path / "nodes.toml", None))
        stack.push_async_callback(control.close)
        await control.open()
        assert not (await control.advise(spec, WhatIf()))["calibrated"]
        profile = kept_profile(tmp_path)
        if [device["kind"] for device in profile["devices"]] != ["cpu", "cpu"]:
            pytest.skip("this machine has other devices than processors")
        assert all(device["crowding"] > 0 for device in profile["devices"])
        first = await control.run(spec)
        second = await control.run(spec)
        assert (await control.advise(spec, WhatIf()))["calibrated"]
    assert kept_profile(tmp_path)["is_calibrated"]
    # The factor is the one that fits the first run best: whatever the second does, it was foreseen nearer to the first.
    cold, taught = (abs(run["predicted_samples_per_second"] / first["samples_per_second"] - 1) for run in (first, second))
    assert taught < cold


def kept_profile(directory: Path) -> dict[str, Any]:
    """The one on the shelf."""
    (path,) = (directory / "data" / "profiles").iterdir()
    found: dict[str, Any] = json.loads(path.read_text())["profile"]
    return found


def test_a_device_that_has_gone_is_said_in_its_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    plan = make_plan("digits-cnn", [[20.0], [10.0], [10.0]], ["equal"], epochs=1, batch=8)
    gone = replace(plan.ranks[1], device_kind="cuda", emulation=None, device_index=99)
    plan = replace(plan, ranks=(plan.ranks[0], gone, plan.ranks[2]), program="profiling")
    lab = Lab(tmp_path, plan, digit_arrays())
    lab.start()
    assert lab.follow() == [0, 0, 0], lab.output()
    events = [replace(event, node=f"n{rank}") for rank in range(3) for event in lab.events(rank)]
    profile = assemble(plan, events, 1.0)
    assert [device.step_time is not None for device in profile.devices] == [True, False, True]
    assert "no CUDA device 99" in profile.devices[1].error
    assert profile.devices[0].samples_per_second / profile.devices[2].samples_per_second == pytest.approx(2, rel=0.2)
    assert [link.error for link in profile.links] == [""] * 6
    assert [system.error for system in profile.systems] == [""] * 3
    assert (profile.all_reduce, profile.gradient) == (None, None)
    assert "rank 1 on n1 cannot take part" in next(event.error for event in events if isinstance(event, AllReduceProfiled))


def test_a_rank_that_is_killed_while_it_is_measured_leaves_what_the_others_had_and_status_1(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, {"a": 12.0, "b": 1.0})
    process = lab.start("profile")
    lab.wait_for("steps of growing batches", process)
    lab.wait_for("rank 0 on n0:", process)
    run = tmp_path / "logs" / "runs" / lab.run_id()
    plan = from_plain(Plan, json.loads((run / "nodes" / "n1" / "plan.json").read_text()))
    assert plan.program == "profiling"
    lab.kill_everything_of("n1", lab.run_id())
    out, _ = process.communicate()
    assert process.returncode == 1, lab.narration()
    document = json.loads(out)
    assert document["state"] == "failed"
    assert document["devices"][0]["score"] == 1.0
    assert document["devices"][1]["score"] is None
    assert document["devices"][1]["error"]


def test_an_interrupt_leaves_a_run_that_can_be_attached_to_and_tells_its_profile(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, {"a": 12.0, "b": 12.0})
    process = lab.start("profile")
    lab.wait_for("matrix products", process)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130, lab.narration()
    status, document = lab.run("attach", lab.run_id())
    assert status == 0, lab.narration()
    assert document["devices"][0]["score"] is not None
