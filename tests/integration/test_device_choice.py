"""Jobs on some devices of a lab in which another machine is silent or gone: it neither delays nor fails them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.control import Control
from paceline.engine.errors import NodeUnreachable, UsageError
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.specs import TrainSpec

from tests.support.installed import needs
from tests.support.runs.labs import LabDirectory

pytestmark = needs("torch", "sklearn")

DEAD = """
[[node]]
name = "{name}"
host = "127.0.0.1"
port = {port}
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def lab_with(directory: Path, speeds: dict[str, float], **dead: int) -> LabDirectory:
    """Embedded nodes n0, n1 ... and machines that are not there, by the port on which they are looked for."""
    lab = LabDirectory(directory, speeds)
    with (directory / "nodes.toml").open("a") as file:
        file.writelines(DEAD.format(name=name, port=port) for name, port in dead.items())
    return lab


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def test_a_job_waits_for_the_nodes_of_its_devices_only(tmp_path: Path, silent: int) -> None:
    lab = lab_with(tmp_path, {"a": 60.0, "b": 20.0}, mute=silent, down=closed_port())
    control = Control(load_inventory(lab.path / "nodes.toml", None))
    try:
        await control.open()
        for devices, nodes in (("n1", ["n1"]), ("n[0-1]:0", ["n0", "n1"])):
            document = await control.plan(TrainSpec(devices=devices))
            assert [device["node"] for device in document["devices"]] == nodes
        assert control.state.nodes["mute"].state in ("connecting", "lost")  # lost on a machine so slow that its time limit passed
        with pytest.raises(NodeUnreachable, match="down"):
            await control.plan(TrainSpec(devices="n0,down"))
        with pytest.raises(UsageError, match="no node 'n7' takes part"):
            await control.plan(TrainSpec(devices="n7"))
    finally:
        await control.close()


@pytest.mark.slow
def test_without_a_screen_the_others_are_not_even_reached_for(tmp_path: Path, silent: int) -> None:
    lab = lab_with(tmp_path, {"a": 60.0, "b": 20.0}, mute=silent, down=closed_port())
    status, document = lab.run("plan", "--devices", "n1")
    assert (status, [device["node"] for device in document["devices"]]) == (0, ["n1"]), lab.narration()
    assert not any(name in lab.narration() for name in ("mute", "down", "n0"))
    assert lab.run("plan", "--devices", "n1,down")[0] == 3


@pytest.mark.slow
def test_recommended_devices_are_profiled_first_predicted_before_the_launch_and_no_slower_than_one(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, {"a": 30.0, "b": 12.0, "c": 10.0}, down=closed_port())
    toml = lab.path / "nodes.toml"
    toml.write_text('[link]\nlatency = "30 ms"\nbandwidth = "10 Mbit/s"\n' + toml.read_text())
    assert lab.run("plan", "--devices", "auto")[0] == 5
    assert "paceline profile" in lab.narration()
    status, document = lab.run("train", "--devices", "auto", "--epochs", "2")
    assert (status, document["state"]) == (0, "done"), lab.narration()
    told = lab.narration()
    notices = ("left out: down, lost", "profiled first: these devices were not profiled yet", "recommended for a batch of")
    places = [told.index(notice) for notice in notices]
    assert places == sorted(places) < [told.index("predicted before launch: hybrid")]
    assert "3 devices, emulated (network too) with digits-cnn" in told
    advice = lab.run("advise")[1]
    (one,) = advice["recommended"]["devices"]
    assert one == {"node": "n0", "index": 0}, "over such a network no group is as fast as its fastest device"
    assert [(device["node"], device["index"]) for device in document["devices"]] == [("n0", 0)]
    assert document["predicted_samples_per_second"] == pytest.approx(advice["recommended"]["samples_per_second"])
    assert advice["asked"]["samples_per_second"] < advice["recommended"]["samples_per_second"]
    status, rehearsed = lab.run("plan", "--devices", "auto")
    assert (status, len(rehearsed["devices"])) == (0, 1)
    assert lab.narration().count("profiled first") == 1, "what was measured once holds for the next job"
