"""Readings of NVIDIA devices through NVML. Values that the driver does not report are None; a lost device carries an error.

Indices are NVML's, in the order of the PCI bus: a launch that uses them sets CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

from ...events import DeviceReading, ProcessReading
from ..system.process_owner import ProcessOwners

PROCESSES_EVERY_READINGS = 5
"""Readings between two reads of the processes, which cost the most."""
LIMITS_EVERY_READINGS = 10
"""Readings between two reads of values that rarely change: limits, PCIe link, ECC errors, fan."""
REOPEN_EVERY_READINGS = 30
"""Readings until NVML is initialized again after it failed, or after it lost a device."""

_THROTTLE_REASONS = {
    # nvmlClocksEventReasons of NVML's API reference, without idle and clocks set by the user, which are no throttling
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "thermal (software)",
    0x0040: "thermal (hardware)",
    0x0080: "power brake",
}


_NO_DRIVER_CODES = (9, 12)
"""NVML_ERROR_DRIVER_NOT_LOADED and _LIBRARY_NOT_FOUND: a machine without NVIDIA devices, which is no error."""
_UNAVAILABLE_CODES = (3, 4, 13)
"""NVML_ERROR_NOT_SUPPORTED, _NO_PERMISSION and _FUNCTION_NOT_FOUND: a healthy device without this value."""
_UNINITIALIZED_CODE = 1
_REOPEN_CODES = (_UNINITIALIZED_CODE, 15, 16, 28)
"""Also NVML_ERROR_GPU_IS_LOST, _RESET_REQUIRED and _GPU_NOT_FOUND: only a new initialization can help."""
DEVICE_GONE = "the driver no longer knows this device"

MAX_TEMPERATURE_C, MAX_POWER_W, MAX_CLOCK_MHZ, MAX_FAN = 150.0, 10_000.0, 10_000.0, 2.0
"""Readings above these are errors of a driver, and count as unknown."""
Query = Callable[..., Any]
"""Calls an NVML function of one device by name; None where it fails."""


@dataclass
class _Device:
    """State of a device between two readings."""

    handle: Any
    name: str
    uuid: str
    """Empty if it could never be read."""
    queries: tuple[Callable[[], Any], ...] = ()
    """Calls of every reading, bound to the handle."""
    error: str = ""
    """Why there is no handle."""
    limits: dict[str, Any] = field(default_factory=dict)
    processes: tuple[ProcessReading, ...] | None = None


def load_pynvml() -> ModuleType | None:
    """Import pynvml; None if it is missing. It loads the driver's library later."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


class NvidiaDevices:
    """All NVIDIA devices of this machine; none without a driver."""

    def __init__(self, nvml: ModuleType | None) -> None:
        self._nvml: Any = nvml
        self._devices: list[_Device] = []
        self._owners = ProcessOwners()
        self._count = 0
        self._open_at: int | None = 0 if nvml is not None else None
        """Number of the reading before which NVML is initialized; None while it works."""
        self._is_open = False
        self._driver_error = ""
        """Why NVML could not be initialized."""

    def read(self) -> tuple[DeviceReading, ...]:
        """Return one reading per device, in the order of their indices. Blocks for as long as the driver does."""
        if self._open_at is not None and self._count >= self._open_at:
            self._open()
        if not self._devices and self._driver_error:
            readings: tuple[DeviceReading, ...] = (DeviceReading(kind="cuda", error=self._driver_error),)
        else:
            if self._count % PROCESSES_EVERY_READINGS == 0:
                self._read_processes()
            readings = tuple(self._read_device(index, device) for index, device in enumerate(self._devices))
        self._count += 1
        return readings

    def _open(self) -> None:
        nvml = self._nvml
        self._open_at = self._count + REOPEN_EVERY_READINGS
        try:
            if self._is_open:
                with contextlib.suppress(nvml.NVMLError):  # it may already be shut down
                    nvml.nvmlShutdown()
            self._is_open = False
            nvml.nvmlInit()
            self._is_open = True
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            is_failure = self._devices or error.value not in _NO_DRIVER_CODES
            self._driver_error = str(error) if is_failure else ""
            return
        self._driver_error = ""
        if count or not self._devices:
            self._open_at = None
        before = self._devices
        self._devices = [self._find(index, before) for index in range(count)]
        present = {device.uuid for device in self._devices}
        for device in before:  # kept behind the others, whose indices are the driver's
            if device.uuid and device.uuid not in present:
                self._devices.append(replace(device, handle=None, error=DEVICE_GONE, processes=None))

    def _find(self, index: int, before: list[_Device]) -> _Device:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name, uuid = _read_text(nvml.nvmlDeviceGetName, handle), _read_text(nvml.nvmlDeviceGetUUID, handle)
            return _Device(handle, name, uuid, _reading_queries(nvml, handle))
        except nvml.NVMLError as error:
            self._open_at = self._count + REOPEN_EVERY_READINGS
            if index < len(before):
                return replace(before[index], handle=None, error=str(error), processes=None)
            return _Device(None, "", "", error=str(error))

    def _read_device(self, index: int, device: _Device) -> DeviceReading:
        nvml, handle = self._nvml, device.handle
        if handle is None:
            return DeviceReading(index=index, name=device.name, kind="cuda", error=device.error)

        memory = None
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as error:
            if error.value not in _UNAVAILABLE_CODES:  # further calls would fail alike
                return self._failed(index, device, error)
        answers: list[Any] = []
        for query in device.queries:
            try:
                answers.append(query())
            except nvml.NVMLError:
                answers.append(None)
        rates, temperature, milliwatts, clock, reasons = answers
        if reasons is None:  # drivers before 535 have only the older name
            reasons = self._query(handle)("nvmlDeviceGetCurrentClocksThrottleReasons")
        if self._count % LIMITS_EVERY_READINGS == 0 or not device.limits:
            device.limits = _read_limits(nvml, self._query(handle))
        used = None if memory is None or not 0 <= memory.used <= memory.total else int(memory.used)
        return DeviceReading(
            index=index,
            name=device.name,
            kind="cuda",
            utilization=None if rates is None else _plausible(rates.gpu / 100, 1.0),
            memory_used=used,
            memory_total=None if memory is None else int(memory.total),
            temperature=_plausible(_number(temperature), MAX_TEMPERATURE_C),
            power=_plausible(_number(milliwatts, 1000), MAX_POWER_W),
            clock=_plausible(_number(clock), MAX_CLOCK_MHZ),
            throttle=_throttle(reasons) if reasons else (),
            processes=device.processes,
            uuid=device.uuid,
            **device.limits,
        )

    def _failed(self, index: int, device: _Device, error: Any) -> DeviceReading:
        if error.value in _REOPEN_CODES and self._open_at is None:
            self._open_at = self._count + (1 if error.value == _UNINITIALIZED_CODE else REOPEN_EVERY_READINGS)
        return DeviceReading(index=index, name=device.name, kind="cuda", error=self._driver_error or str(error))

    def _read_processes(self) -> None:
        """Read the processes of all devices at once: one process may use several devices."""
        for device in self._devices:
            device.processes = None if device.handle is None else _processes(self._query(device.handle))
        owners = self._owners.lookup({process.pid for device in self._devices for process in device.processes or ()})
        for device in self._devices:
            if device.processes:
                device.processes = tuple(
                    replace(owners[process.pid], memory=process.memory, is_graphics=process.is_graphics)
                    for process in device.processes
                )

    def _query(self, handle: Any) -> Query:
        """Bind ``Query`` to a device."""
        nvml = self._nvml

        def query(function: str, *arguments: Any) -> Any:
            try:
                return getattr(nvml, function)(handle, *arguments)
            except nvml.NVMLError:
                return None

        return query


def _reading_queries(nvml: Any, handle: Any) -> tuple[Callable[[], Any], ...]:
    return (
        partial(nvml.nvmlDeviceGetUtilizationRates, handle),
        partial(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        partial(nvml.nvmlDeviceGetPowerUsage, handle),
        partial(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        partial(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle),
    )


def _read_limits(nvml: Any, query: Query) -> dict[str, Any]:
    """Fields of a reading that rarely change."""
    link = (
        query("nvmlDeviceGetCurrPcieLinkGeneration"),
        query("nvmlDeviceGetCurrPcieLinkWidth"),
        query("nvmlDeviceGetMaxPcieLinkGeneration"),
        query("nvmlDeviceGetMaxPcieLinkWidth"),
    )
    state = query("nvmlDeviceGetPerformanceState")
    return {
        "power_limit": _number(query("nvmlDeviceGetEnforcedPowerLimit"), 1000),
        "memory_clock": _number(query("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)),
        "fan": _plausible(_number(query("nvmlDeviceGetFanSpeed"), 100), MAX_FAN),
        "pcie": () if None in link else link,
        "ecc_errors": query("nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
        "performance_state": state if state is not None and 0 <= state <= 15 else None,
    }


def _processes(query: Query) -> tuple[ProcessReading, ...] | None:
    """Pids and memory of a device's processes; None if unknown. A process that also computes counts as compute."""
    compute = query("nvmlDeviceGetComputeRunningProcesses")
    graphics = query("nvmlDeviceGetGraphicsRunningProcesses")
    if compute is None and graphics is None:
        return None
    by_pid = {}
    for is_graphics, processes in ((True, graphics), (False, compute)):
        for process in processes or ():
            if not 0 < process.pid < 1 << 31:
                continue
            by_pid[process.pid] = ProcessReading(process.pid, memory=process.usedGpuMemory, is_graphics=is_graphics)
    return tuple(by_pid[pid] for pid in sorted(by_pid))


def _throttle(reasons: int) -> tuple[str, ...]:
    return tuple(reason for bit, reason in _THROTTLE_REASONS.items() if reasons & bit)


def _number(value: Any, divisor: int = 1) -> float | None:
    return None if value is None else float(value) / divisor


def _read_text(function: Callable[[Any], Any], handle: Any) -> str:
    """The text that a function of the driver gives, which pynvml decodes; bytes that are no UTF-8 become U+FFFD."""
    try:
        value = function(handle)
    except UnicodeDecodeError as error:
        value = error.object
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _plausible(value: float | None, maximum: float) -> float | None:
    """A value from 0 to ``maximum``; None for what a driver cannot have measured."""
    return value if value is not None and 0 <= value <= maximum else None
