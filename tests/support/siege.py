"""A siege: strangers at every port of a run of a lab, from the moment it opens until the run is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from paceline.engine.agent.system.processes import pids, read_stat
from paceline.engine.protocol.json_files import read_json

from tests.support.attackers import ATTACKS, Attack
from tests.support.listeners import listening_ports, read_listeners
from tests.support.runs.labs import LabDirectory

LOOK_S = 0.002
"""Seconds between two looks for new ports: gloo's stand open for some hundredths of a second."""
MEMBERS_S = 0.2
"""Seconds between two searches for the run's processes."""


class Siege:
    """Attacks in a thread of its own, which ends with the ``with`` block. Ports of other processes are left alone."""

    def __init__(self, lab: LabDirectory, attacks: Sequence[Attack] = tuple(ATTACKS.values())) -> None:
        self.ports: dict[tuple[str, int], str] = {}
        """Every port that was attacked, with the name of its process."""
        self.peaks: dict[int, int] = {}
        """Largest memory of every process of the run, bytes, by pid."""
        self.let_in, self.open_seconds = 0, 0.0
        """Connections that gloo's ports took, and for how long they did."""
        self.marker = lab.path / "code-was-run"
        self._lab, self._attacks = lab, attacks
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._besiege()), daemon=True)

    def __enter__(self) -> Siege:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    async def _besiege(self) -> None:
        loop = asyncio.get_running_loop()
        attacking: list[asyncio.Task[None]] = []
        members: dict[int, str] = {}
        runners: list[int] = []
        searched, known = 0.0, set[str]()
        while not self._is_over.is_set():
            if time.monotonic() - searched > MEMBERS_S:
                searched = time.monotonic()
                members |= await loop.run_in_executor(None, self._members)
            for start in (self._lab.path / "logs" / "nodes").glob("*/runs/*/start.json"):
                if (facts := read_json(start)) is not None and facts["pid"] not in runners:
                    runners.append(facts["pid"])
                    members[facts["pid"]], known = "runner", set()
            new = {inode for inode, _ in read_listeners("self")} - known
            known |= new
            for pid, name in members.items() if new else ():
                for place in listening_ports(pid) - self.ports.keys():
                    self.ports[place] = name
                    if name != "runner":
                        attacking.append(asyncio.ensure_future(self._enter(place)))
                    attacking += [asyncio.ensure_future(self._attack(attack, place)) for attack in self._attacks]
            await asyncio.sleep(LOOK_S)
        for task in attacking:
            task.cancel()
        await asyncio.gather(*attacking, return_exceptions=True)

    async def _enter(self, place: tuple[str, int]) -> None:
        """Connect to a port of gloo's again and again; note whether it lets in, and until when."""
        began = time.monotonic()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            while True:
                _, writer = await asyncio.wait_for(asyncio.open_connection(*place), 1.0)
                self.let_in += 1
                self.open_seconds = max(self.open_seconds, time.monotonic() - began)
                writer.close()

    async def _attack(self, attack: Attack, place: tuple[str, int]) -> None:
        """Attack again and again for as long as the port is there."""
        while True:
            with contextlib.suppress(OSError):
                await attack(place, self.marker)
            await asyncio.sleep(0.2)

    def _members(self) -> dict[int, str]:
        """Processes of the lab's runs with their names; notes their memory."""
        roots = os.fsencode(self._lab.path / "logs" / "nodes")
        found = {}
        for pid in pids():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if roots not in command or read_stat(pid) is None:
                    continue
                name = "runner" if b"agent.runner" in command else "agent" if b"engine.agent" in command else "rank or torchrun"
                if name == "agent":
                    continue
                found[pid] = name
                status = Path(f"/proc/{pid}/status").read_text()
                peak = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)
                self.peaks[pid] = max(self.peaks.get(pid, 0), peak)
        return found
