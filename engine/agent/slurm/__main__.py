"""A task of a job: ``python -m paceline.engine.agent.slurm ROOT RUN_ID``, started by srun on every machine of the job.

It reads what was asked, meets the other tasks, and is the runner of the slot whose number is its own. It ends with 0 when the run
has ended, however; with 1 when it could not begin.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ...errors import PacelineError, WorkFailed
from ...plan import NodePlan, Plan
from ...protocol.json_files import read_json, write_json
from ...protocol.private_files import write_bytes
from ...protocol.run_files import FIRST_LEASE_EPOCH
from ...protocol.run_plan import attempt_plan_path
from ...protocol.runner_socket import remove_private
from ...slurm.script import ATTEMPT_VARIABLE
from ...wire import from_plain, to_plain
from ..runner.identity import Identity
from ..runner.supervisor import adopt_orphans
from ..runs import device_lock, lease
from ..runs.run_dir import create
from .attempt import attempt_plan, newest_resume, offer, place_of, time_limit
from .commands import Slurm
from .job_files import JobFiles, prepare_slot
from .meeting import Meeting
from .settle import close_if_ended
from .task_supervisor import TaskSupervisor


def main() -> int:
    """Run one slot's part; returns the exit status."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m paceline.engine.agent.slurm ROOT RUN_ID")
    os.umask(0o077)
    job = JobFiles(Path(sys.argv[1]), sys.argv[2])
    request = read_json(job.request)
    if request is None or job.ended.exists():
        print(f"paceline: run {job.run_id} has ended already")
        return 0
    plan = from_plain(Plan, request["plan"])
    number = int(os.environ["SLURM_PROCID"])
    if int(os.environ["SLURM_NTASKS"]) != len(plan.nodes):
        raise WorkFailed(f"Slurm started {os.environ['SLURM_NTASKS']} tasks for {len(plan.nodes)} slots")
    return _Task(job, plan, plan.nodes[number], request).run()


class _Task:
    """One slot's part of one attempt."""

    def __init__(self, job: JobFiles, plan: Plan, node: NodePlan, request: dict[str, Any]) -> None:
        self._job, self._plan, self._node, self._request = job, plan, node, request
        self._state_dir = prepare_slot(job.root, node.name)
        self._run = self._state_dir.runs / job.run_id
        attempt = os.environ.get(ATTEMPT_VARIABLE, "0-0")
        self._meeting = Meeting(job.directory / "meetings" / attempt, [one.name for one in plan.nodes], node.name)

    def run(self) -> int:
        """Meet the others, then run to the end."""
        try:
            is_ended = (self._run / "exit.json").exists()
            is_first = self._node.node_rank == 0
            resume = newest_resume(self._job, self._plan) if is_first and self._run.exists() and not is_ended else None
            found = self._meeting.exchange("place", offer(is_ended, resume))
            places = {name: place_of(value) for name, value in found.items()}
            if any(place.is_ended for place in places.values()):
                print(f"paceline: run {self._job.run_id} has ended in an attempt before")
                return 0
            asyncio.run(self._supervise(attempt_plan(self._plan, places)))
            close_if_ended(self._job, [node.name for node in self._plan.nodes])
        except (PacelineError, OSError, ValueError) as error:
            reason = f"{self._node.name}: {error}"
            self._meeting.fail(str(error))
            write_bytes(self._job.failure, reason.encode(errors="backslashreplace"))
            print(f"paceline: {reason}", file=sys.stderr)
            return 1
        return 0

    async def _supervise(self, plan: Plan) -> None:
        """Be the runner of this slot, as ``supervisor.supervise`` is of a node."""
        node = plan.nodes[self._node.node_rank]
        ranks = [plan.ranks[rank] for rank in node.ranks]
        lock = create(self._run, {"plan": to_plain(plan), "spec": self._request["spec"]})
        if lock is None:
            lock = self._reopen(plan)
        else:
            lease.acquire(self._run, FIRST_LEASE_EPOCH, str(self._request.get("holder") or ""))
        devices = device_lock.DeviceLocks(b"")  # Slurm has given the devices to this job
        try:
            certificates = (self._request.get("certificates") or {}).get(node.name) or {}
            identity = Identity(self._run, certificates) if len(plan.nodes) > 1 else None
            slurm = Slurm()
            env = {**((self._request.get("env") or {}).get(node.name) or {}), **await asyncio.to_thread(time_limit, slurm)}
            supervisor = TaskSupervisor(self._job, slurm, self._state_dir.root, plan, node, identity, env, devices)
            port = await supervisor.listen()
            ports = await asyncio.to_thread(self._meeting.exchange, "port", port)
            supervisor.introduce({one.name: [one.address, ports[one.name]] for one in plan.nodes})
            print(f"paceline: {node.name}: {len(ranks)} ranks on {os.environ.get('SLURMD_NODENAME', '?')}", flush=True)
            await supervisor.run_to_end()
        finally:
            os.close(lock)

    def _reopen(self, plan: Plan) -> int:
        """Take the directory of an attempt before: it stays as it is, beside a plan for this attempt. Raises WorkFailed."""
        handle = os.open(self._run, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise WorkFailed(f"run {self._job.run_id} is still running from an attempt before") from None
        remove_private(self._run)
        path = attempt_plan_path(self._run)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_json(path, to_plain(plan))
        return handle


def _in_own_session() -> None:
    """Go on in a child with its own session: a task shares the session of Slurm's process, which must not be signalled.

    The parent is the task that Slurm knows: it ends as the child does.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the warning before the time limit: it would end ranks
    if (child := os.fork()) == 0:
        os.setsid()
        return
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    _in_own_session()
    adopt_orphans()
    try:
        sys.exit(main())
    except PacelineError as error:
        sys.exit(f"paceline: {error}")
