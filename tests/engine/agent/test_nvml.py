"""NVIDIA devices through the real pynvml on a simulated driver: values, unsupported values, lost devices that come back."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pwd
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pynvml
import pytest
from paceline.engine.agent.system.processes import RUN_ID_VARIABLE, STATE_ROOT_VARIABLE
from paceline.engine.agent.telemetry.nvml import (
    DEVICE_GONE,
    LIMITS_EVERY_READINGS,
    PROCESSES_EVERY_READINGS,
    REOPEN_EVERY_READINGS,
    NvidiaDevices,
)
from paceline.engine.events import DeviceReading, NodeReported, ProcessReading
from paceline.engine.wire import decode

from tests.support.nvml.simulated import LIBRARY, Driver, build, compiler
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(compiler() is None, reason="the simulated driver is built by cc, which is not installed")

Request = Callable[[str], Awaitable[dict[str, object]]]
"""Sends a request word to an agent and returns the whole answer."""

NOT_SUPPORTED, NO_PERMISSION, NOT_LOADED, TIMEOUT, FUNCTION_NOT_FOUND, LOST, UNKNOWN = 3, 4, 9, 10, 13, 15, 999


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def loaded(library: Path) -> Iterator[Driver]:
    """The simulated library, loaded into this process, so that loading NVML by name finds it on any machine."""
    driver = Driver(library, library)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULATED_NVML", str(library))
        ctypes.CDLL(str(library / LIBRARY))
        yield driver
        driver.set(f"driver answer={NOT_LOADED}")  # it stays loaded: later tests find a machine without a driver
        with pytest.raises(pynvml.NVMLError):
            pynvml.nvmlInit()


@pytest.fixture
def driver(loaded: Driver) -> Driver:
    loaded.set()
    return loaded


def read(count: int = 1, devices: NvidiaDevices | None = None) -> tuple[DeviceReading, ...]:
    """Take this many readings and return the last."""
    devices = devices or NvidiaDevices(pynvml)
    for _ in range(count - 1):
        devices.read()
    return devices.read()


@pytest.mark.parametrize("count", [0, 1, 8, 16])
def test_all_devices_are_read(driver: Driver, count: int) -> None:
    driver.set(f"driver devices={count}")
    devices = read()
    assert [(device.index, device.kind, device.error) for device in devices] == [(index, "cuda", "") for index in range(count)]


def test_a_reading_has_all_values_of_the_driver(driver: Driver) -> None:
    driver.set(
        "driver devices=1", "0 name=RTX_3060 utilization=37 memory=50 temperature=61 gibibytes=12 throttle=0x44 ecc=2 width=8"
    )
    (device,) = read()
    assert (device.name, device.utilization, device.temperature) == ("RTX 3060", 0.37, 61.0)
    assert device.memory_total == 12 << 30
    assert device.memory_used == pytest.approx(6 << 30, rel=0.01)
    assert device.power == pytest.approx(297.1, abs=0.1)
    assert device.power_limit == 700.0
    assert (device.clock, device.memory_clock, device.performance_state) == (1110.0, 2619.0, 0)
    assert (device.fan, device.ecc_errors, device.pcie) == (0.3, 2, (5, 8, 5, 16))
    assert device.throttle == ("power cap", "thermal (hardware)")


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x0", ()),
        ("0x1", ()),  # idle
        ("0x4", ("power cap",)),
        ("0x8", ("hardware slowdown",)),
        ("0x20", ("thermal (software)",)),
        ("0xc0", ("thermal (hardware)", "power brake")),
    ],
)
def test_throttle_reasons_are_words_and_an_idle_device_has_none(driver: Driver, bits: str, words: tuple[str, ...]) -> None:
    driver.set("driver devices=1", f"0 throttle={bits}")
    assert read()[0].throttle == words


FIELD_OF_FUNCTION = {
    "nvmlDeviceGetUtilizationRates": "utilization",
    "nvmlDeviceGetMemoryInfo": "memory_used",
    "nvmlDeviceGetTemperature": "temperature",
    "nvmlDeviceGetPowerUsage": "power",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit",
    "nvmlDeviceGetClockInfo": "clock",
    "nvmlDeviceGetFanSpeed": "fan",
    "nvmlDeviceGetTotalEccErrors": "ecc_errors",
    "nvmlDeviceGetPerformanceState": "performance_state",
}


@pytest.mark.parametrize("function", FIELD_OF_FUNCTION)
@pytest.mark.parametrize("answer", [NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND])
def test_an_unsupported_value_is_unknown_and_the_others_stay(driver: Driver, function: str, answer: int) -> None:
    driver.set("driver devices=1", f"0 utilization=50 {function}={answer}")
    (device,) = read()
    unknown = {name for name in FIELD_OF_FUNCTION.values() if getattr(device, name) is None}
    assert (unknown, device.error) == ({FIELD_OF_FUNCTION[function]}, "")


def test_a_name_that_is_no_utf8_is_shown_as_far_as_it_is(driver: Driver) -> None:
    driver.set("driver devices=2", "0 name=RTX\udcf8\udcde")
    assert next(device.name for device in read()) == "RTX\ufffd\ufffd"


def test_a_value_that_no_device_can_have_is_unknown(driver: Driver) -> None:
    wild = "0 utilization=4294967295 temperature=511 memory=200000 gibibytes=8"
    driver.set("driver devices=2", wild, "1 utilization=101 temperature=-5")
    for device in read():
        assert (device.utilization, device.temperature, device.error) == (None, None, "")
    assert (read()[0].memory_used, read()[0].memory_total) == (None, 8 << 30)


@pytest.mark.parametrize("answer", [TIMEOUT, UNKNOWN])
def test_a_call_that_fails_leaves_its_value_unknown_and_is_repeated_in_the_next_reading(driver: Driver, answer: int) -> None:
    devices = NvidiaDevices(pynvml)
    driver.set("driver devices=1", f"0 utilization=50 nvmlDeviceGetPowerUsage={answer}")
    assert read(devices=devices)[0].power is None
    driver.set("driver devices=1", "0 utilization=50")
    assert read(devices=devices)[0].power is not None


def test_a_device_whose_calls_all_fail_has_an_error(driver: Driver) -> None:
    driver.set("driver devices=2", f"1 error={TIMEOUT}")
    healthy, silent = read()
    assert not healthy.error
    assert (silent.utilization, silent.memory_used) == (None, None)
    assert silent.error == str(pynvml.NVMLError(TIMEOUT))


def test_an_older_driver_is_called_by_the_older_name(driver: Driver) -> None:
    driver.set("driver devices=1", f"0 throttle=0x8 nvmlDeviceGetCurrentClocksEventReasons={FUNCTION_NOT_FOUND}")
    assert read()[0].throttle == ("hardware slowdown",)


def test_a_lost_device_has_an_error_beside_healthy_ones_and_may_come_back(driver: Driver) -> None:
    devices = NvidiaDevices(pynvml)
    assert not any(device.error for device in devices.read())
    driver.set(f"5 error={LOST}")
    readings = devices.read()
    assert [device.index for device in readings if device.error] == [5]
    assert (readings[5].error, readings[5].name, readings[5].utilization) == ("GPU is lost", "NVIDIA H100 80GB HBM3", None)
    assert [device.index for device in read(2 * REOPEN_EVERY_READINGS, devices) if device.error] == [5]
    driver.set()
    assert not any(device.error for device in read(REOPEN_EVERY_READINGS + 1, devices))


def test_a_device_that_is_lost_from_the_start_hides_no_other(driver: Driver) -> None:
    driver.set("driver devices=3", f"1 error={LOST}")
    devices = NvidiaDevices(pynvml)
    assert [device.error for device in devices.read()] == ["", "GPU is lost", ""]
    driver.set("driver devices=3")
    assert [device.error for device in read(REOPEN_EVERY_READINGS, devices)] == ["", "", ""]


def test_after_a_restart_of_the_driver_a_missing_device_stays_on_the_list(driver: Driver) -> None:
    devices = NvidiaDevices(pynvml)
    devices.read()
    driver.set("driver devices=7 session=2")
    assert all(device.error for device in devices.read())
    readings = devices.read()
    assert [device.error for device in readings] == [*[""] * 7, DEVICE_GONE]
    driver.set("driver devices=8 session=3")
    assert [device.error for device in read(3, devices)] == [""] * 8


def test_a_driver_that_is_replaced_while_in_use_is_an_error_until_it_matches_again(driver: Driver) -> None:
    devices = NvidiaDevices(pynvml)
    devices.read()
    driver.set("driver session=2 answer=18")  # NVML_ERROR_LIB_RM_VERSION_MISMATCH
    assert {device.error for device in read(3, devices)} == {str(pynvml.NVMLError(18))}
    driver.set("driver session=2")
    assert not any(device.error for device in read(REOPEN_EVERY_READINGS + 1, devices))


def test_without_a_driver_there_are_no_devices_until_it_is_loaded(driver: Driver) -> None:
    driver.set(f"driver answer={NOT_LOADED}")
    devices = NvidiaDevices(pynvml)
    assert devices.read() == ()
    driver.set("driver devices=2")
    assert len(read(REOPEN_EVERY_READINGS, devices)) == 2
    assert NvidiaDevices(None).read() == ()


def test_a_driver_that_cannot_be_initialized_is_an_error_and_not_a_machine_without_devices(driver: Driver) -> None:
    driver.set("driver answer=18")
    (device,) = read()
    assert (device.kind, device.error, device.name) == ("cuda", str(pynvml.NVMLError(18)), "")


def test_processes_have_memory_and_one_that_also_computes_counts_as_compute(driver: Driver) -> None:
    me, other = os.getpid(), 4_000_000  # pids end below
    driver.set(
        "driver devices=2",
        f"process 0 {me} 1024 graphics",
        f"process 0 {me} 2048 compute",
        f"process 0 {other} 64 graphics",
    )
    first, second = read()
    assert second.processes == ()
    assert first.processes is not None
    mine, foreign = first.processes
    assert (mine.pid, mine.memory, mine.is_graphics, mine.run_id, mine.rank) == (me, 2 << 30, False, "", None)
    assert mine.user == pwd.getpwuid(os.getuid()).pw_name
    assert mine.name == Path("/proc/self/comm").read_text().strip()
    assert foreign == ProcessReading(other, memory=64 << 20, is_graphics=True)


def test_a_process_of_a_run_has_its_run_and_rank_and_a_foreign_job_the_rank_of_its_launcher(driver: Driver, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r1"
    run.mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps({"nodes": [{"name": "atlas", "ranks": [0]}, {"name": "lab3", "ranks": [1, 2]}]}))
    environ = {RUN_ID_VARIABLE: "r1", STATE_ROOT_VARIABLE: str(tmp_path), "PACELINE_NODE": "lab3", "LOCAL_RANK": "1", "RANK": "1"}
    with _sleeping(environ) as mine, _sleeping({"RANK": "5"}) as foreign:
        driver.set(f"process 0 {mine} 10 compute", f"process 1 {foreign} 10 compute")
        first, second = read()[:2]
    assert [(process.run_id, process.rank) for process in first.processes or ()] == [("r1", 2)]
    assert [(process.run_id, process.rank) for process in second.processes or ()] == [("", 5)]


def test_processes_and_limits_are_read_less_often_than_the_rest(driver: Driver) -> None:
    driver.set("driver devices=2", "process 0 1 10 compute")
    before = driver.calls()
    read(10 * LIMITS_EVERY_READINGS)
    calls = {name: count - before.get(name, 0) for name, count in driver.calls().items()}
    assert calls["nvmlDeviceGetUtilizationRates"] == 2 * 10 * LIMITS_EVERY_READINGS
    assert calls["nvmlDeviceGetEnforcedPowerLimit"] == 2 * 10
    assert calls["nvmlDeviceGetGraphicsRunningProcesses_v3"] == 2 * 10 * LIMITS_EVERY_READINGS // PROCESSES_EVERY_READINGS
    assert calls["nvmlDeviceGetName"] == 2


async def test_a_driver_that_hangs_blocks_the_readings_and_nothing_else(library: Path, tmp_path: Path) -> None:
    driver = Driver(library, tmp_path, "driver devices=2", "0 utilization=10")
    async with _agent(driver, tmp_path) as (ask, readings):
        first = await anext(readings)
        assert [device.utilization is not None for device in first.devices] == [True, True]
        driver.set("driver devices=2", "0 delay=3600000")
        hung = driver.calls()
        await until(lambda: driver.calls() != hung)  # the agent is in the call that does not return
        for _ in range(3):
            assert (await ask("list_runs"))["id"] == 1
        driver.set("driver devices=2", "0 utilization=90")
        while (await anext(readings)).devices[0].utilization != 0.9:
            pass


@asynccontextmanager
async def _agent(driver: Driver, root: Path) -> AsyncIterator[tuple[Request, AsyncIterator[NodeReported]]]:
    """An agent in a process of its own, which finds the driver through the library path."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paceline.engine.agent", str(root / "node"), "atlas"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **driver.env},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    output = process.stdout
    reported: asyncio.Queue[NodeReported] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def listen() -> None:
        while line := await output.readline():
            message = json.loads(line)
            if "id" in message:
                answers.put_nowait(message)
            elif "kind" in message:
                event = decode(line)
                assert isinstance(event, NodeReported)
                reported.put_nowait(event)

    async def readings() -> AsyncIterator[NodeReported]:
        while True:
            yield await reported.get()

    async def ask(word: str) -> dict[str, object]:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"id": 1, "ask": word}).encode() + b"\n")
        return await answers.get()

    listening = asyncio.create_task(listen())
    process.stdin.write(json.dumps({"setup": {"devices": [], "interval": 0.05}}).encode() + b"\n")
    try:
        yield ask, readings()
    finally:
        process.stdin.close()
        assert await process.wait() == 0
        await listening


class _sleeping:  # noqa: N801 - used like a function
    """A process with this environment; enters to its pid."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(["sleep", "infinity"], env={**os.environ, **environ})

    def __enter__(self) -> int:
        while Path(f"/proc/{self._process.pid}/comm").read_text().strip() != "sleep":
            pass  # it is still a fork of this process
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
