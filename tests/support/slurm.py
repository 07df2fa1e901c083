"""A real cluster of Slurm on this machine for the tests: a controller and four unlike nodes, in a directory, on own ports.

Debian's slurmctld and slurmd (apt-get install slurmctld slurmd slurm-client) run as root, without accounting, munge or systemd.
GPUs are files that exist. ``SLURM_CONF`` names the cluster to every command; the login node is a real sshd that sets it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.support.ssh.sshd import PROGRAM as SSHD
from tests.support.ssh.sshd import sshd
from tests.support.waiting import until_sync

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
NODES = {"lab1": "rtx3060", "lab2": "rtx3050", "lab3": "gtx1650", "lab4": "gtx1650"}
"""The class of GPU of each machine, which is also a feature of it."""
COMMAND_LIMIT_S = 20.0
"""Seconds after which a command is given up."""
PR_SET_PDEATHSIG = 1
_MISSING = [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "squeue") if shutil.which(name, path=_PATH) is None]
_REASON = (
    f"no {_MISSING[0]}: apt-get install slurmctld slurmd slurm-client"
    if _MISSING
    else "slurmd needs root"
    if os.geteuid() != 0
    else "no sshd: apt-get install openssh-server"
    if SSHD is None
    else ""
)
needs_slurm = pytest.mark.skipif(bool(_REASON), reason=_REASON)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different: Slurm cannot be told to let the kernel choose."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@dataclass
class Cluster:
    """One running cluster."""

    directory: Path
    controller: subprocess.Popen[bytes] | None = None
    machines: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.directory / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.configuration), "PATH": _PATH}

    def ask(self, *words: str) -> str:
        """Standard output of a command of Slurm; empty where it fails."""
        try:
            return subprocess.run(
                words, env=self.environment, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT_S
            ).stdout
        except subprocess.TimeoutExpired:  # the controller is down
            return ""

    def jobs(self, state: str = "all") -> list[str]:
        """Numbers of the jobs in a state, without those of the other components."""
        lines = self.ask("squeue", "-h", "-t", state, "-o", "%i").split()
        return [line.removesuffix("+0") for line in lines if "+" not in line or line.endswith("+0")]

    def start_controller(self) -> None:
        command = ["slurmctld", "-D", "-f", str(self.configuration)]
        self.controller = self._start(command, "controller.out")

    def stop_controller(self) -> None:
        """End the controller as a restart of its service does: it saves what it knows, and jobs go on."""
        assert self.controller is not None
        self.controller.terminate()
        self.controller.wait()

    def start_machine(self, name: str) -> None:
        self.machines[name] = self._start(["slurmd", "-D", "-N", name, "-f", str(self.configuration)], f"{name}.out")

    def cut_power(self, name: str) -> None:
        """Kill slurmd of a machine and everything that runs on it."""
        daemon = self.machines.pop(name)
        for pid in [daemon.pid, *_processes_of(self.directory, name)]:
            _kill(pid)
        daemon.wait()

    def stop(self) -> None:
        """End all jobs, then all daemons. Nothing of the cluster is left."""
        self.ask("scancel", "-f", "-u", str(os.getuid()))
        self._wait_until_empty(10.0)
        for name in [*self.machines]:
            self.cut_power(name)
        if self.controller is not None:
            self.stop_controller()
        for pid in _processes_of(self.directory, ""):
            _kill(pid)

    def _start(self, command: list[str], output: str) -> subprocess.Popen[bytes]:
        with (self.directory / output).open("ab") as out:
            return subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_the_tests,
            )

    def _wait_until_empty(self, limit: float) -> None:
        deadline = time.monotonic() + limit
        while self.jobs("all") and self.controller is not None and self.controller.poll() is None and time.monotonic() < deadline:
            if all(state in ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL") for state in self._states()):
                return
            time.sleep(0.1)

    def _states(self) -> list[str]:
        return self.ask("squeue", "-h", "-t", "all", "-o", "%T").split()


def _die_with_the_tests() -> None:
    """In the child, before exec: have the kernel end the daemon when the tests end, however they do (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _processes_of(directory: Path, name: str) -> list[int]:
    """Processes whose environment names the cluster, and the machine where one is given; or whose command line names it."""
    wanted = [f"SLURM_CONF={directory / 'slurm.conf'}".encode()] + ([f"SLURMD_NODENAME={name}".encode()] if name else [])
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = set((entry / "environ").read_bytes().split(b"\0"))
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        is_step = words.startswith(b"slurmstepd") and (not name or f"-{name}".encode() in words)
        if set(wanted) <= environment or (is_step and str(directory).encode() in b"".join(environment)):
            found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _configure(directory: Path) -> None:
    host = socket.gethostname().split(".")[0]
    controller, *ports = free_ports(1 + len(NODES))
    lines = [
        "ClusterName=paceline",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/none",
        "CredType=cred/none",
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "SchedulerType=sched/backfill",  # heterogeneous jobs are started by backfill only
        "SchedulerParameters=bf_interval=1,bf_hetjob_immediate,sched_interval=1,batch_sched_delay=0",
        f"StateSaveLocation={directory}/state",
        f"SlurmdSpoolDir={directory}/spool.%n",
        f"SlurmctldPidFile={directory}/slurmctld.pid",
        f"SlurmdPidFile={directory}/slurmd.%n.pid",
        f"SlurmctldLogFile={directory}/slurmctld.log",
        f"SlurmdLogFile={directory}/slurmd.%n.log",
        "SlurmdTimeout=10",
        "SlurmctldTimeout=10",
        "KillWait=20",
        "MinJobAge=300",
        "JobRequeue=1",
        "GresTypes=gpu",
        *(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000"
            f" Feature={kind} Gres=gpu:{kind}:1"
            for (name, kind), port in zip(NODES.items(), ports, strict=True)
        ),
        f"PartitionName=gpu Nodes={','.join(NODES)} Default=YES MaxTime=60 DefaultTime=20 State=UP",
        "PartitionName=small Nodes=lab4 MaxTime=2 DefaultTime=1 State=UP",
    ]
    (directory / "slurm.conf").write_text("\n".join(lines) + "\n")
    gres = (f"NodeName={name} Name=gpu Type={kind} File=/dev/null" for name, kind in NODES.items())
    (directory / "gres.conf").write_text("\n".join(gres) + "\n")
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (directory / name).mkdir()


@contextmanager
def slurm_cluster(directory: Path) -> Iterator[Cluster]:
    """Run a cluster until the block ends. Skips the test where it does not start."""
    directory.mkdir(parents=True)
    _configure(directory)
    cluster = Cluster(directory)
    try:
        cluster.start_controller()
        for name in NODES:
            cluster.start_machine(name)
        started = time.monotonic()

        def is_up() -> bool:
            if cluster.controller is None or cluster.controller.poll() is not None or time.monotonic() - started > 30.0:
                pytest.skip(f"slurmctld does not start here: {(directory / 'controller.out').read_text()[-300:]}")
            return cluster.ask("sinfo", "-h", "-p", "gpu", "-t", "idle", "-o", "%D").strip() == str(len(NODES))

        until_sync(is_up)
        yield cluster
    finally:
        cluster.stop()


LAB = """
[[node]]
name = "hpc"
kind = "slurm"
host = "127.0.0.1"
port = {port}
user = "root"
key = "{key}"
host_key = "{fingerprint}"
python = "{python}"
state_dir = "{state}"
partitions = ["gpu"]
time_limit = "{limit}"
class = [
    {{ name = "RTX 3060", constraint = "rtx3060", gres = "gpu:rtx3060:1", speed = 12.7, memory = "12GiB" }},
    {{ name = "RTX 3050", constraint = "rtx3050", speed = 5.6, memory = "8GiB" }},
    {{ name = "GTX 1650", nodes = 2, constraint = "gtx1650", speed = 3.3, memory = "4GiB" }},
]
"""


@contextmanager
def slurm_lab(cluster: Cluster, directory: Path, python: str, limit: str = "00:10:00") -> Iterator[SlurmLab]:
    """Serve the login node of a cluster: a lab that is its four machines."""
    directory.mkdir(parents=True)
    host_key, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key = directory / "key"
    client.write_private_key(str(key))
    key.chmod(0o600)
    with asyncio.Runner() as runner:
        server = sshd(directory / "sshd", [host_key], client, SetEnv=f"SLURM_CONF={cluster.configuration}")
        port = runner.run(server.__aenter__()).port
        try:
            values = {"key": key, "fingerprint": host_key.get_fingerprint(), "python": python, "state": directory / "shared"}
            (directory / "nodes.toml").write_text(LAB.format(port=port, limit=limit, **values))
            yield SlurmLab(directory, cluster)
        finally:
            runner.run(server.__aexit__(None, None, None))


@dataclass
class SlurmLab:
    """A directory with the nodes.toml of a cluster, and the command in it."""

    directory: Path
    cluster: Cluster

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command in the background; its narration goes to a file."""
        with (self.directory / "narration.txt").open("a") as log:
            command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
            return subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """The command to its end: status and document."""
        process = self.start(*words)
        out, _ = process.communicate()
        return process.returncode, json.loads(out) if out else {}

    def narration(self) -> str:
        """Everything written to standard error so far."""
        path = self.directory / "narration.txt"
        return path.read_text() if path.exists() else ""

    def row(self, run_id: str | None = None) -> dict[str, Any]:
        """A run as ``jobs`` lists it; None: the newest. {}: there is none."""
        rows = self.run("jobs")[1]["runs"]
        return next((row for row in rows if run_id in (None, row["run_id"])), {})

    def run_ids(self) -> set[str]:
        """The runs that were accepted at the login node."""
        names = {path.parent.name for path in self.directory.glob("shared/hpc/jobs/*/job.sh")}
        return {name for name in names if not name.startswith(".")}

    def has_stepped(self, run_id: str) -> bool:
        """Whether a rank of a run has reported a step."""
        paths = self.directory.glob(f"shared/hpc/nodes/*/runs/{run_id}/ranks/*.jsonl")
        return any("StepsTaken" in path.read_text() for path in paths)

    def orphans(self) -> list[int]:
        """Processes of jobs of the cluster that are there still."""
        mark = f"SLURM_CONF={self.cluster.configuration}".encode()
        return [
            pid for pid in _processes_of(self.cluster.directory, "") if mark in (found := _environment(pid)) and _has_job(found)
        ]


def _environment(pid: int) -> set[bytes]:
    try:
        return set((Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _has_job(environment: set[bytes]) -> bool:
    return any(value.startswith(b"SLURM_JOB_ID=") for value in environment)
