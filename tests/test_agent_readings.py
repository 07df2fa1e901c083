"""What an agent reads: emulated devices from their ranks' lines, NVIDIA devices through NVML, the machine itself."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.emulated import FRESH, IDLE_MEMORY, MEMORY_FRESH, SCRIPTED_TEMPERATURE, EmulatedDevices
from paceline.engine.agent.home import NodeHome
from paceline.engine.agent.host import interface_addresses, where_reached
from paceline.engine.agent.nvml import PROCESSES_EVERY, RETRY_EVERY, NvidiaDevices
from paceline.engine.agent.readings import Readings
from paceline.engine.errors import StorageFailed
from paceline.engine.events import DeviceReading, StepsTaken
from paceline.engine.plan import DataPlan, Emulation, Plan, RankPlan
from paceline.engine.specs import DeviceSpec, FaultSpec
from paceline.engine.wire import dumps, encode

DECLARED = (DeviceSpec("RTX 3060", 12.7, 12 << 30), DeviceSpec("GTX 1650", 3.0, 4 << 30))
FAULT = FaultSpec(at_step=10, until_step=20, slowdown=2.0)


class Node:
    """A node with one run, whose rank 3 plays device 1."""

    def __init__(self, root: Path) -> None:
        self.home = NodeHome(root, "demo1")
        self.home.prepare()
        self.run = self.home.runs / "20260101-000000-abcdef"
        (self.run / "ranks").mkdir(parents=True)
        rank = RankPlan(3, "demo1", 0, 0, 1, "emulated", "GTX 1650", 4 << 30, Emulation(3.0, (FAULT,)))
        other = RankPlan(4, "demo2", 1, 0, 0, "emulated", "RTX 3060", 12 << 30, Emulation(12.7))
        data = DataPlan("d", "digits", 1, "s")
        plan = Plan("20260101-000000-abcdef", "digits-cnn", (), (), (rank, other), data, epochs=1, global_batch_size=64)
        (self.run / "plan.json").write_text(dumps(plan))
        self.devices = EmulatedDevices(self.home, DECLARED)

    def write(self, step: int, age: float = 0.0, utilization: float | None = 0.8, memory: int | None = 2 << 30) -> None:
        line = StepsTaken(node_time=time.time() - age, rank=3, step=step, utilization=utilization, memory_used=memory)
        with (self.run / "ranks" / "3.jsonl").open("a") as file:
            file.write(encode(line) + "\n")

    def read(self) -> DeviceReading:
        """Of the device that works."""
        idle, working = self.devices.read()
        assert (idle.utilization, idle.memory_used) == (0.0, IDLE_MEMORY)
        return working


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_idle_emulated_device_is_at_zero_and_knows_no_clock(node: Node) -> None:
    device = node.read()
    assert (device.name, device.kind, device.utilization, device.memory_total) == ("GTX 1650", "emulated", 0.0, 4 << 30)
    assert (device.temperature, device.clock, device.power, device.throttle) == (None, None, None, ())


def test_a_working_device_shows_its_rank_s_newest_line(node: Node) -> None:
    node.write(1, utilization=0.3)
    node.write(2, utilization=0.9, memory=3 << 30)
    device = node.read()
    assert (device.utilization, device.memory_used, device.temperature) == (0.9, 3 << 30, None)


def test_an_old_line_stands_for_memory_but_not_for_work(node: Node) -> None:
    node.write(1, age=FRESH + 1)
    assert (node.read().utilization, node.read().memory_used) == (0.0, 2 << 30)
    (node.run / "ranks" / "3.jsonl").unlink()
    node.write(1, age=MEMORY_FRESH + 1)
    assert (node.read().utilization, node.read().memory_used) == (0.0, IDLE_MEMORY)


def test_what_the_rank_does_not_know_stays_unknown(node: Node) -> None:
    node.write(1, utilization=None, memory=None)
    assert node.read().utilization is None


def test_a_run_that_is_over_no_longer_counts(node: Node) -> None:
    node.write(1)
    assert node.read().utilization == 0.8
    (node.run / "exit.json").write_text("{}")
    assert node.read().utilization == 0.0


def test_a_scripted_thermal_fault_shows_as_scripted_while_it_acts(node: Node) -> None:
    node.write(9)
    assert node.read().temperature is None
    node.write(10)
    hot = node.read()
    assert (hot.temperature, hot.clock, hot.throttle) == (SCRIPTED_TEMPERATURE, 900.0, ("thermal (scripted)",))
    node.write(20)
    after = node.read()
    assert (after.temperature, after.clock, after.throttle) == (None, 1800.0, ())


def test_only_the_tail_of_a_long_file_is_read_and_broken_lines_are_passed_over(node: Node) -> None:
    path = node.run / "ranks" / "3.jsonl"
    path.write_bytes(b'{"kind":"StepsTaken", broken\n' * 5000)
    node.write(1, utilization=0.4)
    with path.open("ab") as file:
        file.write(b'{"kind":"StepsTaken","utilization":0.99')  # still being written
    assert node.read().utilization == 0.4


@pytest.mark.parametrize("plan", [b"", b"{", b"[]", b'{"ranks": 3}', b"[" * 100_000])
def test_a_plan_that_is_not_whole_disturbs_nothing(node: Node, plan: bytes) -> None:
    (node.run / "plan.json").write_bytes(plan)
    node.write(1)
    assert node.read().utilization == 0.0


class Lost(Exception):
    """An NVML error."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class Driver(types.ModuleType):
    """A pynvml with one healthy device and one whose driver knows little; functions can be made to fail."""

    NVMLError = Lost
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_UNINITIALIZED = 1
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.failing: dict[tuple[str, int], int] = {}
        self.calls: list[str] = []
        self.is_there = True
        for name, answer in {
            "nvmlDeviceGetName": "H200",
            "nvmlDeviceGetUtilizationRates": types.SimpleNamespace(gpu=37, memory=5),
            "nvmlDeviceGetMemoryInfo": types.SimpleNamespace(used=5 << 30, total=141 << 30),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x40 | 0x1,
            "nvmlDeviceGetComputeRunningProcesses": [types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=1 << 30)],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
        }.items():
            setattr(self, name, self._function(name, answer))

    def _function(self, name: str, answer: Any) -> Any:
        def ask(index: int, *_: Any) -> Any:
            self.calls.append(name)
            if (name, index) in self.failing:
                raise Lost(self.failing[name, index])
            return answer

        return ask

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own name
        if not self.is_there:
            raise Lost(12)

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index


def test_a_device_says_all_that_its_driver_tells() -> None:
    device = NvidiaDevices(Driver()).read()[0]
    assert (device.name, device.kind, device.utilization) == ("H200", "cuda", 0.37)
    assert (device.memory_used, device.memory_total, device.temperature) == (5 << 30, 141 << 30, 61.0)
    assert (device.power, device.power_limit, device.clock) == (350.5, 700.0, 1980.0)
    assert device.throttle == ("power cap", "thermal (hardware)")


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="processes are described from /proc")
def test_a_process_on_a_device_has_a_user_a_name_and_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    device = NvidiaDevices(Driver()).read()[0]
    assert device.processes is not None
    (process,) = device.processes
    assert (process.pid, process.memory) == (os.getpid(), 1 << 30)
    assert process.user
    assert process.name == Path("/proc/self/comm").read_text().strip()
    assert process.run_id == ""


def test_what_a_device_does_not_support_is_unknown_and_the_rest_stays() -> None:
    driver = Driver()
    for name in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetMemoryInfo"):
        driver.failing[name, 1] = 3  # NVML_ERROR_NOT_SUPPORTED
    device = NvidiaDevices(driver).read()[1]
    assert (device.utilization, device.power, device.memory_used, device.memory_total) == (None, None, None, None)
    assert (device.temperature, device.error) == (61.0, "")


def test_an_older_driver_is_asked_by_the_older_name() -> None:
    driver = Driver()
    driver.failing["nvmlDeviceGetCurrentClocksEventReasons", 0] = 13  # NVML_ERROR_FUNCTION_NOT_FOUND
    driver.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: 0x8  # type: ignore[attr-defined]
    assert NvidiaDevices(driver).read()[0].throttle == ("hardware slowdown",)


def test_a_lost_device_says_so_beside_the_healthy_one_and_may_come_back() -> None:
    driver = Driver()
    devices = NvidiaDevices(driver)
    driver.failing["nvmlDeviceGetMemoryInfo", 1] = driver.NVML_ERROR_GPU_IS_LOST
    healthy, lost = devices.read()
    assert (healthy.error, lost.error, lost.utilization, lost.name) == ("", "error 15", None, "H200")
    del driver.failing["nvmlDeviceGetMemoryInfo", 1]
    readings = [devices.read()[1] for _ in range(RETRY_EVERY + 1)]
    assert (readings[-1].error, readings[-1].utilization) == ("", 0.37)


def test_processes_are_looked_at_less_often_than_the_rest() -> None:
    driver = Driver()
    devices = NvidiaDevices(driver)
    for _ in range(PROCESSES_EVERY):
        devices.read()
    assert driver.calls.count("nvmlDeviceGetUtilizationRates") == 2 * PROCESSES_EVERY
    assert driver.calls.count("nvmlDeviceGetComputeRunningProcesses") == 2


def test_without_driver_or_module_there_are_no_devices() -> None:
    driver = Driver()
    driver.is_there = False
    assert NvidiaDevices(driver).read() == ()
    assert NvidiaDevices(None).read() == ()


def test_a_machine_without_a_gpu_shows_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    report = Readings(NodeHome(tmp_path, "atlas")).read()
    (device,) = report.devices
    assert (device.kind, device.index, report.node) == ("cpu", 0, "atlas")
    assert device.name


def test_the_address_is_where_the_centre_came_in() -> None:
    addresses = {"lo": "127.0.0.1", "eth0": "10.0.0.5", "wlan0": "192.168.1.5"}
    assert where_reached("10.0.0.9 50000 10.0.0.5 22", addresses) == ("10.0.0.5", "eth0")
    assert where_reached("127.0.0.1 50000 127.0.1.7 22", addresses) == ("127.0.1.7", "lo")
    assert where_reached("::ffff:10.0.0.9 50000 ::ffff:10.0.0.5 22", addresses) == ("10.0.0.5", "eth0")
    assert where_reached("203.0.113.9 50000 203.0.113.5 22", addresses) == ("203.0.113.5", "")
    for nonsense in ("", "a b", "a b c d"):
        assert where_reached(nonsense, addresses) == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces are read the way of Linux")
def test_loopback_is_among_the_interfaces() -> None:
    assert interface_addresses().get("lo") == "127.0.0.1"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match=r"cannot make .*file/runs"):
        NodeHome(tmp_path / "file", "demo1").prepare()
