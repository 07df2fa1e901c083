"""What the NVIDIA driver itself says, past our own readings: its library called directly, and nvidia-smi."""

from __future__ import annotations

import ctypes
import os
import subprocess

SMI_FIELDS = (
    "name",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "clocks.sm",
    "clocks.mem",
    "fan.speed",
    "pstate",
    "pcie.link.gen.current",
    "pcie.link.width.current",
    "driver_version",
)
SMI_TIMEOUT_S = 10.0


def nvidia_smi(index: int) -> dict[str, str] | None:
    """nvidia-smi's values of one device by field, without units; None where it is missing or fails."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    cells = [cell.strip() for cell in done.stdout.splitlines()[0].split(",")]
    return dict(zip(SMI_FIELDS, cells, strict=False))


class EnergyCounter:
    """The card's own counter of millijoules since the driver was loaded. Raises OSError where the driver has none."""

    def __init__(self, index: int) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        if self._library.nvmlInit_v2() != 0:
            raise OSError("NVML cannot be initialized")
        self._handle = ctypes.c_void_p()
        if self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(self._handle)) != 0:
            raise OSError(f"NVML knows no device {index}")
        self.joules()

    def joules(self) -> float:
        """Joules so far. Raises OSError where the card has no counter."""
        value = ctypes.c_ulonglong()
        if (code := self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(value))) != 0:
            raise OSError(f"the card has no energy counter (NVML {code})")
        return value.value / 1000


def nvml_index() -> int:
    """NVML's index of torch's first device: CUDA_VISIBLE_DEVICES may hide cards before it."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    return int(first) if first.isdigit() else 0
