"""Device locks: released by the kernel, with an owner that all users can read, and safe from other users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.agent.runs import device_lock
from paceline.engine.agent.system.process_owner import user_name
from paceline.engine.agent.telemetry.recorder import record_line
from paceline.engine.agent.telemetry.sampler import Sampler
from paceline.engine.errors import DeviceInUse, StorageFailed
from paceline.engine.events import DeviceReading, HostReading, NodeReported, ProcessReading, ReadingsRecorded
from paceline.engine.plan import RankPlan
from paceline.engine.specs import DeviceSpec
from paceline.engine.wire import decode, to_plain

from tests.support.runs.runners import RUN, SPEC, STAYS, Lab
from tests.support.waiting import until

EMULATED = RankPlan(0, "n0", 0, 0, 0, "emulated", "RTX 3060")
REAL = replace(EMULATED, device_kind="cuda")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the machine, played by one of this test."""
    directory = tmp_path / "devices"
    directory.mkdir()
    directory.chmod(0o1777)
    monkeypatch.setattr(device_lock, "LOCK_DIRECTORIES", (directory,))
    monkeypatch.setattr(device_lock, "machine_directory", lambda: directory)
    monkeypatch.setattr(device_lock, "LOCK_PATIENCE_S", 0.0)
    return directory


def test_a_held_device_is_refused_naming_run_and_user_until_it_is_free(tmp_path: Path, shared: Path) -> None:
    held = device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    with pytest.raises(DeviceInUse, match=rf"device 0 \(RTX 3060\) is in use by run one of {user_name()}"):
        device_lock.acquire(tmp_path / "another node", [REAL], "two", is_shared=False)
    assert device_lock.holder(tmp_path, "cuda", 0) == ("one", user_name())
    held.release()
    assert device_lock.holder(tmp_path, "cuda", 0) == ("", "")
    device_lock.acquire(tmp_path, [REAL], "two", is_shared=False).release()


def test_all_devices_are_locked_or_none(tmp_path: Path, shared: Path) -> None:
    second = replace(REAL, rank=1, local_rank=1, device_index=1)
    held = device_lock.acquire(tmp_path, [second], "one", is_shared=False)
    with pytest.raises(DeviceInUse):
        device_lock.acquire(tmp_path, [REAL, second], "two", is_shared=False)
    assert device_lock.holder(tmp_path, "cuda", 0) == ("", "")
    held.release()


def test_a_run_that_shares_is_never_refused_and_keeps_out_runs_that_do_not(tmp_path: Path, shared: Path) -> None:
    alone = device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    beside = device_lock.acquire(tmp_path, [REAL], "two", is_shared=True)
    alone.release()
    beside.refresh()
    assert device_lock.holder(tmp_path, "cuda", 0)[0] == "two"
    third = device_lock.acquire(tmp_path, [REAL], "three", is_shared=True)
    for held, left in ((third, "two"), (beside, "")):
        with pytest.raises(DeviceInUse):
            device_lock.acquire(tmp_path, [REAL], "four", is_shared=False)
        held.release()
        beside.refresh()
        assert device_lock.holder(tmp_path, "cuda", 0)[0] == left
    device_lock.acquire(tmp_path, [REAL], "four", is_shared=False).release()


def test_an_owner_that_was_killed_is_forgotten(tmp_path: Path, shared: Path) -> None:
    held = device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    os.close(held.locked[0])  # as the kernel does
    assert (shared / "paceline-cuda0").stat().st_size > 0
    assert device_lock.holder(tmp_path, "cuda", 0) == ("", "")


def test_locks_of_the_machine_are_for_all_users_under_any_umask(tmp_path: Path, shared: Path) -> None:
    before = os.umask(0o077)
    try:
        device_lock.acquire(tmp_path, [REAL], "one", is_shared=False).release()
    finally:
        os.umask(before)
    assert (shared / "paceline-cuda0").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("trap", ["symlink", "hard link", "fifo", "directory"])
def test_a_foreign_file_in_place_of_a_lock_is_refused_and_untouched(tmp_path: Path, shared: Path, trap: str) -> None:
    victim, path = tmp_path / "victim", shared / "paceline-cuda0"
    victim.write_text("precious")
    if trap == "symlink":
        path.symlink_to(victim)
    elif trap == "hard link":
        path.hardlink_to(victim)
    elif trap == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StorageFailed, match="cuda0"):
        device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    assert device_lock.holder(tmp_path, "cuda", 0) == ("", "")
    assert victim.read_text() == "precious"


def test_a_lock_whose_file_was_removed_is_taken_again_and_a_new_run_is_refused(tmp_path: Path, shared: Path) -> None:
    held = device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    (shared / "paceline-cuda0").unlink()  # as the user who made it may
    held.refresh()
    assert device_lock.holder(tmp_path, "cuda", 0) == ("one", user_name())
    with pytest.raises(DeviceInUse, match="in use by run one"):
        device_lock.acquire(tmp_path, [REAL], "two", is_shared=False)
    (shared / "paceline-cuda0").unlink()
    faster = device_lock.acquire(tmp_path, [REAL], "two", is_shared=False)
    held.refresh()
    assert device_lock.holder(tmp_path, "cuda", 0)[0] == "two"
    faster.release()
    held.refresh()
    assert device_lock.holder(tmp_path, "cuda", 0)[0] == "one"
    (shared / "paceline-cuda0").unlink()
    (shared / "paceline-cuda0").mkdir()
    held.refresh()
    held.release()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o1755])
def test_only_a_sticky_directory_of_root_is_safe_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    first, link = tmp_path / "first", tmp_path / "link"
    first.mkdir()
    first.chmod(mode)
    link.symlink_to(tmp_path)
    monkeypatch.setattr(device_lock, "LOCK_DIRECTORIES", (first, link, tmp_path / "missing"))
    assert device_lock.machine_directory() is None
    with pytest.raises(StorageFailed, match="devices cannot be locked: neither of"):
        device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    device_lock.acquire(tmp_path, [REAL], "one", is_shared=True).release()
    assert device_lock.holders(tmp_path, "cuda", (0,)) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
def test_another_user_can_neither_remove_nor_forge_nor_hide_a_lock(tmp_path: Path, shared: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o011)
    held = device_lock.acquire(tmp_path, [REAL], "one", is_shared=False)
    path = shared / "paceline-cuda0"
    attacks = [
        *("os.unlink(p)", "os.rename(p, p + 'x')", "os.symlink('/etc/passwd', p)", "os.mkdir(p)", "os.rmdir(d)", "os.chmod(p, 0)"),
        *("os.chmod(d, 0o700)", "os.rename(d, d + 'x')", "fcntl.flock(open(p, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"),
    ]
    for attack in attacks:
        program = f"import os, fcntl; os.setgid(65534); os.setuid(65534); p, d = {str(path)!r}, {str(shared)!r}; {attack}"
        assert subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, check=False).returncode != 0, attack
    assert device_lock.holder(tmp_path, "cuda", 0) == ("one", user_name())
    with pytest.raises(DeviceInUse, match="in use by run one"):
        device_lock.acquire(tmp_path, [REAL], "two", is_shared=False)
    held.release()


async def test_readings_name_the_holder_of_a_device_until_its_runner_is_killed(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    await one.start()
    readings = Sampler(one.homes[0], (DeviceSpec("RTX 3060", 1.0, 1 << 30),))
    assert (readings.read().devices[0].holder, readings.read().devices[0].holder_user) == (RUN, user_name())
    plan = replace(one.plan, run_id="20260101-0001-second")
    with pytest.raises(DeviceInUse, match=f"in use by run {RUN}"):
        await one.launch(0, plan=to_plain(plan), spec=SPEC)
    assert not (one.homes[0].runs / plan.run_id).exists()
    os.kill(one.pid(0), signal.SIGKILL)
    await until(lambda: not readings.read().devices[0].holder)  # its last thread takes a moment longer than the process
    await one.end()


async def test_a_runner_records_readings_of_its_own_devices(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    await one.start()
    await one.until_text(0, "events.jsonl", "ReadingsRecorded")
    await one.end()
    lines = (one.run(0) / "events.jsonl").read_text().splitlines()
    (recorded,) = [event for line in lines if isinstance(event := decode(line), ReadingsRecorded)]
    assert [(device.kind, device.index, device.utilization) for device in recorded.devices] == [("emulated", 0, 0.0)]


def test_a_week_of_readings_of_eight_devices_stays_small() -> None:
    processes = tuple(ProcessReading(pid=pid, user="ada", name="python", memory=1 << 30) for pid in range(5))
    devices = tuple(
        DeviceReading(
            *(index, "NVIDIA GeForce RTX 3060", "cuda", 0.987654, 11_811_160_064, 12_884_901_888, 71.0, 169.87, 170.0, 1807.0),
            processes=processes,
        )
        for index in range(8)
    )
    host = HostReading(cpu=0.123456, memory_used=1 << 35, memory_total=1 << 36, disk_free=1 << 40)
    line = record_line(NodeReported(node="n0", host=host, devices=devices), {("cuda", index) for index in range(8)})
    back = decode(line)
    assert isinstance(back, ReadingsRecorded)
    assert (back.devices[7].clock, back.devices[7].utilization, back.devices[7].processes) == (1807.0, 0.99, None)
    assert len(line) * 6 * 60 * 24 * 7 < 80 << 20, len(line)
    assert json.loads(line)["devices"][0].keys() >= {"index", "kind", "utilization", "clock"}
