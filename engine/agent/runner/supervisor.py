"""The runner: one detached process per run and node that owns the run directory and its torchrun, whatever becomes of the link.

``python -m paceline.engine.agent.runner.supervisor ROOT NODE`` reads {"spec", "plan", "token", "env"} from standard input, detaches, answers
with one line {"port"} or {"error"} and goes on alone. It ends its processes before it writes exit.json, and writes exit.json last.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...events import Event, LaunchStarted, PeerLost, RunnerEnded, RunnerStarted
from ...plan import NodePlan, Plan
from ...protocol.json_files import write_once
from ...protocol.run_files import FIRST_EPOCH
from ...wire import encode, from_plain
from ..runs import device_lock, lease
from ..runs.run_dir import create, finish
from ..system.oom import oom_kills
from ..system.process_tree import SESSIONS, ProcessTree
from ..system.processes import ROOT_MARK, RUN_MARK, boot_id, start_time
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout
from ..telemetry.recorder import ReadingRecorder
from .detach import answer_once, daemonize
from .failure_cause import Outcome, local_outcome
from .peer_mesh import PeerMesh

INTRODUCTION = 60.0
"""Seconds within which the control centre must name the peers; else nothing starts."""
VERDICT = 8.0
"""Seconds a runner whose ranks only saw broken collectives waits for the peer that knows the cause."""
LOOK = 2.0
"""Seconds between two looks at the processes, so that those of a killed runner are known."""
LAST_TRIES = 600
"""Seconds in which a full disk may yet take the end of the run."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Runner:
    """One run on one node, from its empty directory to exit.json."""

    def __init__(
        self, root: Path, plan: Plan, node: NodePlan, token: str, env: dict[str, str], devices: device_lock.DeviceLocks
    ) -> None:
        self.run = root / "runs" / plan.run_id
        self._root, self._plan, self._node, self._env = root, plan, node, env
        self._devices = devices
        self._blame: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._store: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._mesh = PeerMesh(node.name, token, self._hear)
        self._others_done: set[str] = set()
        self._family: ProcessTree | None = None
        self._oom_kills = oom_kills()

    async def listen(self) -> int:
        """Open the mesh and take note of the start; returns the port."""
        port = await self._mesh.listen(self._node.address)
        started = RunnerStarted(pid=os.getpid(), boot_id=boot_id(), start_time=start_time(os.getpid()) or 0)
        identity = {"pid": started.pid, "boot_id": started.boot_id, "start_time": started.start_time, "session": os.getsid(0)}
        write_once(self.run / "start.json", {**identity, "wall_time": time.time(), "port": port, "node": self._node.name})
        self._write(started)
        return port

    async def run_to_end(self) -> None:
        """Run the work to its end, whatever end that is, and leave no process and no half-written file."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._decide, Outcome("cancelled", "cancelled by a person"))
        work = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({work, self._blame}, return_when=asyncio.FIRST_COMPLETED)
            if not self._blame.done():
                trouble = work.exception()
                self._decide(Outcome("failed", _sentence(trouble), node=self._node.name) if trouble else work.result())
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        blame = self._blame.result()
        self._mesh.send({"ended": blame.as_dict()})
        family = self._family or ProcessTree(self.run)
        survivors = await loop.run_in_executor(None, family.terminate)
        ended = RunnerEnded(
            state=blame.state,
            reason=blame.reason,
            rank=blame.rank,
            failed_node=blame.node,
            survivors=tuple(survivors),
            node_time=time.time(),
        )
        self._write(ended)
        await self._mesh.close()
        await self._finish(dataclasses.replace(ended, reason=ended.reason[:2000]))

    async def _finish(self, ended: RunnerEnded) -> None:
        """The last word. Where a full disk does not even take that, wait for space: without it the end would look like a kill."""
        for _ in range(LAST_TRIES):
            with contextlib.suppress(PacelineError):
                finish(self.run, ended)
                (self.run / SESSIONS).unlink(missing_ok=True)
                return
            await asyncio.sleep(1.0)

    async def _work(self) -> Outcome:
        """Meet the peers, start torchrun, pass the store's address on, wait for the end."""
        try:
            peers = await with_timeout(INTRODUCTION, asyncio.shield(self._mesh.peers))
        except asyncio.TimeoutError:
            return Outcome("failed", "never started: the control centre went away before all nodes were ready")
        lower = [node.name for node in self._plan.nodes if node.node_rank < self._node.node_rank]
        await self._mesh.join(peers, lower, INTRODUCTION)
        process = await self._start_torchrun()
        self._family = ProcessTree(self.run, exclude=(process.pid,))
        ended = asyncio.ensure_future(process.wait())
        passing = asyncio.ensure_future(self._pass_store_on())
        aside = [ended, passing, *(asyncio.ensure_future(task) for task in (self._look_around(), self._keep_readings()))]
        try:
            await asyncio.wait({ended, passing}, return_when=asyncio.FIRST_COMPLETED)
            if passing.done():  # else the ranks would wait for the store until their patience ends
                passing.result()
            status = await ended
        finally:
            for task in aside:
                task.cancel()
        if status == 0:
            return Outcome("done")
        blame = local_outcome(self.run, self._plan, self._node, status, self._oom_kills)
        if blame.is_collateral:  # some other node knows better: its word arrives as the decision
            await asyncio.sleep(VERDICT)
        return blame

    async def _start_torchrun(self) -> asyncio.subprocess.Process:
        node, plan = self._node, self._plan
        command = [node.python, "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
        command += ["--nproc-per-node", str(len(node.ranks)), "--local-addr", node.address, "--max-restarts", "0"]
        command += ["-m", f"paceline.engine.{plan.program}", str(self.run), node.name]
        env = {**os.environ, **self._env, RUN_MARK: plan.run_id, ROOT_MARK: str(self._root), "PACELINE_NODE": node.name}
        env |= {"GLOO_SOCKET_IFNAME": node.interface, "NCCL_SOCKET_IFNAME": node.interface}
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # device indices are NVML's
        env |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", "1")}
        with (self.run / "out.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.run,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        self._write(LaunchStarted(pid=process.pid))
        return process

    async def _look_around(self) -> None:
        """Write down which sessions belong to the run while its descent can still be seen, and that its devices are in use."""
        assert self._family is not None
        while True:
            await asyncio.get_running_loop().run_in_executor(None, self._family.record)
            self._devices.refresh()
            await asyncio.sleep(LOOK)

    async def _keep_readings(self) -> None:
        """What the devices did, also when nobody looks on. In a thread of its own: a driver that hangs stops nothing else."""
        kept = ReadingRecorder(StateDir(self._root, self._node.name), [self._plan.ranks[rank] for rank in self._node.ranks])
        await kept.write_on(self._write_line)

    async def _pass_store_on(self) -> None:
        """Rank 0 opens the group's store at a port of the kernel's choice; its runner reads it there and tells the others."""
        first = self.run / "ranks" / "0.jsonl"
        while 0 in self._node.ranks and not self._store.done():
            for line in first.read_bytes().split(b"\n") if first.exists() else ():
                if b'"StoreOpened"' in line and line.endswith(b"}"):
                    opened = json.loads(line)
                    store = {"address": opened["address"], "port": opened["port"]}
                    self._mesh.send({"store": store})
                    self._store.set_result(store)
            await asyncio.sleep(0.1)
        write_once(self.run / "store.json", await self._store)

    def _hear(self, peer: str, message: dict[str, Any]) -> None:
        """One message of a peer: the store's address, its end, or that it is lost."""
        if "store" in message and not self._store.done():
            self._store.set_result(message["store"])
        elif "ended" in message:
            blame = from_plain(Outcome, message["ended"])
            self._others_done.add(peer)
            if blame.state != "done":
                self._decide(blame)
        elif "lost" in message and peer not in self._others_done:
            ranks = next((node.ranks for node in self._plan.nodes if node.name == peer), ())
            self._write(PeerLost(peer=peer, ranks=ranks, reason=str(message["lost"])))
            named = ", ".join(map(str, ranks))
            reason = f"rank {named} on {peer} is gone: {message['lost']}"
            self._decide(Outcome("failed", reason, rank=ranks[0] if ranks else None, node=peer))

    def _decide(self, blame: Outcome) -> None:
        if not self._blame.done():
            self._blame.set_result(blame)

    def _write(self, event: Event) -> None:
        """Append one event; a full disk must not stop the runner from ending its processes."""
        self._write_line(encode(_stamped(event)))

    def _write_line(self, line: str) -> None:
        with contextlib.suppress(OSError), (self.run / "events.jsonl").open("ab") as file:
            file.write(line.encode() + b"\n")


def _stamped(event: Event) -> Event:
    return dataclasses.replace(event, node_time=time.time())


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _die_with_parent() -> None:
    """In the child, before exec: whoever kills the runner kills its torchrun, and that its ranks (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _adopt_orphans() -> None:
    """Whoever is left behind by its parent becomes our child instead of init's, and stays findable (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


async def _main(root: Path, asked: dict[str, Any]) -> None:
    plan = from_plain(Plan, asked["plan"])
    node = next(node for node in plan.nodes if node.name == asked["node"])
    run = root / "runs" / plan.run_id
    ranks = [plan.ranks[rank] for rank in node.ranks]
    devices: device_lock.DeviceLocks | None = None
    lock: int | None = None
    try:
        lock = create(run, asked)
        if lock is None:
            answer_once({"taken": run.name})
            return
        devices = device_lock.acquire(root, ranks, plan.run_id, plan.is_shared)
        lease.acquire(run, FIRST_EPOCH, str(asked.get("holder") or ""))
        runner = Runner(root, plan, node, asked["token"], asked.get("env") or {}, devices)
        answer: dict[str, Any] = {"port": await runner.listen(), "pid": os.getpid()}
    except (PacelineError, OSError) as error:
        if devices is not None:
            devices.release()
        if lock is not None:
            shutil.rmtree(run, ignore_errors=True)
        if isinstance(error, OSError):
            error = WorkFailed(f"cannot listen on {node.address}: {error.strerror}", hint="set address in nodes.toml")
        answer_once({"error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})
        return
    answer_once(answer)
    try:
        await runner.run_to_end()
    finally:
        devices.release()
        os.close(lock)


if __name__ == "__main__":
    os.umask(0o077)
    request = {**json.loads(sys.stdin.buffer.read()), "node": sys.argv[2]}
    daemonize()
    _adopt_orphans()
    asyncio.run(_main(Path(sys.argv[1]), request))
