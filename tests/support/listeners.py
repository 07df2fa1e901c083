"""Reads from /proc on which ports processes listen, in both families (proc_net_tcp(5)), and tries to get in."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
import time
from pathlib import Path

from tests.support.runs.labs import LabDirectory
from tests.support.waiting import until_sync

LISTEN = "0A"


def listening_ports(pid: int) -> set[tuple[str, int]]:
    """Address and port of every listening TCP socket of one process; of one that has ended, none."""
    ours = _socket_inodes(pid)
    return {place for inode, place in read_listeners(str(pid)) if inode in ours}


def read_listeners(pid: str) -> list[tuple[str, tuple[str, int]]]:
    """Inode, address and port of every listening TCP socket in the network of a process; ``self``: of this one."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:  # it has ended, or there is no such family
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                address, port = fields[1].split(":")
                found.append((fields[9], (_address(address), int(port, 16))))
    return found


class DoorWatch:
    """Looks, while a run of a lab starts, at every port on which a process of it listens."""

    def __init__(self, lab: LabDirectory) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.of_ranks: dict[int, set[tuple[str, int]]] = {}
        """By pid, of every process of the run that is no runner and listens."""
        self._lab = lab

    def until(self, text: str, process: subprocess.Popen[str]) -> None:
        """Look again and again until the narration contains a text."""

        def is_written() -> bool:
            for run in (self._lab.path / "logs" / "nodes").glob("n0/runs/*"):
                for pid in self.runners(run.name):
                    self.seen |= listening_ports(pid)
                for pid in self._lab.marked(run.name):
                    if ports := listening_ports(pid):
                        self.seen |= ports
                        self.of_ranks[pid] = ports
            assert process.poll() is None, self._lab.narration()
            return text in self._lab.narration()

        until_sync(is_written, lambda: time.sleep(0.1))

    def runners(self, run_id: str) -> list[int]:
        """The living runners of a run."""
        names = [root.name for root in (self._lab.path / "logs" / "nodes").iterdir()]
        return [runner for name in names if (runner := self._lab.runner(name, run_id)) is not None]


def lets_in(place: tuple[str, int]) -> bool:
    """Whether a port accepts a connection or refuses it; False where the kernel drops what a stranger sends."""
    with socket.socket() as stranger:
        stranger.settimeout(0.3)
        try:
            stranger.connect(place)
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            pass
    return True


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
