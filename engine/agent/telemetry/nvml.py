"""Readings of NVIDIA devices through NVML: what the driver does not tell is None, a device that is lost or gone says so.

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

PROCESSES_EVERY = 5
"""Readings between two looks at the processes, which cost the most."""
SLOW_EVERY = 10
"""Readings between two looks at what rarely changes: limits, link, errors, fan."""
RETRY_EVERY = 30
"""Readings until a driver that is not there, or has lost a device, is opened again."""

_THROTTLE = {
    # nvmlClocksEventReasons of NVML's API reference; idle and clocks set by the user are no trouble
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "thermal (software)",
    0x0040: "thermal (hardware)",
    0x0080: "power brake",
}


_NO_DRIVER = (9, 12)
"""NVML_ERROR_DRIVER_NOT_LOADED and _LIBRARY_NOT_FOUND: a machine without NVIDIA devices, which is no trouble."""
_NOT_FOR_US = (3, 4, 13)
"""NVML_ERROR_NOT_SUPPORTED, _NO_PERMISSION and _FUNCTION_NOT_FOUND: the device is well and does not tell."""
_UNINITIALIZED = 1
_REOPEN = (_UNINITIALIZED, 15, 16, 28)
"""Also NVML_ERROR_GPU_IS_LOST, _RESET_REQUIRED and _GPU_NOT_FOUND: nothing but opening the driver anew can help."""
GONE = "the driver no longer knows this device"

Ask = Callable[..., Any]


@dataclass
class _Device:
    """What is known of a device between two readings."""

    handle: Any
    name: str
    uuid: str
    """Empty: it never told."""
    moving: tuple[Callable[[], Any], ...] = ()
    """What every reading asks, ready to be called."""
    error: str = ""
    """Why there is no handle."""
    slow: dict[str, Any] = field(default_factory=dict)
    processes: tuple[ProcessReading, ...] | None = None


def load() -> ModuleType | None:
    """The pynvml module, if it is there; the driver's library is looked for later."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


class NvidiaDevices:
    """All NVIDIA devices of this machine; none where there is no driver."""

    def __init__(self, nvml: ModuleType | None) -> None:
        self._nvml: Any = nvml
        self._devices: list[_Device] = []
        self._owners = ProcessOwners()
        self._count = 0
        self._open_at: int | None = 0 if nvml is not None else None
        """The reading before which the driver is opened."""
        self._is_open = False
        self._trouble = ""
        """Why the driver cannot be opened."""

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading a device, in the order of their indices. May take as long as the driver likes."""
        if self._open_at is not None and self._count >= self._open_at:
            self._open()
        if not self._devices and self._trouble:
            readings: tuple[DeviceReading, ...] = (DeviceReading(kind="cuda", error=self._trouble),)
        else:
            if self._count % PROCESSES_EVERY == 0:
                self._look_at_processes()
            readings = tuple(self._read_device(index, device) for index, device in enumerate(self._devices))
        self._count += 1
        return readings

    def _open(self) -> None:
        nvml = self._nvml
        self._open_at = self._count + RETRY_EVERY
        try:
            if self._is_open:
                with contextlib.suppress(nvml.NVMLError):  # it does not know us any more
                    nvml.nvmlShutdown()
            self._is_open = False
            nvml.nvmlInit()
            self._is_open = True
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as problem:
            is_trouble = self._devices or problem.value not in _NO_DRIVER
            self._trouble = str(problem) if is_trouble else ""
            return
        self._trouble = ""
        if count or not self._devices:
            self._open_at = None
        before = self._devices
        self._devices = [self._find(index, before) for index in range(count)]
        here = {device.uuid for device in self._devices}
        for device in before:  # shown on, behind the others: an index belongs to whom the driver gives it
            if device.uuid and device.uuid not in here:
                self._devices.append(replace(device, handle=None, error=GONE, processes=None))

    def _find(self, index: int, before: list[_Device]) -> _Device:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
            return _Device(handle, name, uuid, _moving(nvml, handle))
        except nvml.NVMLError as problem:
            self._open_at = self._count + RETRY_EVERY
            if index < len(before):
                return replace(before[index], handle=None, error=str(problem), processes=None)
            return _Device(None, "", "", error=str(problem))

    def _read_device(self, index: int, device: _Device) -> DeviceReading:
        nvml, handle = self._nvml, device.handle
        if handle is None:
            return DeviceReading(index=index, name=device.name, kind="cuda", error=device.error)

        memory = None
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as problem:
            if problem.value not in _NOT_FOR_US:  # asking on would only repeat it
                return self._failed(index, device, problem)
        answers: list[Any] = []
        for ask in device.moving:
            try:
                answers.append(ask())
            except nvml.NVMLError:
                answers.append(None)
        rates, temperature, milliwatts, clock, reasons = answers
        if reasons is None:  # drivers before 535 know the older name only
            reasons = self._asker(handle)("nvmlDeviceGetCurrentClocksThrottleReasons")
        if self._count % SLOW_EVERY == 0 or not device.slow:
            device.slow = _slow(nvml, self._asker(handle))
        return DeviceReading(
            index=index,
            name=device.name,
            kind="cuda",
            utilization=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=_number(temperature),
            power=_number(milliwatts, 1000),
            clock=_number(clock),
            throttle=_throttle(reasons) if reasons else (),
            processes=device.processes,
            **device.slow,
        )

    def _failed(self, index: int, device: _Device, problem: Any) -> DeviceReading:
        if problem.value in _REOPEN and self._open_at is None:
            self._open_at = self._count + (1 if problem.value == _UNINITIALIZED else RETRY_EVERY)
        return DeviceReading(index=index, name=device.name, kind="cuda", error=self._trouble or str(problem))

    def _look_at_processes(self) -> None:
        """Of all devices at once: a process may be on several."""
        for device in self._devices:
            device.processes = None if device.handle is None else _processes(self._asker(device.handle))
        owners = self._owners.lookup({process.pid for device in self._devices for process in device.processes or ()})
        for device in self._devices:
            if device.processes:
                device.processes = tuple(
                    replace(owners[process.pid], memory=process.memory, is_graphics=process.is_graphics)
                    for process in device.processes
                )

    def _asker(self, handle: Any) -> Ask:
        """Asks a device by the name of a function; None: it does not tell."""
        nvml = self._nvml

        def ask(function: str, *arguments: Any) -> Any:
            try:
                return getattr(nvml, function)(handle, *arguments)
            except nvml.NVMLError:
                return None

        return ask


def _moving(nvml: Any, handle: Any) -> tuple[Callable[[], Any], ...]:
    return (
        partial(nvml.nvmlDeviceGetUtilizationRates, handle),
        partial(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        partial(nvml.nvmlDeviceGetPowerUsage, handle),
        partial(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        partial(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle),
    )


def _slow(nvml: Any, ask: Ask) -> dict[str, Any]:
    """What rarely changes, in the fields of a reading."""
    link = (
        ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        ask("nvmlDeviceGetCurrPcieLinkWidth"),
        ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )
    state = ask("nvmlDeviceGetPerformanceState")
    return {
        "power_limit": _number(ask("nvmlDeviceGetEnforcedPowerLimit"), 1000),
        "memory_clock": _number(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)),
        "fan": _number(ask("nvmlDeviceGetFanSpeed"), 100),
        "pcie": () if None in link else link,
        "ecc_errors": ask("nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC),
        "performance_state": state if state is not None and 0 <= state <= 15 else None,
    }


def _processes(ask: Ask) -> tuple[ProcessReading, ...] | None:
    """Their pids and memory. What computes and draws computes."""
    compute = ask("nvmlDeviceGetComputeRunningProcesses")
    graphics = ask("nvmlDeviceGetGraphicsRunningProcesses")
    if compute is None and graphics is None:
        return None
    found = {}
    for is_graphics, processes in ((True, graphics), (False, compute)):
        for process in processes or ():
            found[process.pid] = ProcessReading(process.pid, memory=process.usedGpuMemory, is_graphics=is_graphics)
    return tuple(found[pid] for pid in sorted(found))


def _throttle(reasons: int) -> tuple[str, ...]:
    return tuple(word for bit, word in _THROTTLE.items() if reasons & bit)


def _number(value: Any, divisor: int = 1) -> float | None:
    return None if value is None else float(value) / divisor


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
