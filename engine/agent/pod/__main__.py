"""The first process of a pod: ``python -m paceline.engine.agent.pod --plan DIR --volume DIR --nodes A,B --index VARIABLE``.

It reads the plan that ``export`` has written, waits for its peers, starts the runner of its node, shows what the ranks print, and
ends as the run ends: 0 done, 1 failed or cancelled, 2 data or plan missing, 3 peers missing. TERM, which a cluster sends first,
cancels the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ...errors import DataRefused, PacelineError, UsageError, WorkFailed
from ...plan import Plan
from ...protocol.json_files import read_json
from ...wire import from_plain, to_plain
from ..runner.local_service import ask_runner
from ..runner.supervisor import adopt_orphans
from ..telemetry.host import connection_address, interface_addresses
from .pod_plan import Place, own_node, placed_plan, trial_plan
from .rendezvous import Rendezvous

TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes reads why a container ended; it shows it beside the state of the pod."""
INTRODUCE_PATIENCE_S = 30.0
POD_POLL_S = 0.2
"""Seconds between two looks at what the runner has written."""


def main() -> int:
    """Run this pod's part of the run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="paceline.engine.agent.pod", description="one pod of a run")
    parser.add_argument("--plan", type=Path, required=True, help="directory with spec.json and plan.json")
    parser.add_argument("--keys", type=Path, help="directory with the certificates of the run, NODE.json each")
    parser.add_argument("--volume", type=Path, required=True, help="directory that all pods share")
    parser.add_argument("--nodes", default="", help="the nodes of the plan that the pods of this group are")
    parser.add_argument("--index", default="JOB_COMPLETION_INDEX", help="variable with the number of this pod in its group")
    parser.add_argument("--trials", action="store_true", help="the number is that of a trial of a search")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds to wait for the other pods")
    options = parser.parse_args()
    os.umask(0o077)
    try:
        return _Pod(options).run()
    except (PacelineError, OSError) as error:
        _tell_cluster(f"paceline: {error}")
        return error.exit_status if isinstance(error, PacelineError) else 1


class _Pod:
    """One pod of a run."""

    def __init__(self, options: argparse.Namespace) -> None:
        index = os.environ.get(options.index, "0")
        plan = _read_plan(options.plan)
        self._plan = trial_plan(plan, index) if options.trials else plan
        self._node = self._plan.nodes[0].name if options.trials else own_node(options.nodes.split(","), index)
        self._volume, self._patience = options.volume, options.patience
        self._spec = read_json(options.plan / "spec.json") or {}
        self._certificates = read_json(options.keys / f"{self._node}.json") if options.keys is not None else None
        self._root = options.volume / "nodes" / self._node
        self._run = self._root / "runs" / plan.run_id
        self._shown = 0

    def run(self) -> int:
        """Run to the end; returns the exit status."""
        if self._run.exists():
            return self._after_restart()
        rendezvous = Rendezvous(self._volume, self._plan, self._node, self._patience)
        try:
            self._prepare()
            places = rendezvous.arrive(_own_place())
            runner = self._start_runner(placed_plan(self._plan, places))
            signal.signal(signal.SIGTERM, lambda *_: _signal(runner, signal.SIGTERM))
            peers = rendezvous.ports(places)
            request = {"ask": "introduce", "peers": peers}
            asyncio.run(ask_runner(self._run, request, INTRODUCE_PATIENCE_S))
        except (PacelineError, OSError, ValueError) as error:
            with contextlib.suppress(PacelineError):
                rendezvous.fail(error.reason if isinstance(error, PacelineError) else str(error))
            raise error if isinstance(error, (PacelineError, OSError)) else WorkFailed(str(error)) from None
        return self._follow(runner)

    def _after_restart(self) -> int:
        """A pod that a cluster starts again repeats how its run ended; a run that was cut off does not start twice."""
        if (ended := read_json(self._run / "exit.json")) is not None:
            return self._end(ended)
        raise WorkFailed(f"run {self._plan.run_id} was cut off with its pod", hint="paceline resume goes on from its checkpoint")

    def _prepare(self) -> None:
        """The directories of this node, with the data of the volume. Raises DataRefused where the volume lacks them."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = self._volume / "data"
        with contextlib.suppress(FileExistsError):
            (self._root / "data").symlink_to(data)
        named = self._plan.script.data if self._plan.script is not None else ()
        for one in (self._plan.data, *named):
            if not (data / one.digest).is_dir():
                what = f"the volume has no data {one.digest} ({one.source})"
                raise DataRefused(what, hint="paceline setup --kubernetes brings the data of a job there")

    def _start_runner(self, plan: Plan) -> int:
        """Start the runner, which leaves this process as on every node; returns its pid. Raises WorkFailed."""
        adopt_orphans()
        request = {
            "spec": self._spec,
            "plan": to_plain(plan),
            "certificates": self._certificates,
            "env": {},
            "holder": "kubernetes",
        }
        command = [sys.executable, "-m", "paceline.engine.agent.runner", str(self._root), self._node]
        done = subprocess.run(command, input=json.dumps(request).encode(), stdout=subprocess.PIPE, check=False)
        try:
            answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise WorkFailed("the runner did not start") from None
        if "error" in answer:
            error = answer["error"]
            raise WorkFailed(str(error.get("reason")), hint=error.get("hint"))
        if "pid" not in answer:
            raise WorkFailed(f"run {self._plan.run_id} has been started here already")
        return int(answer["pid"])

    def _follow(self, runner: int) -> int:
        """Show what the ranks print until the run has ended; returns the exit status."""
        is_alive = True
        while True:
            ended = read_json(self._run / "exit.json")
            self._show()
            if ended is not None:
                return self._end(ended)
            if not is_alive:
                raise WorkFailed("its runner was killed", hint="the pod had too little memory, or was evicted")
            is_alive = _reap(runner)
            time.sleep(POD_POLL_S)

    def _show(self) -> None:
        """Print what out.log has grown by."""
        with contextlib.suppress(OSError), (self._run / "out.log").open("rb") as file:
            file.seek(self._shown)
            while data := file.read(1 << 16):
                self._shown += len(data)
                sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def _end(self, ended: dict[str, Any]) -> int:
        state, reason = ended.get("state"), ended.get("reason")
        _tell_cluster(f"paceline: run {self._plan.run_id} is {state}" + (f": {reason}" if reason else ""))
        return 0 if state == "done" else 1


def _read_plan(directory: Path) -> Plan:
    if (document := read_json(directory / "plan.json")) is None:
        raise UsageError(f"there is no plan in {directory}", hint="the config map of the run is missing: apply it, too")
    try:
        return from_plain(Plan, document)
    except ValueError as error:
        raise UsageError(f"the plan in {directory} cannot be read: {error}", hint="export the job again") from None


def _own_place() -> Place:
    """Address and interface of this pod: by POD_IP, else the first that is not loopback. Raises WorkFailed."""
    addresses = interface_addresses()
    own = os.environ.get("POD_IP") or next((ip for ip in addresses.values() if not ip.startswith("127.")), "127.0.0.1")
    address, interface = connection_address(f"- 0 {own} 0", addresses)
    if not interface:
        raise WorkFailed(f"no interface of this pod has the address {own}", hint="POD_IP must be its status.podIP")
    return Place(address, interface, sys.executable)


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _reap(runner: int) -> bool:
    """Take the status of every process that has ended, as the first process of a pod must; False: the runner is one of them."""
    is_alive = True
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            is_alive = is_alive and pid != runner
    return is_alive


def _tell_cluster(sentence: str) -> None:
    """Say how it ended, in the log and beside the state of the pod."""
    print(sentence, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(sentence[:4000])


if __name__ == "__main__":
    sys.exit(main())
