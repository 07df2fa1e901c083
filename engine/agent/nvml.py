"""Readings of NVIDIA devices through NVML: what the driver does not tell is None, a device that is lost says so.

Indices are NVML's, in the order of the PCI bus: a launch that uses them sets CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

from __future__ import annotations

import contextlib
import importlib
import pwd
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..events import DeviceReading, ProcessReading
from .processes import RUN_MARK

PROCESSES_EVERY = 5
"""Readings between two looks at the processes, which cost the most."""
RETRY_EVERY = 30
"""Readings until a driver that was lost is tried again."""

_THROTTLE = {
    # nvmlClocksEventReasons of NVML's API reference; idle and clocks set by the user are no trouble
    0x0004: "power cap",
    0x0008: "hardware slowdown",
    0x0010: "sync boost",
    0x0020: "thermal (software)",
    0x0040: "thermal (hardware)",
    0x0080: "power brake",
}


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
        self._handles: list[Any] = []
        self._names: list[str] = []
        self._processes: dict[int, tuple[ProcessReading, ...] | None] = {}
        self._count = 0
        self._lost_at: int | None = None
        if nvml is not None:
            self._open()

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading a device, in the order of their indices. May take as long as the driver likes: call it in a thread."""
        if self._lost_at is not None and self._count - self._lost_at >= RETRY_EVERY:
            self._open()
        readings = tuple(self._read_device(index) for index in range(len(self._handles)))
        self._count += 1
        return readings

    def _open(self) -> None:
        nvml = self._nvml
        try:
            if self._lost_at is not None:
                nvml.nvmlShutdown()
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            self._names = [_text(nvml.nvmlDeviceGetName(handle)) for handle in handles]
        except nvml.NVMLError:  # no library, no driver, or not yet back
            self._lost_at = self._count if self._handles else None
            return
        self._handles, self._lost_at = handles, None

    def _read_device(self, index: int) -> DeviceReading:
        nvml, handle = self._nvml, self._handles[index]
        error = ""

        def ask(function: str, *arguments: Any) -> Any:
            nonlocal error
            try:
                return getattr(nvml, function)(handle, *arguments)
            except (nvml.NVMLError, AttributeError) as problem:
                if getattr(problem, "value", None) in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
                    error = str(problem)
                return None

        memory = ask("nvmlDeviceGetMemoryInfo")
        if error:  # asking on would only repeat it
            self._lost_at = self._count if self._lost_at is None else self._lost_at
            return DeviceReading(index=index, name=self._names[index], kind="cuda", error=error)
        rates = ask("nvmlDeviceGetUtilizationRates")
        reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # drivers before 535 know the older name only
            reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if self._count % PROCESSES_EVERY == 0:
            self._processes[index] = self._read_processes(ask)
        return DeviceReading(
            index=index,
            name=self._names[index],
            kind="cuda",
            utilization=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=_number(ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)),
            power=_number(ask("nvmlDeviceGetPowerUsage"), 1000),
            power_limit=_number(ask("nvmlDeviceGetEnforcedPowerLimit"), 1000),
            clock=_number(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)),
            throttle=tuple(word for bit, word in _THROTTLE.items() if (reasons or 0) & bit),
            processes=self._processes.get(index),
            error=error,
        )

    def _read_processes(self, ask: Callable[..., Any]) -> tuple[ProcessReading, ...] | None:
        compute = ask("nvmlDeviceGetComputeRunningProcesses")
        graphics = ask("nvmlDeviceGetGraphicsRunningProcesses")
        if compute is None and graphics is None:
            return None
        memory = {int(process.pid): process.usedGpuMemory for process in (*(graphics or ()), *(compute or ()))}
        computing = {int(process.pid) for process in compute or ()}
        return tuple(_describe(pid, used, pid not in computing) for pid, used in sorted(memory.items()))


def _number(value: Any, divisor: int = 1) -> float | None:
    return None if value is None else float(value) / divisor


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _describe(pid: int, memory: int | None, is_graphics: bool) -> ProcessReading:
    """Whose process it is; in a container the pid may mean nothing to us, then user and name stay empty."""
    user = name = run_id = ""
    directory = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's: what is known by then stands
        owner = directory.stat().st_uid
        name = (directory / "comm").read_text(errors="replace").strip()
        try:
            user = pwd.getpwuid(owner).pw_name
        except KeyError:
            user = str(owner)
        marks = (directory / "environ").read_bytes().split(b"\0")  # ours only; of others it is not readable
        prefix = f"{RUN_MARK}=".encode()
        run_id = next((mark[len(prefix) :].decode(errors="replace") for mark in marks if mark.startswith(prefix)), "")
    return ProcessReading(pid=pid, user=user, name=name, memory=memory, run_id=run_id, is_graphics=is_graphics)
