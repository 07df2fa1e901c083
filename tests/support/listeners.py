"""Reads from /proc which ports a process, or a tree of processes, listens on, in both families (proc_net_tcp(5))."""

from __future__ import annotations

import ipaddress
import os
import struct
from pathlib import Path

from paceline.engine.agent.system.processes import pids, read_stat

LISTEN = "0A"


def listening_ports(pid: int) -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of one process; of one that has ended, none."""
    ours = _socket_inodes(pid)
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            return set()
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in ours:
                address, port = fields[1].split(":")
                found.add((_address(address), int(port, 16)))
    return found


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    parents = {one: stat.parent for one in pids() if (stat := read_stat(one)) is not None}
    family = [pid]
    for member in family:
        family += [one for one, parent in parents.items() if parent == member]
    return family


def _socket_inodes(pid: int) -> set[str]:
    inodes = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        pass
    return inodes


def _address(text: str) -> str:
    """An address of /proc/net: words of four bytes in the machine's order."""
    words = [struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
