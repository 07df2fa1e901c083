"""OpenSSH's own sshd goes away with all its logins while a run goes on: no runner notices, and another control centre finds it."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest
from paceline.engine.agent.system.process_tree import ProcessTree
from paceline.engine.agent.system.processes import boot_id, pids, read_stat
from paceline.engine.events import Event, NodeConnected, NodeWarned
from paceline.engine.jobs.detach_check import DetachCheck
from paceline.engine.jobs.launch.submit import submit
from paceline.engine.jobs.runs.cancel import cancel
from paceline.engine.jobs.runs.listing import list_runs
from paceline.engine.specs import Inventory, NodeSpec, TrainSpec
from paceline.engine.ssh.fleet import Fleet

from tests.support.runs.centre import NODES, plan_of
from tests.support.ssh.sshd import Sshd, needs_sshd, sshd
from tests.support.waiting import until

RUN = "20260101-0000-restart"
GOES_ON = "#!/bin/sh\necho started >> starts\nwhile [ ! -e stop ]; do sleep 0.1; done\n"


def inventory(directory: Path, server: Sshd, host: asyncssh.SSHKey, state: str) -> Inventory:
    """Two nodes behind one sshd."""

    def node(name: str) -> NodeSpec:
        return NodeSpec(
            name=name,
            host="127.0.0.1",
            port=server.port,
            user=getpass.getuser(),
            key=str(directory / "client"),
            host_key=host.get_fingerprint(),
            state_dir=state,
        )

    return Inventory(str(directory / "nodes.toml"), tuple(node(name) for name in NODES))


@contextmanager
def all_logins_ended(server: Sshd) -> Iterator[None]:
    """When the block ends, every process that serves a login of this sshd is killed."""
    mine = str(server.directory).encode()
    listeners = {pid for pid in pids() if mine in _command(pid)}
    yield
    table = {pid: stat for pid in pids() if (stat := read_stat(pid)) is not None}
    served = set(listeners)
    while more := {pid for pid, stat in table.items() if stat.parent in served} - served:
        served |= more
    for pid in served:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@needs_sshd
async def test_a_run_outlives_sshd_and_is_found_through_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(str(tmp_path / "client"))
    torchrun, state = tmp_path / "torchrun", tmp_path / "state"
    torchrun.write_text(GOES_ON)
    torchrun.chmod(0o755)
    heard: list[Event] = []
    async with sshd(tmp_path / "first", [host], client) as server:
        there = inventory(tmp_path, server, host, str(state))
        fleet = Fleet(there, heard.append)
        await fleet.start()
        with all_logins_ended(server):
            survival = DetachCheck(there.nodes, fleet, heard.append, wait_logout=lambda: asyncio.sleep(0))
            for name in NODES:
                survival(NodeConnected(node=name, boot_id=boot_id()))
            await survival.wait_checked(NODES)
            link = await fleet.link("n0")
            assert (await link.ask("detach_status"))["rung"] == "setsid"
            await submit(fleet, there.nodes, TrainSpec(), plan_of(tmp_path, RUN), heard.append)
            await until(lambda: all((state / name / "runs" / RUN / "starts").exists() for name in NODES))
        await fleet.close()
    assert not [event.reason for event in heard if isinstance(event, NodeWarned)]
    async with sshd(tmp_path / "second", [host], client) as server:
        fleet = Fleet(inventory(tmp_path, server, host, str(state)), heard.append)
        await fleet.start()
        try:
            (row,) = await list_runs(fleet, tmp_path / "logs" / "runs", NODES)
            assert (row["run_id"], row["state"], row["nodes"]) == (RUN, "running", list(NODES))
            (state / "n0" / "runs" / RUN / "stop").touch()
            (state / "n1" / "runs" / RUN / "stop").touch()
            while row["state"] == "running":
                (row,) = await list_runs(fleet, tmp_path / "logs" / "runs", NODES)
            assert row["state"] == "done"
            assert all((state / name / "runs" / RUN / "starts").read_text() == "started\n" for name in NODES)
        finally:
            await cancel(row, fleet, list(NODES))
            await fleet.close()
    assert all(ProcessTree(state / name / "runs" / RUN).scan() == {} for name in NODES)
