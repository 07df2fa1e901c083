"""An SSH server that ends what a login has started when its connection closes, in the ways real machines do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import asyncssh
from paceline.engine.agent.system.processes import pids, read_stat
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh.embedded import EmbeddedNode

from tests.support.waiting import until

LOGIN = "TEST_LOGIN"
"""Marks every process of a login, as a control group would; a service manager or terminal server takes it off."""
TAKES_OFF = """shift $(($#-1)); set -- $1; sed -i /TEST_LOGIN/d "$2"
exec env -u TEST_LOGIN setsid "$@" </dev/null >/dev/null 2>&1 &"""
"""A terminal server that was there before the login: what it starts belongs to it."""


class LoginServer(EmbeddedNode):
    """``ends`` says which processes of a login go with it: by its number and its first process."""

    def __init__(self, home: Path, ends: Callable[[int, int], set[int]]) -> None:
        super().__init__(home, asyncssh.generate_private_key("ssh-ed25519"))
        self._ends = ends
        self._numbers: dict[asyncio.Task[None] | None, int] = {}
        """The login of each command, by the task that runs it: at its end the command itself may be gone."""
        self.programs = home / "programs"
        self.programs.mkdir(parents=True)
        self.client_key.write_private_key(str(home / "client"))

    def program(self, name: str, script: str) -> None:
        """Something on the PATH of every login."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def spec(self) -> NodeSpec:
        """This machine in nodes.toml, as one that is not ours."""
        return NodeSpec(
            name="atlas",
            host="127.0.0.1",
            port=self.port,
            user="lab",
            key=str(self.directory / "client"),
            host_key=self.host_key.get_fingerprint(),
            python=sys.executable,
            state_dir=str(self.directory / "state"),
        )

    async def close(self) -> None:
        """Leave nothing behind, survivors included."""
        await super().close()
        mine = f"HOME={self.directory}".encode()
        for pid in [pid for pid in pids() if mine in environ(pid)]:
            _kill(pid)

    async def login_ended(self) -> None:
        """Until all but the first of several logins have taken with them what they take."""
        await until(lambda: len(self._channels) <= 1)

    def _environment(self, process: asyncssh.SSHServerProcess[bytes]) -> dict[str, str]:
        env = super()._environment(process)
        number = int(env["SSH_CONNECTION"].split()[1])
        self._numbers[asyncio.current_task()] = number
        return {**env, LOGIN: str(number), "PATH": f"{self.programs}:{env['PATH']}"}

    async def _end_group(self, group: int) -> None:
        for pid in self._ends(self._numbers.pop(asyncio.current_task()), group):
            _kill(pid)
        await super()._end_group(group)


def by_session(number: int, first: int) -> set[int]:
    """All processes of the session of a login: what hangs up."""
    return {pid for pid in pids() if (stat := read_stat(pid)) is not None and stat.session == first}


def by_tree(number: int, first: int) -> set[int]:
    """All that descends from a login."""
    found, table = {first}, {pid: read_stat(pid) for pid in pids()}
    while more := {pid for pid, stat in table.items() if stat is not None and stat.parent in found} - found:
        found |= more
    return found


def by_group(number: int, first: int) -> set[int]:
    """All that a login has ever started, as KillUserProcesses=yes ends a control group."""
    return {pid for pid in pids() if f"{LOGIN}={number}".encode() in environ(pid)}


def environ(pid: int) -> list[bytes]:
    """What a process was started with; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
