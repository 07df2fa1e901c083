"""Readings of the machine: processor, memory, disks, network links, and the addresses at which it is reached.

On Linux they are read from /proc, without dependencies; elsewhere from psutil, if it is installed.
"""

from __future__ import annotations

import fcntl
import importlib
import ipaddress
import os
import platform
import socket
import struct
import time
from pathlib import Path
from types import ModuleType

from ...events import DeviceReading, HostProcess, HostReading, LinkReading
from ..system.processes import PROC
from ..system.state_dir import disk_free
from .busy_processes import BusyProcesses
from .disks import Disks
from .network import NetworkCounters
from .proc_file import ProcFile

LOAD_EVERY_READINGS = 5
"""Disk space, load, traffic, cores and processes are read with every fifth reading: they change slowly, or are means."""
MAX_CORES = 512
"""Processors whose use is told one by one."""
_SIOCGIFADDR = 0x8915


class Host:
    """Reads the machine. Processor utilization is a mean since the last reading, unknown in the first."""

    def __init__(self, root: Path, proc: Path = PROC) -> None:
        self._root = root
        self._processor = processor_name()
        self._stat, self._memory = ProcFile(proc / "stat"), ProcFile(proc / "meminfo")
        self._psutil = None if self._stat.read(1024) else _psutil()
        self._cores = os.cpu_count()
        self._before: tuple[int, int] | None = None
        self._disk_free: int | None = None
        self._load: float | None = None
        self._traffic: tuple[LinkReading, ...] = ()
        self._count = 0
        self._disks, self._links = Disks(proc), NetworkCounters(proc)
        self._processes = BusyProcesses(proc)
        self._cores_before: list[tuple[int, int]] = []

    def read(self) -> HostReading:
        """Take a reading; unknown values are None."""
        memory = self._read_memory()
        core_use: tuple[int, ...] | None = None
        processes: tuple[HostProcess, ...] | None = None
        if self._count % LOAD_EVERY_READINGS == 0:
            self._disk_free, self._load, self._traffic = disk_free(self._root), _load(), self._links.read()
            core_use, processes = (self._core_use(), self._processes.read()) if self._psutil is None else (None, None)
        self._count += 1
        return HostReading(
            cpu=self._utilization(),
            memory_used=_difference(memory.get("MemTotal"), memory.get("MemAvailable")),
            memory_total=memory.get("MemTotal"),
            disk_free=self._disk_free,
            cores=self._cores,
            load=self._load,
            swap_used=_difference(memory.get("SwapTotal"), memory.get("SwapFree")),
            swap_total=memory.get("SwapTotal"),
            uptime=self._uptime(),
            disks=self._disks.read(),
            links=self._traffic,
            core_use=core_use,
            processes=processes,
        )

    def _core_use(self) -> tuple[int, ...] | None:
        """Utilization of each processor since this was read last, in percent; None in the first reading."""
        text = self._stat.read(256 * (MAX_CORES + 1))
        lines = [line.split() for line in text.split(b"\n")[1 : MAX_CORES + 1] if line.startswith(b"cpu")]
        ticks = [[int(field) for field in fields[1:9] if field.isdigit()] for fields in lines]
        now = [(sum(core) - sum(core[3:5]), sum(core)) for core in ticks]
        before, self._cores_before = self._cores_before, now
        if len(before) != len(now) or not now:  # the first reading, or a processor was added
            return None
        passed = [
            (busy - busy_before, total - total_before)
            for (busy, total), (busy_before, total_before) in zip(now, before, strict=True)
        ]
        return tuple(min(100, max(0, round(100 * busy / total))) if total > 0 else 0 for busy, total in passed)

    def _utilization(self) -> float | None:
        """Share of the time since the last reading that all processors together were not idle, from 0 to 1."""
        if self._psutil is not None:
            times = self._psutil.cpu_times()
            now = (int(100 * (sum(times) - times.idle)), int(100 * sum(times)))
        else:
            # user nice system idle iowait irq softirq steal (proc_stat(5)); user and nice include the guest times that follow
            ticks = [int(field) for field in self._stat.read(1024).partition(b"\n")[0].split()[1:9]]
            if len(ticks) < 4:
                return None
            now = (sum(ticks) - sum(ticks[3:5]), sum(ticks))
        before, self._before = self._before, now
        if before is None or now[1] <= before[1]:
            return None
        return round(min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1]))), 3)

    def _read_memory(self) -> dict[str, int]:
        if self._psutil is not None:
            memory, swap = self._psutil.virtual_memory(), self._psutil.swap_memory()
            return {"MemTotal": memory.total, "MemAvailable": memory.available, "SwapTotal": swap.total, "SwapFree": swap.free}
        return parse_meminfo(self._memory.read(4096))

    def _uptime(self) -> float | None:
        if self._psutil is not None:
            return round(time.time() - float(self._psutil.boot_time()))
        return round(time.clock_gettime(time.CLOCK_BOOTTIME)) if hasattr(time, "CLOCK_BOOTTIME") else None

    def as_device(self, reading: HostReading) -> DeviceReading:
        """The processor as the device of a machine without GPUs."""
        return DeviceReading(
            name=self._processor,
            kind="cpu",
            utilization=reading.cpu,
            memory_used=reading.memory_used,
            memory_total=reading.memory_total,
        )


def parse_meminfo(meminfo: bytes) -> dict[str, int]:
    """Parse the fields of proc_meminfo(5) that a reading needs, in bytes; missing fields are left out."""
    values = {}
    for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"):
        _, _, rest = meminfo.partition(f"{name}:".encode())
        fields = rest[:40].split(None, 2)
        if len(fields) > 1 and fields[0].isdigit() and fields[1] == b"kB":
            values[name] = int(fields[0]) << 10
    return values


def processor_name() -> str:
    """Model name of the processor, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name") and (name := line.partition(":")[2].strip()):
                return name
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "cpu"


def interface_addresses() -> dict[str, str]:
    """The IPv4 address of every network interface that has one (Linux: netdevice(7)); empty elsewhere."""
    addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has no address
                continue
            addresses[name] = socket.inet_ntoa(answer[20:24])
    return addresses


def connection_address(connection: str, addresses: dict[str, str]) -> tuple[str, str]:
    """Address and interface of this machine that the centre has connected to; empty if unknown.

    ``connection``: ``client_ip client_port server_ip server_port``, as sshd sets SSH_CONNECTION.
    """
    parts = connection.split()
    if len(parts) != 4:
        return "", ""
    try:
        address = ipaddress.ip_address(parts[2].split("%")[0])
    except ValueError:
        return "", ""
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(address), _interface_of_ipv6(address)
    if address.is_loopback:
        return str(address), next((name for name, own in addresses.items() if ipaddress.ip_address(own).is_loopback), "lo")
    return str(address), next((name for name, own in addresses.items() if own == str(address)), "")


def _interface_of_ipv6(address: ipaddress.IPv6Address) -> str:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return ""
    digits = f"{int(address):032x}"
    return next((line.split()[-1] for line in lines if line.startswith(digits)), "")


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _difference(total: int | None, free: int | None) -> int | None:
    return None if total is None or free is None else total - free


def _psutil() -> ModuleType | None:
    try:
        return importlib.import_module("psutil")
    except ImportError:  # psutil is optional: without it these readings are unknown
        return None
