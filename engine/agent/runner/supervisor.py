"""The supervisor of one run on one node: owns the run directory and its torchrun, and needs neither agent nor centre once started.

It ends its processes before it writes exit.json, and writes exit.json last.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ...errors import PacelineError, UsageError, WorkFailed
from ...events import (
    Event,
    LaunchStarted,
    MemberRested,
    MembersWaited,
    PeerLost,
    PeerSilent,
    RunnerEnded,
    RunnerStarted,
    StrangersRefused,
)
from ...membership.silence import Silence
from ...plan import NodePlan, Plan
from ...protocol.hours import parse_hours
from ...protocol.json_files import write_json
from ...protocol.run_files import FIRST_LEASE_EPOCH, JOINS_VARIABLE
from ...protocol.runner_socket import remove_private
from ...wire import encode, from_plain
from ..group.elastic_group import ElasticGroup
from ..group.group_store import GroupStore
from ..group.member_memory import MemberMemory
from ..group.node_hours import keep_hours
from ..group.spare import keep_spare
from ..group.store_relay import StoreRelay
from ..runs import device_lock, lease
from ..runs.environment import run_environment
from ..runs.run_dir import create, finish, start_path
from ..runs.work_dir import link_data, make_work_dir, remove_work_dir
from ..system.container import PYTHON, container_command, container_name, find_runtime, removal_command
from ..system.oom import oom_kills
from ..system.process_tree import SESSIONS_FILE, ProcessTree
from ..system.processes import RUN_ID_VARIABLE, STATE_ROOT_VARIABLE, boot_id, start_time
from ..system.state_dir import StateDir
from ..system.timeout import with_timeout
from ..telemetry.recorder import ReadingRecorder
from .daemon import answer_once
from .failure_cause import Outcome, ended_rank_outcome, local_outcome, silence_outcome
from .heartbeat import Heartbeat
from .identity import Identity
from .local_service import LocalService
from .peer_mesh import PeerMesh, Peers

PEERS_TIMEOUT_S = 60.0
"""Seconds within which the control centre must send the peers' addresses; otherwise nothing starts."""
PEER_OUTCOME_TIMEOUT_S = 8.0
"""Seconds that a runner whose ranks only saw broken collectives waits for the outcome of a peer that knows the cause."""
CAUSE_POLL_S = 0.1
"""Seconds between two looks for that cause among the silent ones."""
PROCESS_SCAN_INTERVAL_S = 2.0
"""Seconds between two scans of the run's processes, whose record serves to find them after a kill of the runner."""
MAX_EXIT_ATTEMPTS = 600
"""Attempts to write exit.json on a full disk, one a second."""
GROUP_WORDS = ("next_generation", "rank_ended", "next_start", "join", "formed", "drain", "come_back", "bury", "open_door")
"""Requests about the members of a run that outlives its ranks."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """One run on one node, from its empty directory to exit.json."""

    def __init__(
        self,
        root: Path,
        plan: Plan,
        node: NodePlan,
        identity: Identity | None,
        env: dict[str, str],
        devices: device_lock.DeviceLocks,
        *,
        memory: MemberMemory | None = None,
    ) -> None:
        """``identity``: None for a run on one node. ``memory``: of the runner before, which is gone: the run goes on, and this one
        joins it."""
        self.run = root / "runs" / plan.run_id
        self._root, self._plan, self._node, self._env = root, plan, node, env
        self.devices = devices
        """Locks of the devices of this node; none while it takes no part."""
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._is_finished = False
        """Every rank has said that all its work is recorded: the run is done, whatever happens to its goodbye."""
        self._mesh = PeerMesh(node.name, [peer.name for peer in plan.nodes], identity, self._on_peer_message, self._on_stranger)
        keeper = plan.node_of(0).name
        store = GroupStore(len(plan.ranks), self._on_finished) if node.name == keeper else None
        self._relay = StoreRelay(store, keeper, self._mesh.send)
        self._local_service = LocalService(self.run, self._answer)
        self._losses: list[Outcome] = []
        """Why ranks of this node were lost."""
        self._waited = ""
        self._removal: list[str] = []
        """Removes the container that the ranks run in; empty: they run in none."""
        self._is_returning = memory is not None
        self._elastic = self._make_elastic(memory)
        self._heartbeat = Heartbeat(node.name, self._mesh.send, self._on_silence)
        self._strangers = self._strangers_told = 0
        self._last_stranger = ("", "")
        self._finished_peers: set[str] = set()
        self._process_tree: ProcessTree | None = None
        self._oom_before = oom_kills()

    def _make_elastic(self, memory: MemberMemory | None) -> ElasticGroup | None:
        """None: the run ends with the first rank that it loses."""
        if self._plan.min_devices is None:
            return None
        return ElasticGroup(
            self.run,
            self._plan,
            self._node,
            send=self._mesh.send,
            on_finished=self._on_finished,
            on_over=self._on_over,
            on_wait=self._on_wait,
            on_rest=self._on_rest,
            relay=self._relay,
            memory=memory,
        )

    async def listen(self) -> int:
        """Open the socket of the run and the peer mesh, and write start.json. Returns the mesh's port, 0 for none."""
        await self._local_service.start()
        port = 0 if self._is_returning else self._mesh.listen(self._node.address)
        started = RunnerStarted(pid=os.getpid(), boot_id=boot_id(), start_time=start_time(os.getpid()) or 0)
        identity = {"pid": started.pid, "boot_id": started.boot_id, "start_time": started.start_time, "session": os.getsid(0)}
        write_json(start_path(self.run), {**identity, "wall_time": time.time(), "port": port, "node": self._node.name})
        self._write_event(started)
        return port

    async def rejoin(self, peers: Peers) -> None:
        """Connect to the runners of a run that goes on. Raises WorkFailed."""
        await self._mesh.rejoin(peers, PEERS_TIMEOUT_S)

    async def leave_again(self) -> None:
        """Take back what ``listen`` has begun, as the run cannot be joined."""
        await self._mesh.close()
        await self._local_service.close()

    def introduce(self, peers: dict[str, Any]) -> None:
        """Say where all runners of the run are. Raises ValueError or TypeError for what are no addresses."""
        self._mesh.introduce(peers)

    async def run_to_end(self) -> None:
        """Run until the run is done, failed or cancelled, then end its processes and write exit.json."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_end_asked)
        work = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait({work, self._outcome}, return_when=asyncio.FIRST_COMPLETED)
            if not self._outcome.done():
                error = work.exception()
                self._decide(Outcome("failed", _error_text(error), node=self._node.name) if error else work.result())
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        outcome = self._outcome.result()
        self._mesh.send({"ended": outcome.as_dict()})
        tree = self._process_tree or ProcessTree(self.run)
        survivors = await loop.run_in_executor(None, tree.terminate)
        await self._remove_container()
        ended = RunnerEnded(
            state=outcome.state,
            reason=outcome.reason,
            rank=outcome.rank,
            failed_node=outcome.node,
            survivors=tuple(survivors),
            gone=self._elastic.gone if self._elastic is not None else (),
            node_time=time.time(),
        )
        if not outcome.is_interrupted:
            self._write_event(ended)
        await self._mesh.close()
        await self._local_service.close()
        await asyncio.to_thread(remove_work_dir, self.run, self._plan)
        await self._write_exit(dataclasses.replace(ended, reason=ended.reason[:2000]))

    def _on_end_asked(self) -> None:
        """TERM or INT has arrived."""
        self._decide(Outcome("cancelled", "cancelled by a person"))

    async def _write_exit(self, ended: RunnerEnded) -> None:
        """Write exit.json. On a full disk wait for space: without exit.json the end would look like a kill."""
        for _ in range(MAX_EXIT_ATTEMPTS):
            with contextlib.suppress(PacelineError):
                finish(self.run, ended)
                (self.run / SESSIONS_FILE).unlink(missing_ok=True)
                return
            await asyncio.sleep(1.0)

    async def _work(self) -> Outcome:
        """Connect the peers, start torchrun, and wait for it to end."""
        if not self._is_returning:
            try:
                await with_timeout(PEERS_TIMEOUT_S, asyncio.shield(self._mesh.peers))
            except asyncio.TimeoutError:
                return Outcome("failed", "never started: the control centre went away before all nodes were ready")
            lower = [node.name for node in self._plan.nodes if node.node_rank < self._node.node_rank]
            await self._mesh.join(lower, PEERS_TIMEOUT_S)
            self._tell_strangers()
        self._heartbeat.expect(self._mesh.connected)
        recorders = [asyncio.ensure_future(self._heartbeat.run())]
        if self._elastic is not None:
            recorders.append(asyncio.ensure_future(self._elastic.run()))
            if (hours := parse_hours(self._node.hours)) is not None:
                recorders.append(asyncio.ensure_future(keep_hours(self._elastic, hours)))
            elif self._node.is_spare:
                wanted = sum(len(node.ranks) for node in self._plan.nodes if not node.is_spare)
                recorders.append(asyncio.ensure_future(keep_spare(self._elastic, wanted)))
        try:
            process = await self._start_torchrun()
            self._process_tree = ProcessTree(self.run, exclude=(process.pid,))
            recorders += [asyncio.ensure_future(task) for task in (self._record_processes(), self._record_readings())]
            status = await process.wait()
            if status == 0:
                return Outcome("done")
            if self._losses:
                return self._losses[0]
            outcome = local_outcome(self.run, self._plan, self._node, status, self._oom_before)
            if outcome.is_collateral:  # another node knows the cause: its outcome, or the silence that it tells of, ends this wait
                await self._await_cause(PEER_OUTCOME_TIMEOUT_S)
            return outcome
        finally:
            for task in recorders:
                task.cancel()

    async def _await_cause(self, seconds: float) -> None:
        """Wait until a silence is known that explains a collective that has just broken; the heartbeat goes on meanwhile."""
        deadline = time.monotonic() + seconds
        while self._heartbeat.cause() is None and time.monotonic() < deadline:
            await asyncio.sleep(CAUSE_POLL_S)

    async def _start_torchrun(self) -> asyncio.subprocess.Process:
        node, plan = self._node, self._plan
        directory = await asyncio.to_thread(make_work_dir, self.run, plan, self._root / "data")
        named = link_data(self.run, plan, self._root / "data")
        command = [node.python, "-m", "paceline.engine.training.launcher", str(self.run), node.name]
        env, told = run_environment(os.environ, self._env, os.cpu_count() or 1)
        env |= {"PACELINE_NODE": node.name, "PYTHONUNBUFFERED": "1", **named}
        env |= {RUN_ID_VARIABLE: plan.run_id, STATE_ROOT_VARIABLE: str(self._root)}
        env |= {"GLOO_SOCKET_IFNAME": node.interface, "NCCL_SOCKET_IFNAME": node.interface}
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # device indices are NVML's
        if self._is_returning:
            env[JOINS_VARIABLE] = "1"
        if node.image:
            command = self._in_container(node, command, directory, env)
        with (self.run / "out.log").open("ab") as log:
            with contextlib.suppress(OSError):
                log.write("".join(f"paceline: {sentence}\n" for sentence in told).encode(errors="backslashreplace"))
                log.flush()
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        self._write_event(LaunchStarted(pid=process.pid))
        return process

    def _in_container(self, node: NodePlan, command: list[str], directory: Path, env: dict[str, str]) -> list[str]:
        """The command in the image of this node, by whichever runtime there is. Raises WorkFailed."""
        runtime, name = find_runtime(node.image), container_name(self._plan.run_id, node.name)
        self._removal = removal_command(runtime, name)
        return container_command(
            runtime,
            node.image,
            [PYTHON, *command[1:]],
            name=name,
            directory=str(directory),
            mounts=[str(self._root), tempfile.gettempdir()],  # the socket of the runner may lie in the latter
            variables=env,
            has_gpu=any(self._plan.ranks[rank].device_kind == "cuda" for rank in node.ranks),
        )

    async def _remove_container(self) -> None:
        """Remove the container of this run, should its runtime have kept it."""
        if self._removal:
            with contextlib.suppress(OSError):
                null = asyncio.subprocess.DEVNULL
                process = await asyncio.create_subprocess_exec(*self._removal, stdin=null, stdout=null, stderr=null)
                await process.wait()

    async def _record_processes(self) -> None:
        """Record the sessions of the run while their ancestry is visible, and refresh the locks of its devices."""
        assert self._process_tree is not None
        while True:
            await asyncio.get_running_loop().run_in_executor(None, self._process_tree.record)
            self.devices.refresh()
            await asyncio.sleep(PROCESS_SCAN_INTERVAL_S)

    async def _record_readings(self) -> None:
        """Record readings of the run's devices, whether or not a centre is connected."""
        recorder = ReadingRecorder(StateDir(self._root, self._node.name), [self._plan.ranks[rank] for rank in self._node.ranks])
        await recorder.record(self._write_line)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request on the run's socket: the agent's introduction of the peers, or a word of the group's store."""
        if request["ask"] == "introduce":
            self._mesh.introduce(request["peers"])
            return {"value": None}
        if request["ask"] == "beat":
            return self._on_beat(int(request["rank"]), int(request["pid"]))
        if request["ask"] in GROUP_WORDS:
            try:
                return {"value": await self._answer_of_group(request)}
            except PacelineError as error:
                return {"error": error.reason, "hint": error.hint, "type": type(error).__name__}
        if self._elastic is not None and request.get("generation"):
            return await self._elastic.ask_store(request)
        return await self._relay.ask(request)

    async def _answer_of_group(self, request: dict[str, Any]) -> Any:
        """A word about the members of the run: of a rank, of the launcher, or of the agent for a person. Raises PacelineError."""
        group = self._elastic
        if group is None:
            hint = "paceline train --min-devices N starts one that does; paceline cancel ends this one, and resume goes on with it"
            raise UsageError("the run does not outlive the loss of a device", hint=hint)
        match request["ask"]:
            case "next_generation":
                is_planned = bool(request.get("is_planned"))
                return await group.next_generation(int(request["rank"]), int(request["after"]), is_planned=is_planned)
            case "rank_ended":
                self._on_rank_ended(group, int(request["rank"]), int(request["code"]))
            case "next_start":
                return await group.next_start()
            case "join":
                return await group.join(int(request["rank"]))
            case "formed":
                group.note_formed(int(request["rank"]), int(request["number"]))
            case "drain":
                return await group.drain(str(request["reason"])[:500])
            case "come_back":
                return group.come_back()
            case "bury":
                group.bury(str(request["member"]), int(request["life"]), request["record"])
            case "open_door":
                try:
                    member, vouching = str(request["member"]), str(request["authority"])
                    port, authority = await self._mesh.reopen(member, vouching, self._node.address)
                except (ValueError, OSError) as error:
                    raise WorkFailed(f"cannot open the door for {request['member']}: {error}") from None
                return {"port": port, "authority": authority}
        return None

    def _on_beat(self, rank: int, pid: int) -> dict[str, Any]:
        """A sign of life of a rank; answers which generations of its group are left behind, and which one is to stand."""
        if rank not in self._node.ranks:
            return {"value": None}
        self._heartbeat.hear_rank(rank, pid)
        return {"value": None} if self._elastic is None else self._elastic.hear_rank(rank, pid)

    def _on_rank_ended(self, group: ElasticGroup, rank: int, code: int) -> None:
        """A rank of a run that outlives its ranks has ended: by an error, which ends the run, or it was lost."""
        if code == 0 or rank not in self._node.ranks or self._is_finished or self._outcome.done():
            return
        number = group.number_of(rank)
        if number is None:  # it was no member yet, or no more
            group.lose_rank(rank, "")
            return
        outcome = ended_rank_outcome(self.run, self._plan, rank, code, self._oom_before, number=number)
        if not outcome.is_loss:
            self._decide(outcome)
            return
        self._losses.append(outcome)
        group.lose_rank(rank, outcome.reason)

    def _on_over(self, reason: str) -> None:
        """The run can never go on."""
        self._decide(Outcome("failed", reason, node=self._node.name))

    def _on_rest(self, reason: str, is_over: bool) -> None:
        """This node takes no part for now, and gives its devices back; or it takes them to join again. Raises as ``acquire``."""
        if is_over:
            ranks = [self._plan.ranks[rank] for rank in self._node.ranks]
            self.devices = device_lock.acquire(self._root, ranks, self._plan.run_id, self._plan.is_shared)
        else:
            self.devices.release()
        self._write_event(MemberRested(reason=reason, is_over=is_over))

    def _on_wait(self, reason: str) -> None:
        """The run stands still until others are back."""
        if reason != self._waited:
            self._waited = reason
            self._write_event(MembersWaited(reason=reason))

    def _on_finished(self) -> None:
        """On the runner that keeps the store: every rank has finished, which decides the outcome everywhere."""
        self._finish()
        self._mesh.send({"finished": True})

    def _finish(self) -> None:
        self._is_finished = True
        if self._elastic is not None:
            self._elastic.finish()
            if not self._elastic.is_member:  # no rank here will end by itself
                self._decide(Outcome("done"))

    def _on_stranger(self, address: str, reason: str) -> None:
        """Count a connection that proved nothing; the first and every tenfold count become an event."""
        self._strangers, self._last_stranger = self._strangers + 1, (address, reason)
        if self._strangers in (1, 10, 100, 1000, 10_000, 100_000):
            self._tell_strangers()

    def _tell_strangers(self) -> None:
        if self._strangers > self._strangers_told:
            self._strangers_told = self._strangers
            address, reason = self._last_stranger
            self._write_event(StrangersRefused(count=self._strangers, address=address, reason=reason))

    def _on_peer_message(self, peer: str, message: dict[str, Any]) -> None:
        """Handle a message of a peer: a sign of life, a word of the store, that all have finished, its outcome, or its loss."""
        if self._heartbeat.hear(peer, message) or (self._elastic is not None and self._elastic.on_message(peer, message)):
            return
        if self._relay.on_message(peer, message):
            return
        if "returned" in message:
            self._heartbeat.welcome(peer)
            self._finished_peers.discard(peer)
            if self._elastic is not None:
                self._elastic.greet(peer)
        elif "finished" in message:
            self._finish()
        elif "ended" in message:
            outcome = from_plain(Outcome, message["ended"])
            self._finished_peers.add(peer)
            if self._elastic is not None and outcome.is_loss:
                self._elastic.lose_peer(peer, outcome.reason)
            elif outcome.state != "done":
                self._decide(outcome)
        elif "lost" in message and peer not in self._finished_peers and not self._is_finished:
            ranks = next((node.ranks for node in self._plan.nodes if node.name == peer), ())
            self._write_event(PeerLost(peer=peer, ranks=ranks, reason=str(message["lost"])))
            numbers = ", ".join(map(str, ranks))
            reason = f"rank {numbers} on {peer} is gone: {message['lost']}"
            if self._elastic is not None:
                self._elastic.lose_peer(peer, reason)
                return
            self._decide(Outcome("failed", reason, rank=ranks[0] if ranks else None, node=peer))

    def _on_silence(self, silence: Silence, is_over: bool) -> None:
        """Write down who is silent, or is heard again."""
        there = next((node.ranks for node in self._plan.nodes if node.name == silence.node), ())
        ranks = there if silence.rank is None else (silence.rank,)
        path = silence.path or ()
        if self._elastic is not None and silence.rank is not None and not is_over and not self._is_finished:
            outcome = dataclasses.replace(silence_outcome(self._plan, silence), is_loss=True)
            self._losses.append(outcome)
            self._elastic.lose_rank(silence.rank, outcome.reason)
        seconds = round(silence.seconds, 1)
        reason = silence.reason
        self._write_event(PeerSilent(peer=silence.node, ranks=ranks, path=path, reason=reason, seconds=seconds, is_over=is_over))

    def _decide(self, outcome: Outcome) -> None:
        """Settle the outcome of the run; the first one counts. Of a broken collective it is whoever was silent, if anybody was."""
        if outcome.is_collateral and (silence := self._heartbeat.cause()) is not None:
            outcome = silence_outcome(self._plan, silence)
        if outcome.state == "failed" and self._is_finished:
            outcome = Outcome("done")
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _write_event(self, event: Event) -> None:
        """Append an event to events.jsonl. A full disk is ignored: it must not keep the runner from ending its processes."""
        self._write_line(encode(_stamped(event)))

    def _write_line(self, line: str) -> None:
        with contextlib.suppress(OSError), (self.run / "events.jsonl").open("ab") as file:
            file.write(line.encode() + b"\n")


def _stamped(event: Event) -> Event:
    return dataclasses.replace(event, node_time=time.time())


def _error_text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _die_with_parent() -> None:
    """In the child, before exec: have the kernel send TERM to torchrun when the runner dies (Linux). torchrun ends its ranks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the subreaper: orphans of the run become children of this process instead of init's, and can be found (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


async def supervise(root: Path, name: str, request: dict[str, Any]) -> None:
    """Take the run directory and the devices, answer the agent, and run to the end. ``root`` and ``name`` are the node's."""
    plan = from_plain(Plan, request["plan"])
    node = next(node for node in plan.nodes if node.name == name)
    run = root / "runs" / plan.run_id
    ranks = [plan.ranks[rank] for rank in node.ranks]
    devices: device_lock.DeviceLocks | None = None
    lock: int | None = None
    try:
        lock = create(run, request)
        if lock is None:
            answer_once({"taken": run.name})
            return
        devices = device_lock.acquire(root, ranks, plan.run_id, plan.is_shared)
        lease.acquire(run, FIRST_LEASE_EPOCH, str(request.get("holder") or ""))
        identity = Identity(run, request.get("certificates") or {}) if len(plan.nodes) > 1 else None
        supervisor = Supervisor(root, plan, node, identity, request.get("env") or {}, devices)
        answer: dict[str, Any] = {"port": await supervisor.listen(), "pid": os.getpid()}
    except (PacelineError, OSError) as error:
        if devices is not None:
            devices.release()
        if lock is not None:
            remove_private(run)
            shutil.rmtree(run, ignore_errors=True)
        if isinstance(error, OSError):
            error = WorkFailed(f"cannot listen on {node.address}: {error.strerror}", hint="set address in nodes.toml")
        answer_once({"error": {"type": type(error).__name__, "reason": error.reason, "hint": error.hint}})
        return
    answer_once(answer)
    try:
        await supervisor.run_to_end()
    finally:
        supervisor.devices.release()
        os.close(lock)
