"""The runner: one detached process per run and node that owns the run directory and its torchrun, whatever becomes of the link.

``python -m paceline.engine.agent.runner ROOT NODE`` reads {"spec", "plan", "token", "env"} from standard input, detaches, answers
with one line {"port"} or {"error"} and goes on alone. It ends its processes before it writes exit.json, and writes exit.json last.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import PacelineError, WorkFailed
from ..events import Event, LaunchStarted, PeerLost, RunnerEnded, RunnerStarted
from ..plan import NodePlan, Plan
from ..wire import encode, from_plain
from .blame import Blame, local_blame
from .mesh import Mesh
from .processes import GRACE, ROOT_MARK, RUN_MARK, boot_id, end_marked, start_time
from .rundir import storage_failed, write_once

INTRODUCTION = 60.0
"""Seconds within which the control centre must name the peers; else nothing starts."""
VERDICT = 8.0
"""Seconds a runner whose ranks only saw broken collectives waits for the peer that knows the cause."""
PR_SET_PDEATHSIG = 1


class Runner:
    """One run on one node, from its empty directory to exit.json."""

    def __init__(self, root: Path, plan: Plan, node: NodePlan, token: str, env: dict[str, str]) -> None:
        self.run = root / "runs" / plan.run_id
        self._root, self._plan, self._node, self._env = root, plan, node, env
        self._blame: asyncio.Future[Blame] = asyncio.get_running_loop().create_future()
        self._store: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._mesh = Mesh(node.name, token, self._hear)
        self._others_done: set[str] = set()

    async def listen(self) -> int:
        """Open the mesh and take note of the start; returns the port."""
        port = await self._mesh.listen(self._node.address)
        started = RunnerStarted(pid=os.getpid(), boot_id=boot_id(), start_time=start_time(os.getpid()) or 0)
        identity = {"pid": started.pid, "boot_id": started.boot_id, "start_time": started.start_time}
        write_once(self.run / "start.json", {**identity, "wall_time": time.time(), "port": port, "node": self._node.name})
        self._write(started)
        return port

    async def follow_through(self) -> None:
        """Run the work to its end, whatever end that is, and leave no process and no half-written file."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._decide, Blame("cancelled", "cancelled by a person"))
        work = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({work, self._blame}, return_when=asyncio.FIRST_COMPLETED)
            if not self._blame.done():
                self._decide(work.result() if work.exception() is None else Blame("failed", _sentence(work.exception())))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        blame = self._blame.result()
        self._mesh.tell({"ended": blame.as_dict()})
        survivors = await loop.run_in_executor(None, end_marked, self._plan.run_id, self._root, GRACE)
        ended = RunnerEnded(
            state=blame.state,
            reason=blame.reason,
            rank=blame.rank,
            failed_node=blame.node,
            survivors=tuple(survivors),
            node_time=time.time(),
        )
        self._write(ended)
        write_once(self.run / "exit.json", ended)
        await self._mesh.close()

    async def _work(self) -> Blame:
        """Meet the peers, start torchrun, pass the store's address on, wait for the end."""
        try:
            peers = await asyncio.wait_for(asyncio.shield(self._mesh.peers), INTRODUCTION)
        except asyncio.TimeoutError:
            return Blame("failed", "never started: the control centre went away before all nodes were ready")
        lower = [node.name for node in self._plan.nodes if node.node_rank < self._node.node_rank]
        await self._mesh.join(peers, lower, INTRODUCTION)
        process = await self._start_torchrun()
        pass_on = asyncio.ensure_future(self._pass_store_on())
        try:
            status = await process.wait()
        finally:
            pass_on.cancel()
        if status == 0:
            return Blame("done")
        blame = local_blame(self.run, self._plan, self._node, status)
        if blame.is_collateral:  # some other node knows better: its word arrives as the decision
            await asyncio.sleep(VERDICT)
        return blame

    async def _start_torchrun(self) -> asyncio.subprocess.Process:
        node, plan = self._node, self._plan
        command = [node.python, "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
        command += ["--nproc-per-node", str(len(node.ranks)), "--local-addr", node.address, "--max-restarts", "0"]
        command += ["-m", "paceline.engine.training", str(self.run), node.name]
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

    async def _pass_store_on(self) -> None:
        """Rank 0 opens the group's store at a port of the kernel's choice; its runner reads it there and tells the others."""
        first = self.run / "ranks" / "0.jsonl"
        while 0 in self._node.ranks and not self._store.done():
            for line in first.read_bytes().split(b"\n") if first.exists() else ():
                if b'"StoreOpened"' in line and line.endswith(b"}"):
                    opened = json.loads(line)
                    store = {"address": opened["address"], "port": opened["port"]}
                    self._mesh.tell({"store": store})
                    self._store.set_result(store)
            await asyncio.sleep(0.1)
        write_once(self.run / "store.json", await self._store)

    def _hear(self, peer: str, message: dict[str, Any]) -> None:
        """One message of a peer: the store's address, its end, or that it is lost."""
        if "store" in message and not self._store.done():
            self._store.set_result(message["store"])
        elif "ended" in message:
            blame = from_plain(Blame, message["ended"])
            self._others_done.add(peer)
            if blame.state != "done":
                self._decide(blame)
        elif "lost" in message and peer not in self._others_done:
            ranks = next((node.ranks for node in self._plan.nodes if node.name == peer), ())
            self._write(PeerLost(peer=peer, ranks=ranks, reason=str(message["lost"])))
            named = ", ".join(map(str, ranks))
            reason = f"rank {named} on {peer} is gone: {message['lost']}"
            self._decide(Blame("failed", reason, rank=ranks[0] if ranks else None, node=peer))

    def _decide(self, blame: Blame) -> None:
        if not self._blame.done():
            self._blame.set_result(blame)

    def _write(self, event: Event) -> None:
        """Append one event; a full disk must not stop the runner from ending its processes."""
        line = encode(_stamped(event)).encode() + b"\n"
        with contextlib.suppress(OSError), (self.run / "events.jsonl").open("ab") as file:
            file.write(line)


def _stamped(event: Event) -> Event:
    return dataclasses.replace(event, node_time=time.time())


def _sentence(error: BaseException | None) -> str:
    return str(error) or type(error).__name__


def _die_with_parent() -> None:
    """In the child, before exec: whoever kills the runner kills its torchrun, and that its ranks (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _take_directory(run: Path, asked: dict[str, Any]) -> int:
    """Make the run directory ours: all of it or nothing. Returns the handle that holds its lock."""
    try:
        run.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise storage_failed(run.parent, error) from None
    try:
        run.mkdir(mode=0o700)
    except FileExistsError:
        raise WorkFailed(f"run {run.name} is already here") from None
    except OSError as error:
        raise storage_failed(run, error) from None
    try:
        (run / "ranks").mkdir(mode=0o700)
        write_once(run / "spec.json", asked["spec"])
        write_once(run / "plan.json", asked["plan"])
    except (OSError, PacelineError) as error:
        shutil.rmtree(run, ignore_errors=True)
        raise storage_failed(run, error) if isinstance(error, OSError) else error from None
    handle = os.open(run, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _detach() -> None:
    """Leave the agent's session and its children for good; standard output stays open for the one answer."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 2)


async def _main(root: Path, asked: dict[str, Any]) -> None:
    plan = from_plain(Plan, asked["plan"])
    node = next(node for node in plan.nodes if node.name == asked["node"])
    run = root / "runs" / plan.run_id
    try:
        lock = _take_directory(run, asked)
        runner = Runner(root, plan, node, asked["token"], asked["env"])
        try:
            answer: dict[str, Any] = {"port": await runner.listen(), "pid": os.getpid()}
        except OSError as error:
            shutil.rmtree(run, ignore_errors=True)
            raise WorkFailed(f"cannot listen on {node.address}: {error.strerror}", hint="set address in nodes.toml") from None
    except PacelineError as error:
        _answer({"error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})
        return
    _answer(answer)
    try:
        await runner.follow_through()
    finally:
        os.close(lock)


def _answer(value: dict[str, Any]) -> None:
    """The one line the agent waits for; then standard output is closed, so that the agent's pipe ends."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(value).encode() + b"\n")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)


if __name__ == "__main__":
    os.umask(0o077)
    request = {**json.loads(sys.stdin.buffer.read()), "node": sys.argv[2]}
    _detach()
    asyncio.run(_main(Path(sys.argv[1]), request))
