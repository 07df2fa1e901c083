"""A network namespace for each node of a lab, joined by a bridge, so that a link can be cut: Linux, as root.

The namespaces are anonymous: nothing of them is left once their processes have ended. A process started ``inside`` belongs to one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

CLONE_NEWNET = 0x40000000
"""setns(2)."""
INTERFACE = "eth0"


def missing_requirement() -> str:
    """What this machine lacks; empty: nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces need Linux and root"
    trial = "ip link add v0 type veth peer name v1 && ip link add br0 type bridge"
    try:
        tried = subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return (tried.stderr.strip().splitlines() or ["it was refused"])[-1] if tried.returncode else ""


class Network:
    """Links of some nodes, each of which can be cut."""

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"10.77.0.{11 + number}" for number, name in enumerate(names)}
        self.cut_off: set[str] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._holders = {name: self._hold() for name in ("", *names)}
        hub = self._holders[""].pid
        self._ip(hub, "link add br0 type bridge")
        self._ip(hub, "link set br0 up")
        for number, name in enumerate(names):
            pid = self._holders[name].pid
            self._ip(hub, f"link add v{number} type veth peer name {INTERFACE} netns {pid}")
            self._ip(hub, f"link set v{number} master br0 up")
            self._ip(pid, f"addr add {self.addresses[name]}/24 dev {INTERFACE}")
            self._ip(pid, f"link set {INTERFACE} up")
            self._ip(pid, "link set lo up")

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Have this thread, and what it starts, be in the namespace of a node."""
        handle = os.open(f"/proc/{self._holders[name].pid}/ns/net", os.O_RDONLY)
        try:
            self._enter(handle)
            yield
        finally:
            self._enter(self._own)
            os.close(handle)

    def cut(self, name: str) -> None:
        """Take the link of a node down: both ends see silence, and no error."""
        self.cut_off.add(name)
        self._ip(self._holders[""].pid, f"link set v{list(self.addresses).index(name)} down")

    def restore(self, name: str) -> None:
        """Take it up again."""
        self.cut_off.discard(name)
        self._ip(self._holders[""].pid, f"link set v{list(self.addresses).index(name)} up")

    def close(self) -> None:
        """Let the namespaces go."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
        os.close(self._own)

    def _hold(self) -> subprocess.Popen[bytes]:
        """A process that keeps a new namespace: it says a word once it is there, and ends with this one."""
        command = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        holder.stdout.readline()
        return holder

    def _ip(self, pid: int, words: str) -> None:
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *words.split()], check=True)

    def _enter(self, handle: int) -> None:
        if self._libc.setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
