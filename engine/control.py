"""The one entrance to the engine, for the screens and ``--batch`` alike: a method per verb. Thin: connects parts, decides nothing.

One control process owns one ``Control``. Closing it never touches a run. Modules that need asyncssh or numpy are imported on first
use, which is after the first paint.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .demo.portable import recorded
from .errors import PacelineError, UsageError
from .events import (
    DeviceReading,
    Event,
    ExperimentAdvanced,
    InventoryRead,
    NodeSummary,
    NodeWarned,
    ProfileStored,
    RunListed,
    Ticked,
    Warned,
)
from .jobs.runs.run_names import KnownRun, check_run_name, find_run, is_whole_id
from .reports.document_type import Document
from .specs import Inventory, TrainSpec
from .ssh.prompts import AskPerson
from .store.software import INSTALL_HINT, missing_packages, torch_warnings
from .store.state import WAITING_JOB_ID, State
from .telemetry.bus import Bus
from .telemetry.live_state import LiveState
from .telemetry.recording import Recorder

if TYPE_CHECKING:
    from .advisor.whatif import WhatIf
    from .demo.play import Perform
    from .jobs.experiments.experiment import Experiment, Request
    from .jobs.experiments.fit import FitRequest
    from .jobs.experiments.scale import ScaleRequest
    from .jobs.experiments.search import SearchRequest
    from .jobs.experiments.suite import SuiteRequest
    from .jobs.export.export import ExportRequest
    from .jobs.kubernetes.clusters import Clusters
    from .jobs.kubernetes.run import ClusterAccess
    from .jobs.launch.job import JobLauncher
    from .jobs.launch.session import LaunchSession
    from .jobs.logs.merge import Clock, MergedLine
    from .jobs.logs.read import LogQuery
    from .jobs.runs.clean import CleanRequest
    from .profiles.profile import Profile

ASKING_PATIENCE_S = 4.0
"""Seconds without a sign of life after which a verb that only asks goes on without the nodes that have not connected yet."""
RUNS_PER_TURN = 100
"""Runs to announce before other tasks of the event loop run."""
NOT_YET = "has not answered yet; --patience waits longer"


def inventory_event(inventory: Inventory) -> InventoryRead:
    """What nodes.toml says of the nodes, before any has answered."""
    nodes = []
    for node in inventory.nodes:
        declared = tuple(
            DeviceReading(index=i, name=device.name, kind="emulated", memory_total=device.memory)
            for i, device in enumerate(node.devices)
        )
        nodes.append(NodeSummary(node.name, node.kind, node.host or "", declared, node.read_only))
    return InventoryRead(path=inventory.path, lab=inventory.lab, nodes=tuple(nodes))


class Control:
    """A session with the nodes of one nodes.toml."""

    def __init__(
        self,
        inventory: Inventory,
        record: Path | None = None,
        patience: float = math.inf,
        ask: AskPerson | None = None,
        asking_patience: float = ASKING_PATIENCE_S,
    ) -> None:
        """``patience``: seconds to wait for a silent node while a run is followed; ``asking_patience``: by verbs that only ask.
        ``ask`` prompts a person for what a login needs; without it a node that needs a prompt is refused.

        Output is written beside nodes.toml, to ``logs/runs`` and ``data``.
        """
        self.inventory = inventory
        self.runs = Path(inventory.path).parent / "logs" / "runs"
        self._patience, self._asking_patience = patience, asking_patience
        self._ask = ask
        self._bus = Bus(time.monotonic)
        self._live = LiveState([node.name for node in inventory.nodes])
        self._live(inventory_event(inventory))  # the state names all nodes before the stream begins, as in a replay
        self._bus.subscribe(self._live)
        self._launcher: JobLauncher | None = None
        self._experiment: Experiment[Any] | None = None
        self._attached: str | None = None
        self._clusters: Clusters | None = None
        self._recorder = Recorder(record, version("paceline"), self._recording_failed) if record else None
        if self._recorder:
            self._bus.subscribe(recorded(self._recorder, Path(inventory.path).parent))

    @property
    def run_id(self) -> str | None:
        """The run that this process launched or attached to last, for an interrupt to name; None while there is none."""
        if self._experiment is not None:
            return self._experiment.run_id
        return self._launcher.run_id if self._launcher else self._attached

    @property
    def resume_hint(self) -> str:
        """What goes on with the experiment of this process after an interrupt; empty where there is none."""
        return self._experiment.resume_hint if self._experiment else ""

    @property
    def state(self) -> State:
        """The current state. Every event is reduced into it before other listeners receive it."""
        return self._live.state

    def copies(self, run_id: str) -> Path | None:
        """The directory of a run's copied logs, one subdirectory per node; None: the name is no run id."""
        from .jobs.files.safe_names import is_run_id

        return self.runs / run_id / "nodes" if is_run_id(run_id) else None

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` with every event from now on. Returns a function that unsubscribes it."""
        return self._bus.subscribe(listener)

    def publish(self, event: Event) -> None:
        """Publish an event to all listeners."""
        self._bus.publish(event)

    async def open(self) -> None:
        """Publish the inventory and the stored profiles, then connect to all nodes at once. Returns before any has answered."""
        from .jobs.detach_check import DetachCheck
        from .jobs.experiments.stored import stored_boards
        from .jobs.launch.profile_cache import stored_documents
        from .ssh.fleet import Fleet

        self.publish(inventory_event(self.inventory))
        for document in stored_documents(Path(self.inventory.path).parent / "data" / "profiles"):
            self.publish(ProfileStored(document=document))
        for board in stored_boards(self.runs.parent / "experiments"):
            self.publish(ExperimentAdvanced(board=board))
        reached = tuple(node for node in self.inventory.nodes if node.kind != "kubernetes")
        self._fleet = Fleet(replace(self.inventory, nodes=reached), self.publish, ask=self._ask)
        self._detach_check = DetachCheck(self.inventory.nodes, self._fleet, self.publish)
        self._bus.subscribe(self._detach_check)
        await self._fleet.start()
        if len(reached) < len(self.inventory.nodes):
            from .jobs.kubernetes.clusters import Clusters

            self._clusters = Clusters(self.inventory.nodes, self.runs, self.publish)
            self._clusters.start()
        self._ticker = asyncio.create_task(self._tick(), name="ticker")

    async def close(self) -> None:
        """Close the connections. Runs continue on their nodes."""
        if hasattr(self, "_ticker"):
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            await self._detach_check.close()
            if self._clusters is not None:
                await self._clusters.close()
            await self._fleet.close()
        if self._recorder:
            self._recorder.close()

    async def status(self) -> Document:
        """Nodes and devices, once each node has answered or failed."""
        await self._live.wait_settled(patience=self._asking_patience)
        self._warn_of_shared_devices()
        nodes = [
            {
                "name": node.name,
                "state": node.state,
                "reason": node.reason or (NOT_YET if node.state == "connecting" else None),
                "hint": node.hint or None,
                "warnings": self._node_warnings(node.name),
                "queue": [{"user": one.user, "running": one.running, "waiting": one.waiting} for one in node.host.queue],
                "devices": [_device(device.reading) for device in node.devices] if node.at is not None else [],
            }
            for node in self._live.state.nodes.values()
        ]
        connected = [facts for name, facts in self._live.facts.items() if self._live.state.nodes[name].state == "ok"]
        return {"type": "status", "nodes": nodes, "warnings": torch_warnings(connected)}

    def _node_warnings(self, node: str) -> list[str]:
        """What a connected node lacks for a training, with what to do."""
        facts = self._live.facts.get(node)
        text = missing_packages(facts) if facts is not None and self._live.state.nodes[node].state == "ok" else ""
        return [f"{text} ({INSTALL_HINT})"] if text else []

    def _warn_of_shared_devices(self) -> None:
        """Warn of each machine that has two names in nodes.toml."""
        from .jobs.launch.same_machine import shared_devices

        devices = [(node.name, device.reading) for node in self.state.nodes.values() for device in node.devices]
        warned = set()
        for shared in shared_devices(devices, self._live.facts):
            if (shared.node, shared.other) not in warned:
                warned.add((shared.node, shared.other))
                self.publish(NodeWarned(node=shared.node, reason=str(shared), hint="take one of them out of nodes.toml"))

    async def run(self, spec: TrainSpec, is_waiting: bool = False, resume_from: Path | None = None) -> Document:
        """Launch a job and follow it to its result (verbs train and bench). ``is_waiting``: wait until its devices are free.

        ``resume_from``: a checkpoint here to go on from.
        """
        if resume_from is not None:
            from .jobs.runs.resume import refuse_trained, resume_from_file

            packed = self._launch_session().checkpoints_dir
            resumed = await asyncio.to_thread(resume_from_file, resume_from, packed)
            refuse_trained(resumed, spec)
            spec = replace(spec, resume=resumed)
        return await self._new_launcher().run(spec, is_waiting)

    async def resume(self, run_id: str, changes: Mapping[str, Any], is_waiting: bool = False, may_change: bool = False) -> Document:
        """Launch a new run from the newest checkpoint of an ended one, and follow it to its result.

        ``changes``: fields of its job that are different now, such as ``devices``; ``may_change``: whether its script may have
        changed.
        """
        from .jobs.runs.resume import prepare_resume

        session = self._launch_session()
        spec = await prepare_resume(
            await self._row(run_id),
            self._fleet,
            connected=self._linked,
            runs=self.runs,
            packed=session.checkpoints_dir,
            publish=self.publish,
            epochs=changes.get("epochs"),
        )
        if spec.script is not None:
            if "epochs" in changes:
                raise UsageError("--epochs is for workloads: the epochs of a script are its own")
            spec = replace(spec, script=replace(spec.script, may_change=may_change))
        return await self.run(replace(spec, **changes), is_waiting)

    async def scale(self, request: ScaleRequest, name: str | None, resumed: str | None = None) -> Document:
        """Train on growing sets of devices and compare them. ``name``: of the experiment; None: its verb, date and time.

        ``resumed``: name of an experiment to go on with; then ``request`` is ignored.
        """
        from .jobs.experiments.scale import Scaling

        return await self._run_experiment(Scaling(self._launch_session(), self._attach_if_known), request, name, resumed)

    async def search(self, request: SearchRequest, name: str | None, resumed: str | None = None) -> Document:
        """Try combinations of hyperparameters, each on one device, all devices at once. Arguments as of ``scale``."""
        from .jobs.experiments.search import Search

        return await self._run_experiment(Search(self._launch_session(), self._attach_if_known), request, name, resumed)

    async def fit(self, request: FitRequest, name: str | None, resumed: str | None = None) -> Document:
        """Find how large a data set each node holds alone, and all together. Arguments as of ``scale``."""
        from .jobs.experiments.fit import Fit

        return await self._run_experiment(Fit(self._launch_session(), self._attach_if_known), request, name, resumed)

    async def suite(self, request: SuiteRequest, name: str | None, resumed: str | None = None) -> Document:
        """Compare policies on several workloads, in rounds. Arguments as of ``scale``."""
        from .jobs.experiments.suite import Suite

        return await self._run_experiment(Suite(self._launch_session(), self._attach_if_known), request, name, resumed)

    async def _run_experiment(
        self, experiment: Experiment[Request], request: Request, name: str | None, resumed: str | None
    ) -> Document:
        self._experiment = experiment
        experiments = self.runs.parent / "experiments"
        if resumed is not None:
            return await experiment.resume(experiments / check_run_name(resumed))
        directory = check_run_name(name) if name else f"{experiment.kind}-{datetime.now():%Y%m%d-%H%M%S}"
        return await experiment.begin(experiments / directory, request)

    async def demo(self, name: str, perform: Perform) -> Document:
        """Perform a demo session in its own lab. ``perform``: what does a line as typed at the prompt. Raises UsageError."""
        from .demo.play import play
        from .demo.script_file import read_script
        from .demo.sessions import SESSION_FILE

        lab = Path(self.inventory.path).parent
        if lab.name != name or not (lab / SESSION_FILE).exists():
            raise UsageError("a demo session has a lab of its own", hint=f"leave with q, then: paceline demo {name}")
        return await play(read_script(lab / SESSION_FILE), self, perform)

    def node_root(self, name: str) -> Path:
        """The directory of an embedded node."""
        return self.runs.parent / "nodes" / name

    async def cut_power(self, name: str) -> None:
        """Close the SSH server of an embedded node. Raises UsageError for any other node."""
        await self._fleet.cut_power(name)

    def restore_power(self, name: str) -> None:
        """Let the SSH server of an embedded node be opened again."""
        self._fleet.restore_power(name)

    async def _attach_if_known(self, run_id: str) -> Document | None:
        """Follow a run to its result; None where no node knows it."""
        try:
            return await self.attach(run_id)
        except UsageError:
            return None

    async def plan(self, spec: TrainSpec) -> Document:
        """What ``run`` would do, without doing it."""
        from .jobs.launch.dry_run import dry_run

        return await dry_run(self._launch_session(), spec)

    async def export(self, spec: TrainSpec, request: ExportRequest) -> Document:
        """The plan of ``run`` as files of a scheduler, without sending anything."""
        from .jobs.export.export import export

        return await export(self._launch_session(), spec, request)

    async def set_up_cluster(self, spec: TrainSpec, access: ClusterAccess) -> Document:
        """Prepare the cluster of nodes.toml for a job; ``access``: of the cluster where nodes.toml has none."""
        from .jobs.kubernetes.run import Cluster
        from .jobs.kubernetes.setup import set_up
        from .jobs.launch.data import prepare_job

        known = list(self._clusters.by_name.values()) if self._clusters is not None else []
        cluster = known[0] if known else Cluster(access, self.runs, self.publish)
        job = await prepare_job(self._launch_session(), spec)
        return await set_up(cluster, job.sources)

    async def profile(self, spec: TrainSpec) -> Document:
        """Measure all devices, links and machines with a workload, or all devices with the first steps of a script; store it."""
        return (await self._new_launcher().profiles.measure(spec))[1]

    async def profile_of(self, workload: str) -> Profile:
        """The stored profile of all devices; where none is valid, it is measured first, with a warning."""
        return await self._new_launcher().profiles.load_or_measure(TrainSpec(workload=workload))

    async def advise(self, spec: TrainSpec, what_if: WhatIf) -> Document:
        """Predictions for every sensible way to train, from the profile; where none is valid, it is measured first."""
        from .jobs.launch.forecast import what_if_document
        from .jobs.launch.profile import profiling_spec

        profile = await self._new_launcher().profiles.load_or_measure(profiling_spec(spec))
        return what_if_document(profile, spec, what_if, time.time())

    def _new_launcher(self) -> JobLauncher:
        from .jobs.launch.job import JobLauncher

        self._launcher = JobLauncher(self._launch_session())
        return self._launcher

    def _launch_session(self) -> LaunchSession:
        from .jobs.launch.session import LaunchSession

        return LaunchSession(
            inventory=self.inventory,
            fleet=self._fleet,
            live=self._live,
            detach_check=self._detach_check,
            publish=self.publish,
            runs=self.runs,
            clusters=self._clusters.by_name if self._clusters is not None else {},
            patience=self._patience,
        )

    @property
    def _linked(self) -> list[str]:
        """The connected nodes that a link leads to: no pod of a cluster."""
        elsewhere = self._clusters.nodes if self._clusters is not None else frozenset()
        return [name for name in self._live.answering if name not in elsewhere]

    async def jobs(self, only: Sequence[str] | None = None) -> Document:
        """All runs that any connected node knows, and those with copies here whose nodes are silent.

        ``only``: ask these nodes, None: all.
        """
        from .jobs.runs.listing import list_runs

        await self._live.wait_settled(patience=self._asking_patience)
        silent: dict[str, str] = {}

        def on_failure(node: str, error: PacelineError) -> None:
            silent[node] = error.reason
            self.publish(NodeWarned(node=node, reason=f"its runs are not listed: {error.reason}", hint=error.hint or ""))

        asked = [name for name in self._linked if only is None or name in only]
        rows = await list_runs(self._fleet, self.runs, asked, on_failure)
        if self._clusters is not None:
            rows = await self._clusters.with_runs(rows, on_failure)
        for count, row in enumerate(reversed(rows)):
            self.publish(_listed(row))
            if count % RUNS_PER_TURN == 0:
                await asyncio.sleep(0)
        return {"type": "jobs", "runs": rows, "silent": [{"name": name, "reason": reason} for name, reason in silent.items()]}

    async def cancel(self, run_id: str) -> Document:
        """Stop a run on every connected node; returns when none of its processes is left there.

        The run id ``waiting`` is the job of this session that waits for devices; nothing of it is on a node.
        """
        from .jobs.runs.cancel import cancel, copy_remaining

        if run_id == WAITING_JOB_ID and self._launcher is not None and (job := self.state.waiting) is not None:
            self._launcher.stop_waiting()
            return {"type": "cancel", "run_id": WAITING_JOB_ID, "state": "cancelled", "nodes": list(job.nodes), "survivors": []}
        row = await self._row(run_id)
        run_id = row["run_id"]
        if self._clusters is not None and (cluster := self._clusters.of_run(run_id)) is not None:
            return await cluster.cancel(run_id)
        read_only = [node.name for node in self.inventory.nodes if node.read_only]
        survivors = await cancel(row, self._fleet, self._linked, read_only)
        await copy_remaining(row, self._fleet, self.runs, self.publish)
        after = await self._row(run_id, row["nodes"])
        return {"type": "cancel", "run_id": run_id, "state": after["state"], "nodes": row["nodes"], "survivors": survivors}

    async def drain(self, node: str, run: str | None) -> Document:
        """Take a node out of a run that goes on without it, at the next step; ``run``: None: out of all that it takes part in."""
        from .jobs.members.change import drain

        rows = [await self._row(run)] if run is not None else (await self.jobs())["runs"]
        read_only = [spec.name for spec in self.inventory.nodes if spec.read_only]
        run_id = rows[0]["run_id"] if run is not None else None
        return await drain(node, rows, self._fleet, run_id=run_id, read_only=read_only)

    async def grow(self, run: str, devices: str | None) -> Document:
        """Bring nodes that were taken out of a run, or whose runner is gone, back into it; ``devices``: None: all of them."""
        from .jobs.members.change import grow

        read_only = [spec.name for spec in self.inventory.nodes if spec.read_only]
        return await grow(await self._row(run), devices, self._fleet, read_only=read_only, env=self._environments())

    async def kill(self, node: str, pid: int, started: int | None, is_agreed: bool) -> Document:
        """Describe a process of a node, and terminate it when ``is_agreed``."""
        from .jobs.runs.kill_process import kill

        is_read_only = any(spec.read_only for spec in self.inventory.nodes if spec.name == node)
        return await kill(node, pid, started, fleet=self._fleet, is_agreed=is_agreed, is_read_only=is_read_only)

    def list_past(self) -> None:
        """Publish the runs that have ended and are copied here, before any node has answered."""
        from .jobs.runs.listing import copied_rows

        for row in reversed(copied_rows(self.runs)):
            self.publish(_listed(row))

    async def read_run(self, run_id: str) -> None:
        """Publish everything of a run that has ended, without following it: from its copies, else from its nodes."""
        from .jobs.runs.attach import attach
        from .jobs.runs.past import has_past, past_events

        if (copies := self.copies(run_id)) is not None and has_past(copies.parent):
            for count, event in enumerate(past_events(copies.parent)):
                self.publish(event)
                if count % 1000 == 0:
                    await asyncio.sleep(0)
            return
        row = await self._row(run_id)
        nodes = self._linked
        await attach(row, self._fleet, connected=nodes, runs=self.runs, publish=self.publish, patience=self._asking_patience)

    async def attach(self, run_id: str) -> Document:
        """Follow an existing run to its result, whichever control process launched it."""
        from .jobs.runs.attach import attach

        row = await self._row(run_id)
        self._launcher, self._attached = None, row["run_id"]
        if self._clusters is not None and (cluster := self._clusters.of_run(row["run_id"])) is not None:
            return await cluster.attach(row["run_id"])
        return await attach(
            row,
            self._fleet,
            connected=self._linked,
            runs=self.runs,
            publish=self.publish,
            patience=self._patience,
            env=self._environments(),
        )

    def _environments(self) -> dict[str, Mapping[str, str]]:
        """What nodes.toml says of the environment of each node."""
        return {node.name: node.env for node in self.inventory.nodes}

    async def logs(self, run_id: str, query: LogQuery, show: Callable[[MergedLine], None] | None = None) -> Document:
        """The merged log lines of a run. ``show``: called with each line instead, until the run has ended."""
        from .jobs.logs.read import read_logs

        row = await self._row(run_id)
        if self._clusters is not None and (cluster := self._clusters.of_run(row["run_id"])) is not None:
            await cluster.sync(row["run_id"])
        document = await read_logs(
            row, query, self._fleet, connected=self._linked, runs=self.runs, show=show, patience=self._patience
        )
        for node in document["nodes"]:
            if node["reason"] is not None:
                self.publish(NodeWarned(node=node["name"], reason=f"its log cannot be read: {node['reason']}"))
        return document

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Clock]:
        """Clock offsets of the nodes that answer, relative to this machine."""
        from .jobs.logs.read import measure_clocks

        return await measure_clocks(nodes, self._fleet)

    async def fetch(self, run_id: str, patterns: Sequence[str], to: Path | None) -> Document:
        """Fetch files of a run, one subdirectory per node. ``to``: the directory; None: ``files`` in the run's directory here."""
        from .jobs.files.fetch import fetch

        row = await self._row(run_id)
        directory = to.absolute() if to is not None else self.runs / row["run_id"] / "files"
        return await fetch(row, patterns, directory, self._fleet, connected=self._linked, publish=self.publish)

    async def clean(self, request: CleanRequest, is_agreed: bool) -> Document:
        """List what Paceline stores on the nodes and no longer needs, and remove it when ``is_agreed``."""
        from .jobs.runs.clean import clean

        await self._live.wait_settled(patience=self._asking_patience)
        if not all(map(is_whole_id, request.runs)):
            known = _known_runs((await self.jobs())["runs"])
            request = replace(request, runs=tuple(find_run(known, run) for run in request.runs))
        nodes = self.inventory.nodes
        read_only = [node.name for node in nodes if node.read_only]
        return await clean(
            request, self._fleet, nodes=[node.name for node in nodes], runs=self.runs, is_agreed=is_agreed, read_only=read_only
        )

    async def _row(self, run_id: str, nodes: Sequence[str] | None = None) -> Document:
        """A run as ``jobs`` lists it from these nodes, by any of its names. Raises UsageError when no node knows it."""
        rows = {row["run_id"]: row for row in (await self.jobs(nodes))["runs"]}
        run: Document = rows[find_run(_known_runs(rows.values()), run_id)]
        return run

    async def _tick(self) -> None:
        while True:
            self.publish(Ticked(clock=time.time()))
            await asyncio.sleep(1.0)

    def _recording_failed(self, error: PacelineError) -> None:
        self.publish(Warned(reason=str(error)))


def _listed(row: Document) -> RunListed:
    """The event of a row of ``jobs``."""
    keys = ("run_id", "state", "workload", "started", "step", "seconds", "samples_per_second", "loss", "metric")
    fields = {key: row[key] for key in keys} | {key: row[key] or "" for key in ("reason", "name", "metric_name")}
    return RunListed(**fields, nodes=tuple(row["nodes"]), policies=tuple(row["policies"]))


def _known_runs(rows: Iterable[Document]) -> list[KnownRun]:
    return [KnownRun(row["run_id"], row["name"] or "", row["state"]) for row in rows]


def _device(reading: DeviceReading) -> Document:
    keys = ("index", "name", "kind", "utilization", "memory_used", "memory_total", "temperature", "power", "clock")
    texts = {"error": reading.error or None, "holder": reading.holder or None, "holder_user": reading.holder_user or None}
    return {key: getattr(reading, key) for key in keys} | {"throttle": list(reading.throttle)} | texts
