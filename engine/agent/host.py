"""Readings of the machine itself: processor, memory, free disk, and where its peers reach it."""

from __future__ import annotations

import fcntl
import importlib
import ipaddress
import os
import platform
import socket
import struct
from pathlib import Path
from types import ModuleType

from ..events import DeviceReading, HostReading

try:
    psutil: ModuleType | None = importlib.import_module("psutil")
except ImportError:  # a node need not have it: then these readings are unknown
    psutil = None

_SIOCGIFADDR = 0x8915


class Host:
    """Reads the machine. The first processor utilization is unknown: it is a mean since the last reading."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._is_first = True
        self._processor = processor_name()

    def read(self) -> HostReading:
        """One reading; what cannot be known is None."""
        cpu = used = total = None
        if psutil is not None:
            percent = psutil.cpu_percent(None)
            cpu = None if self._is_first else percent / 100
            self._is_first = False
            memory = psutil.virtual_memory()
            used, total = memory.total - memory.available, memory.total
        return HostReading(cpu=cpu, memory_used=used, memory_total=total, disk_free=disk_free(self._root))

    def as_device(self, reading: HostReading) -> DeviceReading:
        """The processor as the device of a machine that has no GPU."""
        return DeviceReading(
            name=self._processor,
            kind="cpu",
            utilization=reading.cpu,
            memory_used=reading.memory_used,
            memory_total=reading.memory_total,
        )


def disk_free(path: Path) -> int | None:
    """Bytes that this user may still write there."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize


def processor_name() -> str:
    """What the processor calls itself, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name") and (name := line.partition(":")[2].strip()):
                return name
    except OSError:
        pass  # not Linux: platform knows something
    return platform.processor() or platform.machine() or "cpu"


def interface_addresses() -> dict[str, str]:
    """The IPv4 address of every network interface that has one (Linux: netdevice(7)); empty elsewhere."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
            except OSError:  # it has none
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def where_reached(connection: str, addresses: dict[str, str]) -> tuple[str, str]:
    """Address and interface by which the centre came, from SSH_CONNECTION; empty where it does not tell.

    ``connection`` is ``client_ip client_port server_ip server_port`` as sshd sets it.
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
    wanted = f"{int(address):032x}"
    return next((line.split()[-1] for line in lines if line.startswith(wanted)), "")
