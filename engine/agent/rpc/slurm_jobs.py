"""Requests about jobs of Slurm at their login node: submit a run once, say how it stands, list it, cancel it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from ...errors import UsageError, WorkFailed
from ...protocol.json_files import read_json
from ...protocol.messages import Body
from ...protocol.private_files import write_bytes
from ...slurm.script import job_name
from ..runs import lease
from ..runs.liveness import add_judge
from ..runs.run_dir import all_run_facts, run_path
from ..runs.tail import Send
from ..slurm.commands import Slurm
from ..slurm.job_files import JobFiles, job_of, prepare_slot
from ..slurm.job_table import JobTable, JobView, is_job_alive, keep_table, known_table
from ..slurm.settle import settle
from ..slurm.submitting import accept, intents, submit_once, submitted_id
from ..system.state_dir import StateDir

JOB_END_TIMEOUT_S = 25.0
"""Seconds for the tasks of a cancelled job to end their ranks and say so."""


add_judge(is_job_alive)
LISTING_LOOK_S = 2.0
"""Seconds for a look at the queue before runs are listed: half of what a centre waits for the list."""
SLOT_WORDS = frozenset(
    (
        *("take_lease", "cancel", "list_runs", "read_plan", "read_clock", "find_modules", "list_checkpoints", "stat_files"),
        *("follow", "acknowledge", "unfollow", "list_files", "read_file", "checksum", "list_storage", "remove_stored"),
    )
)
"""Requests about files and jobs. All others are about a machine, which a slot is not before Slurm gives one."""


def slot_state_dir(state_dir: StateDir, body: Body) -> StateDir:
    """The directories that a request is about: those of the slot that it names, else those of this node.

    Raises UsageError where a slot is asked what only a machine can answer, and StorageFailed.
    """
    if not body.get("slot"):
        return state_dir
    if body.get("ask") not in SLOT_WORDS:
        raise UsageError(f"{str(body['slot'])[:60]} is no machine before Slurm gives one", hint="name the login node")
    return prepare_slot(state_dir.root, str(body["slot"]))


def table_of(root: Path) -> JobTable:
    """The table of the jobs of this login node."""
    return known_table(root) or keep_table(root, JobTable(root, Slurm(), settle))


def _job(state_dir: StateDir, body: Body) -> JobFiles:
    return JobFiles(state_dir.root, run_path(state_dir, body).name)


async def submit_job(state_dir: StateDir, body: Body, send: Send) -> Body:
    """Submit a run's job: {job_id}; null while the controller does not answer. Idempotent. Raises PacelineError for a refusal."""
    job = _job(state_dir, body)
    request = {key: body.get(key) for key in ("spec", "plan", "certificates", "env", "holder")}
    await asyncio.to_thread(accept, job, request, str(body["script"]))
    number = await asyncio.to_thread(submit_once, job, Slurm())
    table = table_of(state_dir.root)
    await asyncio.to_thread(table.refresh_within, LISTING_LOOK_S)
    return {"job_id": number}


async def job_state(state_dir: StateDir, body: Body, send: Send) -> Body:
    """How a run's job stands: {state, reason, job_id, has_begun}, as in ``JobView``; ``has_begun``: its run directories exist."""
    job = _job(state_dir, body)
    if not job.directory.is_dir():
        raise UsageError(f"run {job.run_id} has no job here")
    if job.ended.exists():
        return {"state": "over", "reason": "", "job_id": submitted_id(job), "has_begun": True}
    table = table_of(state_dir.root)
    view = table.view(job.run_id)
    nodes = (table.request(job).get("plan") or {}).get("nodes", ())
    has_begun = bool(nodes) and all((job.run_of(node["name"]) / "start.json").exists() for node in nodes)
    return {"state": view.state, "reason": view.reason, "job_id": view.job_id, "has_begun": has_begun}


def slot_facts(state_dir: StateDir) -> list[dict[str, Any]]:
    """Facts of all runs of a slot, those that wait in the queue included. Blocks."""
    root = state_dir.root.parents[1]
    table = table_of(root)
    waiting = {job.run_id: job for job in intents(root)}
    if waiting:
        table.refresh_within(LISTING_LOOK_S)
    facts = all_run_facts(state_dir.runs)
    for row in facts:
        if row.get("exit") is None and row["run_id"] in waiting:
            row["queue"] = _queue(table.view(row["run_id"]))
    begun = {row["run_id"] for row in facts}
    for run_id, job in waiting.items():
        request = table.request(job)
        spec, plan = request.get("spec") or {}, request.get("plan") or {}
        nodes = [node["name"] for node in plan.get("nodes", ())]
        if run_id not in begun and state_dir.name in nodes:
            keys = {"run_id": run_id, "workload": spec.get("workload") or "", "name": spec.get("name") or "", "nodes": nodes}
            view = table.view(run_id)
            silent = {"state": "queued", "reason": view.reason or "Slurm does not answer", "job_id": submitted_id(job)}
            queue = silent if view.state == "unknown" else _queue(view)
            row = {**keys, "policies": list(spec.get("policies") or ()), "is_alive": True, "queue": queue}
            facts.append(row)
    return sorted(facts, key=lambda row: str(row["run_id"]))


def _queue(view: JobView) -> dict[str, Any] | None:
    """What a run in the queue waits for; None: it does not wait."""
    return {"state": view.state, "reason": view.reason, "job_id": view.job_id} if view.state in ("queued", "waiting") else None


async def cancel_job(state_dir: StateDir, body: Body) -> Body | None:
    """Cancel a slot's part of a run, which ends the whole job: {is_known, survivors}; None: the run is none of a job.

    Returns once every slot has said how it ended. Raises WorkFailed where tasks stay, NodeUnreachable where Slurm does not answer.
    """
    run = run_path(state_dir, body)
    if (job := job_of(run)) is None:
        return None
    if run.exists():
        lease.check(run, int(body["epoch"]))
    if not job.ended.exists() and read_json(run / "exit.json") is None:
        await asyncio.to_thread(_cancel, job, run)
    return {"is_known": True, "survivors": []}


def _cancel(job: JobFiles, run: Path) -> None:
    """Take a job out of the queue or end it, and wait for its end. Blocks."""
    write_bytes(job.cancelled, b"")
    slurm, table = Slurm(), table_of(job.root)
    with job.lock():
        number = submitted_id(job) or slurm.find(job_name(job.run_id))
        if number is not None:
            slurm.cancel(number)
    deadline = time.monotonic() + JOB_END_TIMEOUT_S
    while read_json(run / "exit.json") is None and not job.ended.exists():
        table.refresh(is_due=False)
        view = table.view(job.run_id)
        if view.state == "over":
            settle(job, view)
        elif time.monotonic() > deadline:
            raise WorkFailed(f"job {view.job_id} does not end: {view.slurm_state}", hint="scontrol show job says what it waits for")
        else:
            time.sleep(0.2)
