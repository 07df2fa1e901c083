"""Readings of a node: emulated devices from the events of their ranks, the processor without GPUs, and the node's addresses."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.agent.telemetry.emulated import (
    FAULT_TEMPERATURE_C,
    IDLE_MEMORY_BYTES,
    MEMORY_MAX_AGE_S,
    UTILIZATION_MAX_AGE_S,
    EmulatedDevices,
)
from paceline.engine.agent.telemetry.host import connection_address, interface_addresses
from paceline.engine.agent.telemetry.sampler import Sampler
from paceline.engine.errors import StorageFailed
from paceline.engine.events import DeviceReading, DeviceUsed, Event, StepsTaken
from paceline.engine.plan import DataPlan, Emulation, Plan, RankPlan
from paceline.engine.specs import DeviceSpec, FaultSpec
from paceline.engine.wire import dumps, encode

SPECS = (DeviceSpec("RTX 3060", 12.7, 12 << 30), DeviceSpec("GTX 1650", 3.0, 4 << 30))
FAULT = FaultSpec(at_step=10, until_step=20, slowdown=2.0)


class Node:
    """A node with one run, whose rank 3 emulates device 1."""

    def __init__(self, root: Path) -> None:
        self.state_dir = StateDir(root, "demo1")
        self.state_dir.prepare()
        self.run = self.state_dir.runs / "20260101-000000-abcdef"
        (self.run / "ranks").mkdir(parents=True)
        rank = RankPlan(3, "demo1", 0, 0, 1, "emulated", "GTX 1650", 4 << 30, Emulation(3.0, (FAULT,)))
        other = RankPlan(4, "demo2", 1, 0, 0, "emulated", "RTX 3060", 12 << 30, Emulation(12.7))
        data = DataPlan("d", "digits", 1, "s")
        plan = Plan("20260101-000000-abcdef", "digits-cnn", (), (), (rank, other), data, epochs=1, global_batch_size=64)
        (self.run / "plan.json").write_text(dumps(plan))
        self.devices = EmulatedDevices(self.state_dir, SPECS)

    def write(self, step: int, age: float = 0.0, utilization: float | None = 0.8, memory: int | None = 2 << 30) -> None:
        self.append(StepsTaken(node_time=time.time() - age, rank=3, step=step, utilization=utilization, memory_used=memory))

    def append(self, line: Event) -> None:
        with (self.run / "ranks" / "3.jsonl").open("a") as file:
            file.write(encode(line) + "\n")

    def read(self) -> DeviceReading:
        """Reading of the device in use."""
        idle, used = self.devices.read()
        assert (idle.utilization, idle.memory_used) == (0.0, IDLE_MEMORY_BYTES)
        return used


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_idle_emulated_device_is_at_zero_and_has_no_clock(node: Node) -> None:
    device = node.read()
    assert (device.name, device.kind, device.utilization, device.memory_total) == ("GTX 1650", "emulated", 0.0, 4 << 30)
    assert (device.temperature, device.clock, device.power, device.throttle) == (None, None, None, ())


def test_a_device_in_use_shows_the_newest_event_of_its_rank(node: Node) -> None:
    node.write(1, utilization=0.3)
    node.write(2, utilization=0.9, memory=3 << 30)
    device = node.read()
    assert (device.utilization, device.memory_used, device.temperature) == (0.9, 3 << 30, None)


def test_an_old_event_gives_memory_but_no_utilization(node: Node) -> None:
    node.write(1, age=UTILIZATION_MAX_AGE_S + 1)
    assert (node.read().utilization, node.read().memory_used) == (0.0, 2 << 30)
    (node.run / "ranks" / "3.jsonl").unlink()
    node.write(1, age=MEMORY_MAX_AGE_S + 1)
    assert (node.read().utilization, node.read().memory_used) == (0.0, IDLE_MEMORY_BYTES)


def test_a_value_that_the_rank_does_not_know_is_unknown(node: Node) -> None:
    node.write(1, utilization=None, memory=None)
    assert node.read().utilization is None


def test_a_device_that_is_measured_outside_of_an_epoch_shows_its_utilization(node: Node) -> None:
    node.write(9, age=UTILIZATION_MAX_AGE_S + 1)
    assert node.read().utilization == 0.0
    node.append(DeviceUsed(node_time=time.time(), rank=3, step=10, utilization=0.98, memory_used=1 << 30))
    device = node.read()
    assert (device.utilization, device.memory_used) == (0.98, 1 << 30)
    assert device.throttle == ("thermal (scripted)",)  # the measured step is one of those that the fault slows


def test_an_ended_run_no_longer_counts(node: Node) -> None:
    node.write(1)
    assert node.read().utilization == 0.8
    (node.run / "exit.json").write_text("{}")
    assert node.read().utilization == 0.0


def test_a_scripted_thermal_fault_shows_as_scripted_while_it_is_active(node: Node) -> None:
    node.write(9)
    assert node.read().temperature is None
    node.write(10)
    hot = node.read()
    assert (hot.temperature, hot.clock, hot.throttle) == (FAULT_TEMPERATURE_C, 900.0, ("thermal (scripted)",))
    node.write(20)
    after = node.read()
    assert (after.temperature, after.clock, after.throttle) == (None, 1800.0, ())


def test_only_the_tail_of_a_long_file_is_read_and_broken_lines_are_skipped(node: Node) -> None:
    path = node.run / "ranks" / "3.jsonl"
    path.write_bytes(b'{"kind":"StepsTaken", broken\n' * 5000)
    node.write(1, utilization=0.4)
    with path.open("ab") as file:
        file.write(b'{"kind":"StepsTaken","utilization":0.99')  # still being written
    assert node.read().utilization == 0.4


@pytest.mark.parametrize("plan", [b"", b"{", b"[]", b'{"ranks": 3}', b"[" * 100_000])
def test_an_incomplete_plan_is_ignored(node: Node, plan: bytes) -> None:
    (node.run / "plan.json").write_bytes(plan)
    node.write(1)
    assert node.read().utilization == 0.0


def test_a_machine_without_a_gpu_shows_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    report = Sampler(StateDir(tmp_path, "atlas")).read()
    (device,) = report.devices
    assert (device.kind, device.index, report.node) == ("cpu", 0, "atlas")
    assert device.name


def test_the_address_is_the_one_that_the_centre_connected_to() -> None:
    addresses = {"lo": "127.0.0.1", "eth0": "10.0.0.5", "wlan0": "192.168.1.5"}
    assert connection_address("10.0.0.9 50000 10.0.0.5 22", addresses) == ("10.0.0.5", "eth0")
    assert connection_address("127.0.0.1 50000 127.0.1.7 22", addresses) == ("127.0.1.7", "lo")
    assert connection_address("::ffff:10.0.0.9 50000 ::ffff:10.0.0.5 22", addresses) == ("10.0.0.5", "eth0")
    assert connection_address("203.0.113.9 50000 203.0.113.5 22", addresses) == ("203.0.113.5", "")
    for nonsense in ("", "a b", "a b c d"):
        assert connection_address(nonsense, addresses) == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces are read from Linux")
def test_loopback_is_among_the_interfaces() -> None:
    assert interface_addresses().get("lo") == "127.0.0.1"


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match=r"cannot make .*file/runs"):
        StateDir(tmp_path / "file", "demo1").prepare()
