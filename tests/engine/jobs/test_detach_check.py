"""Whether a run outlives its login: detach methods, their proof on machines that end background processes, and the warnings."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.runner import detach
from paceline.engine.agent.system.process_owner import user_name
from paceline.engine.agent.system.processes import boot_id
from paceline.engine.agent.system.state_dir import StateDir, network_file_system
from paceline.engine.errors import WorkFailed
from paceline.engine.events import Event, NodeConnected, NodeWarned
from paceline.engine.jobs.detach_check import DetachCheck
from paceline.engine.specs import Inventory
from paceline.engine.ssh.fleet import Fleet

from tests.support.runs.runners import STAYS, Lab, exists
from tests.support.ssh.logins import TAKES_OFF, LoginServer, by_group, by_session, by_tree
from tests.support.waiting import until

NONE_HERE = "exit 1"


@asynccontextmanager
async def checked(
    home: Path, ends: Callable[[int, int], set[int]], **programs: str
) -> AsyncIterator[tuple[dict[str, Any], list[NodeWarned]]]:
    """The result and warnings of a check on a machine with these programs; ``ends``: the processes that a logout ends there."""
    server = LoginServer(home, ends)
    for name, script in {"tmux": NONE_HERE, "screen": NONE_HERE, **programs}.items():
        server.program(name, script)
    await server.start()
    events: list[Event] = []
    spec = server.spec()
    fleet = Fleet(Inventory(str(home / "nodes.toml"), (spec,)), events.append)
    check = DetachCheck((spec,), fleet, events.append, server.login_ended)
    await fleet.start()
    try:
        link = await fleet.link("atlas")
        check(NodeConnected(node="atlas", boot_id=boot_id()))
        await check.wait_checked(["atlas"])
        yield await link.ask("detach_status"), [event for event in events if isinstance(event, NodeWarned)]
    finally:
        await check.close()
        await fleet.close()
        await server.close()


@pytest.mark.parametrize("ends", [pytest.param(by_session, marks=pytest.mark.slow), by_tree], ids=["session", "tree"])
async def test_a_session_of_its_own_holds_where_only_the_login_itself_is_ended(
    tmp_path: Path, ends: Callable[[int, int], set[int]]
) -> None:
    async with checked(tmp_path, ends) as (verdict, warned):
        assert (verdict["rung"], verdict["killed"], warned) == ("setsid", [], [])


@pytest.mark.slow
async def test_the_next_method_is_used_with_a_warning_where_background_processes_are_ended(tmp_path: Path) -> None:
    async with checked(tmp_path, by_group, tmux=TAKES_OFF) as (verdict, warned):
        assert (verdict["rung"], verdict["killed"]) == ("tmux", ["setsid"])
        assert [event.reason for event in warned] == ["ends background processes with their login: runs are kept by tmux"]


async def test_a_launch_is_refused_in_one_line_where_no_method_survives(tmp_path: Path) -> None:
    async with checked(tmp_path, by_group) as (verdict, warned):
        assert (verdict["rung"], verdict["next"]) == (None, None)
        assert "nothing can run here" in warned[0].reason
    with pytest.raises(WorkFailed, match=r"ends background processes with their login \(tried setsid, tmux, screen; systemd: "):
        detach.method_for_launch(StateDir(tmp_path / "state" / "atlas", "atlas"))


async def test_a_proof_counts_for_one_boot_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = StateDir(tmp_path, "n0")
    detach.check_marker(home, "setsid", {"pid": 0, "boot_id": "", "start_time": 0})
    assert detach.detach_status(home)["killed"] == ["setsid"]
    monkeypatch.setattr(detach, "boot_id", lambda: "another")
    assert (detach.detach_status(home)["killed"], detach.detach_status(home)["next"]) == ([], "setsid")


@pytest.mark.parametrize("rung", ["systemd", "tmux", "screen"])
async def test_a_runner_starts_by_every_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung: str) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    fakes = {
        "systemd-run": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
        "tmux": TAKES_OFF,
        "screen": 'shift 2; exec env -i setsid "$@" &',
    }
    for name, script in fakes.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    one = Lab(tmp_path, [STAYS])
    if rung != "systemd":  # of an agent that was killed in the middle of a start
        (one.homes[0].root / ".start-1-1").mkdir()
        os.utime(one.homes[0].root / ".start-1-1", (0, 0))
    (one.homes[0].root / "survival.json").write_text(json.dumps({"boot_id": boot_id(), "rungs": {"setsid": False, rung: True}}))
    try:
        await one.start()
        await one.until_text(0, "events.jsonl", "LaunchStarted")
        assert not list(one.homes[0].root.glob(".start-*"))
    finally:
        await one.end()
    assert (await one.until(0, "exit.json"))["state"] == "cancelled"


async def test_a_scope_of_the_service_manager_needs_bus_and_lingering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(detach, "USER_RUNTIME_DIR", tmp_path / "run")
    monkeypatch.setattr(detach, "LINGER_DIR", tmp_path / "linger")
    assert detach.unavailable_reason("systemd") == "no user bus"
    (tmp_path / "run" / str(os.getuid())).mkdir(parents=True)
    (tmp_path / "run" / str(os.getuid()) / "bus").touch()
    assert detach.unavailable_reason("systemd") == "lingering is off"
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / user_name()).touch()
    assert detach.unavailable_reason("systemd") == ""


async def test_a_marker_is_its_own_witness(tmp_path: Path) -> None:
    home = StateDir(tmp_path, "n0")
    send: Any = None  # these requests send no frames
    marker = await REQUESTS["start_marker"](home, {"rung": "setsid"}, send)
    try:
        assert (await REQUESTS["check_marker"](home, {"rung": "setsid", "marker": marker}, send))["rung"] == "setsid"
    finally:
        os.kill(marker["pid"], signal.SIGKILL)
    await until(lambda: not exists(marker["pid"]))


def test_a_state_directory_on_a_network_file_system_is_named(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/sdb /home/local xfs rw 0 0\n")
    assert network_file_system(Path("/home/ada/.local"), mounts) == "nfs4"
    assert network_file_system(Path("/home/local/ada"), mounts) == ""
    assert network_file_system(Path("/homes"), mounts) == ""
