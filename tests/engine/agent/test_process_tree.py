"""Process identity on a fake /proc, and ending the processes of a run that detach, stop, fork or drop their environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.agent.runs.run_dir import create, finish, run_facts
from paceline.engine.agent.system import oom, processes
from paceline.engine.agent.system.oom import OomKills, oom_explanation, oom_kills
from paceline.engine.agent.system.process_tree import ProcessTree
from paceline.engine.agent.system.processes import RUN_ID_VARIABLE, STATE_ROOT_VARIABLE, is_alive, start_time
from paceline.engine.jobs.lifecycle import node_verdict

from tests.support.waiting import until_sync

RUN = "20260101-0000-abcdef"


class Machine:
    """A fake /proc."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.boot("one")

    def boot(self, name: str) -> None:
        path = self.proc / "sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")

    def process(self, pid: int, started: int, state: str = "S") -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        fields = [state, "1", str(pid), str(pid), *["0"] * 15, str(started), "0"]
        (self.proc / str(pid) / "stat").write_text(f"{pid} (a) b) {' '.join(fields)}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(processes, "PROC", tmp_path / "proc")
    return Machine(tmp_path / "proc")


def test_a_process_is_identified_by_boot_pid_and_start_time(machine: Machine) -> None:
    machine.process(42, 1000)
    assert is_alive(42, "one", 1000)


def test_a_reused_pid_is_another_process(machine: Machine) -> None:
    machine.process(42, 1001)
    assert not is_alive(42, "one", 1000)


def test_after_a_reboot_the_same_pid_and_start_time_are_another_process(machine: Machine) -> None:
    machine.process(42, 1000)
    machine.boot("two")
    assert not is_alive(42, "one", 1000)


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_zombie_is_not_alive(machine: Machine, state: str) -> None:
    machine.process(42, 1000, state)
    assert not is_alive(42, "one", 1000)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -10 * 365 * 86400.0])
def test_no_jump_of_the_clock_ends_or_revives_a_runner(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    run = tmp_path / "runs" / RUN
    handle = create(run, {"spec": {}, "plan": {}})
    assert handle is not None
    start = {"pid": 42, "boot_id": "one", "start_time": 1000, "wall_time": time.time(), "port": 1}
    (run / "start.json").write_text(json.dumps(start))
    machine.process(42, 1000)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert (run_facts(run)["is_alive"], node_verdict(run_facts(run)).state) == (True, "starting")
    machine.process(42, 1000, "Z")
    assert node_verdict(run_facts(run)).reason == "its runner was killed"
    os.close(handle)


def test_a_run_ends_on_a_full_disk_in_its_reserved_space(tmp_path: Path) -> None:
    volume = tmp_path / "full"
    volume.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(volume)], capture_output=True, check=False
    ).returncode:
        pytest.skip("cannot mount a small file system")
    try:
        handle = create(volume / RUN, {"spec": {}, "plan": {}})
        with pytest.raises(OSError, match="No space"):
            (volume / "filler").write_bytes(b"x" * (1 << 20))
        finish(volume / RUN, {"state": "done", "reason": "x" * 2000})
        assert json.loads((volume / RUN / "exit.json").read_text())["state"] == "done"
        assert handle is not None
        os.close(handle)
        (volume / RUN / "exit.json").unlink()
        assert node_verdict(run_facts(volume / RUN)).reason == "no space left on the node to say how it ended"
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=True)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run directory whose processes are ended with the test."""
    directory = tmp_path / "runs" / RUN
    directory.mkdir(parents=True)
    (directory / "out.log").touch()
    yield directory
    assert ProcessTree(directory).terminate(0.0) == []


def start_shell(run: Path, script: str, is_marked: bool = True) -> int:
    """Start a shell in place of torchrun, in a session of its own; returns its pid."""
    marks = {RUN_ID_VARIABLE: run.name, STATE_ROOT_VARIABLE: str(run.parent.parent)} if is_marked else {}
    with (run / "out.log").open("ab") as log:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", script], env={**os.environ, **marks}, stdout=log, stderr=log, start_new_session=True
        )
    return shell.pid


@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM HUP; sleep 600 & while :; do sleep 600; done",
        "setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & sleep 600",
        "(setsid sh -c '(sleep 600 &) ; sleep 600' &) ; sleep 600",
        "kill -STOP $$; sleep 600 & sleep 600",
        "env -i setsid sh -c 'sleep 600; sleep 600' & sleep 600",
    ],
    ids=["ignores TERM", "left the session", "forked twice", "stopped", "dropped its environment"],
)
def test_no_process_of_the_run_survives(run: Path, script: str) -> None:
    start_shell(run, script)
    count = 1 if "STOP" in script else 3 if "trap ''" in script else 2
    until_sync(lambda: len(ProcessTree(run).scan()) >= count)
    assert ProcessTree(run).terminate(0.2) == []
    assert ProcessTree(run).scan() == {}


def test_a_process_without_environment_and_log_is_found_by_a_recorded_session(run: Path) -> None:
    escape = "env -i setsid sh -c 'sleep 600; sleep 600' >/dev/null 2>&1 & sleep 600"
    start_shell(run, escape)
    tree = ProcessTree(run)
    until_sync(lambda: len(tree.scan()) >= 4)  # by descent, while the parent lives
    tree.record()
    stats = {pid: processes.read_stat(pid) for pid in tree.scan()}
    (parent,) = [pid for pid, stat in stats.items() if stat is not None and stat.session == pid and _read_environ(pid)]
    os.kill(parent, signal.SIGKILL)
    until_sync(lambda: start_time(parent) is None)
    assert len(ProcessTree(run).scan()) >= 2
    assert ProcessTree(run).terminate(0.0) == []


def test_a_process_in_a_reused_session_number_is_no_member(run: Path) -> None:
    stranger = start_shell(run.parent.parent / "runs" / RUN, "exec >/dev/null 2>&1; sleep 600", is_marked=False)
    try:
        until_sync(lambda: not ProcessTree(run).scan())  # it has left the log
        identity = {"boot_id": processes.boot_id(), "sessions": {str(stranger): 1}}
        (run / "sessions.json").write_text(json.dumps(identity))
        assert ProcessTree(run).scan() == {}
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_a_process_that_only_reads_the_log_is_no_member(run: Path) -> None:
    reader = subprocess.Popen(["tail", "-f", str(run / "out.log")], cwd=run, stdout=subprocess.DEVNULL)
    try:
        assert ProcessTree(run).scan() == {}
    finally:
        reader.kill()
        reader.wait()


def test_short_lived_processes_that_keep_forking_are_ended(run: Path) -> None:
    # It dies with the test run: one that escaped would fork for ever.
    (run / "bomb").write_text(f"trap '' TERM\nexec 2>/dev/null\nkill -0 {os.getpid()} || exit 0\nsleep 0.01\nsetsid sh bomb &\n")
    start_shell(run, f"cd {run} && for i in 1 2 3 4; do setsid sh bomb & done; trap '' TERM; sleep 600")
    until_sync(lambda: len(ProcessTree(run).scan()) >= 3)
    assert ProcessTree(run).terminate(0.1) == []
    assert ProcessTree(run).scan() == {}


def test_a_kill_counts_as_out_of_memory_only_where_the_kernel_counted_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "PROC", tmp_path)
    monkeypatch.setattr(oom, "CGROUP_DIR", tmp_path / "groups")
    assert oom_kills() == OomKills()
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/user.slice/job\n")
    (tmp_path / "groups/user.slice/job").mkdir(parents=True)
    (tmp_path / "groups/user.slice/job/memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    assert oom_kills() == OomKills(own=1, machine=3)
    assert oom_explanation(OomKills(0, 2), oom_kills()) == "out of memory, killed by the kernel"
    assert oom_explanation(OomKills(1, 2), oom_kills()).startswith("possibly out of memory")
    assert oom_explanation(OomKills(1, 3), oom_kills()) == ""


def _read_environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
