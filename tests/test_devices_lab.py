"""Jobs on some devices of a lab in which another machine is silent or gone: it neither delays nor fails them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.control import Control
from paceline.engine.errors import NodeUnreachable, UsageError
from paceline.engine.inventory.choice import inventory_for
from paceline.engine.specs import TrainSpec

from .labs import LabDirectory

pytest.importorskip("torch")
pytest.importorskip("sklearn")

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


def lab_with(place: Path, speeds: dict[str, float], **dead: int) -> LabDirectory:
    """Embedded nodes n0, n1 ... and machines that are not there, by the port on which they are looked for."""
    lab = LabDirectory(place, speeds)
    with (place / "nodes.toml").open("a") as file:
        file.writelines(DEAD.format(name=name, port=port) for name, port in dead.items())
    return lab


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def test_a_job_waits_for_the_nodes_of_its_devices_only(tmp_path: Path, silent: int) -> None:
    lab = lab_with(tmp_path, {"a": 60.0, "b": 20.0}, mute=silent, down=closed_port())
    control = Control(inventory_for(lab.path / "nodes.toml", None))
    try:
        await control.open()
        for devices, nodes in (("n1", ["n1"]), ("n[0-1]:0", ["n0", "n1"])):
            document = await control.plan(TrainSpec(devices=devices))
            assert [device["node"] for device in document["devices"]] == nodes
        assert control.state.nodes["mute"].state == "connecting"
        with pytest.raises(NodeUnreachable, match="down"):
            await control.plan(TrainSpec(devices="n0,down"))
        with pytest.raises(UsageError, match="no node 'n7' takes part"):
            await control.plan(TrainSpec(devices="n7"))
    finally:
        await control.close()


def test_without_a_screen_the_others_are_not_even_reached_for(tmp_path: Path, silent: int) -> None:
    lab = lab_with(tmp_path, {"a": 60.0, "b": 20.0}, mute=silent, down=closed_port())
    status, document = lab.run("plan", "--devices", "n1")
    assert (status, [device["node"] for device in document["devices"]]) == (0, ["n1"]), lab.told()
    assert not any(name in lab.told() for name in ("mute", "down", "n0"))
    assert lab.run("plan", "--devices", "n1,down")[0] == 3
