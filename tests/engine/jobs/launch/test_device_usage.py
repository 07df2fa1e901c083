"""Devices in use by others: which of a plan's devices are, and by whom."""

from __future__ import annotations

from typing import Any

import pytest
from paceline.engine.events import DeviceReading, ProcessReading
from paceline.engine.jobs.launch.device_usage import busy_devices
from paceline.engine.jobs.launch.planning import NodeCandidate, make_plan
from paceline.engine.plan import DataPlan
from paceline.engine.specs import NodeSpec, TrainSpec
from paceline.engine.workloads import WORKLOADS

FREE = DeviceReading(index=0, name="RTX 3060", kind="cuda", processes=())


def busy(*devices: DeviceReading) -> list[str]:
    nodes = [NodeCandidate(NodeSpec(f"lab{i}"), (device,), "127.0.0.1", "lo", "python3") for i, device in enumerate(devices)]
    plan = make_plan(TrainSpec(), "r1", nodes, DataPlan("0" * 64, "made up", 1, "0" * 64), WORKLOADS["digits-cnn"])
    return busy_devices(plan, nodes)


def computing(**facts: Any) -> DeviceReading:
    return DeviceReading(index=0, name="RTX 3060", kind="cuda", processes=(ProcessReading(**facts),))


def test_devices_without_a_holder_and_without_processes_are_free() -> None:
    assert busy(FREE, FREE) == []


def test_the_run_that_holds_a_device_is_named_with_its_user() -> None:
    held = DeviceReading(index=0, name="GTX 1650", kind="cuda", holder="20260101-0000-abcdef", holder_user="bob")
    assert busy(FREE, held) == ["lab1 / GTX 1650 is in use by run 20260101-0000-abcdef of bob"]


def test_a_stranger_s_process_is_named_with_its_pid() -> None:
    assert busy(computing(pid=7, user="eve", name="python")) == ["lab0 / RTX 3060 is in use by python (pid 7) of eve"]


@pytest.mark.parametrize("unknown", [{"pid": 7}, {"pid": 7, "user": "eve"}])
def test_a_process_of_which_little_is_known_counts_all_the_same(unknown: dict[str, object]) -> None:
    assert "pid 7" in busy(computing(**unknown))[0]


def test_a_desktop_leaves_the_device_free() -> None:
    assert busy(computing(pid=7, user="eve", name="Xorg", is_graphics=True)) == []


def test_devices_whose_processes_cannot_be_read_count_as_free() -> None:
    assert busy(DeviceReading(index=0, name="RTX 3060", kind="cuda", processes=None)) == []


def test_a_processor_that_only_stands_by_is_not_asked_about() -> None:
    cpu = DeviceReading(index=1, name="Ryzen", kind="cpu", holder="r0")
    node = NodeCandidate(NodeSpec("lab0"), (FREE, cpu), "127.0.0.1", "lo", "python3")
    plan = make_plan(TrainSpec(), "r1", [node], DataPlan("0" * 64, "made up", 1, "0" * 64), WORKLOADS["digits-cnn"])
    assert busy_devices(plan, [node]) == []
