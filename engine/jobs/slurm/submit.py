"""Submit a run as one heterogeneous job of Slurm, over the connection to the login node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...errors import NodeUnreachable, PacelineError, PlanImpossible
from ...events import Progress, Warned
from ...plan import Plan
from ...slurm.script import JobPlaces, batch_script
from ...specs import NodeSpec, SlotSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ...wire import to_plain
from ..doors.certificates import make_certificates
from ..retry import call_with_retry, holder_name
from ..withdraw import withdraw

SUBMIT_PATIENCE_S = 30.0
"""Seconds to wait for the login node in the middle of a submission."""


def login_of(nodes: Sequence[NodeSpec]) -> str | None:
    """The login node of the one cluster whose slots these nodes are; None: they are machines of their own.

    Raises PlanImpossible for a mixture: one scheduler starts all machines of a run at once, or nobody does.
    """
    logins = {node.slot.login if node.slot is not None else None for node in nodes}
    if len(logins) > 1:
        names = ", ".join(sorted(login or "machines of their own" for login in logins))
        raise PlanImpossible(f"one run cannot be on {names} at once", hint="choose devices with --devices")
    return next(iter(logins), None)


def slots_of(nodes: Sequence[NodeSpec], plan: Plan) -> list[SlotSpec]:
    """What a plan asks the scheduler for, a machine a node, in the order of the plan."""
    by_name = {node.name: node.slot for node in nodes if node.slot is not None}
    return [by_name[node.name] for node in plan.nodes if node.name in by_name]


async def submit_to_slurm(
    fleet: Fleet, nodes: Sequence[NodeSpec], spec: TrainSpec, plan: Plan, login: str, publish: Publish
) -> None:
    """Submit a run. Raises PacelineError where Slurm refuses it: then there is no job.

    The environment of ``nodes`` may hold secrets; it is kept with the job, readable to this user only, until the run has ended.
    """
    publish(Progress(phase=f"submitting a job for {len(plan.nodes)} machines to {login}"))
    link = await fleet.link(login, SUBMIT_PATIENCE_S)
    places = JobPlaces(f"{link.root}/jobs/{plan.run_id}", link.root, link.python, link.bundle)
    body = {"spec": to_plain(spec), "plan": to_plain(plan), "holder": holder_name()}
    body["certificates"] = make_certificates(plan.run_id, (node.name for node in plan.nodes))
    body["env"] = {node.name: node.env for node in nodes}
    body["script"] = batch_script(plan.run_id, slots_of(nodes, plan), places, f"Paceline run {plan.run_id}: {plan.workload}")
    try:
        answer = await call_with_retry(fleet, login, "submit_job", SUBMIT_PATIENCE_S, run_id=plan.run_id, **body)
    except (PacelineError, asyncio.CancelledError) as error:
        if isinstance(error, (NodeUnreachable, asyncio.CancelledError)):  # it may have arrived
            await withdraw(fleet, plan)
        raise
    if answer.get("job_id") is None:
        reason = f"{login}: the Slurm controller does not answer; the job is submitted when it does"
        publish(Warned(run_id=plan.run_id, reason=reason))
