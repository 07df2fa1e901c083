"""The verb ``profile``: measure devices, links and machines in a run of its own, or load the stored profile where it is valid."""

from __future__ import annotations

from dataclasses import replace

from ...plan import Plan
from ...profiles.profile import Profile
from ...reports.document_type import Document
from ...specs import TrainSpec
from ..scripts.script_plan import with_known
from .data import PreparedJob, prepare_job
from .live_plan import LivePlanner
from .session import LaunchSession
from .submit import RunLauncher

PROFILING_BATCH_SIZE = 1 << 20
"""Profiling trains no global batch: this one is large enough for any number of devices."""

PROFILED_STEPS = 30
"""Steps of a script that are measured: some at equal shares, and then at those that the balancer tries."""


class ProfileLauncher:
    """Profiles the devices of one session."""

    def __init__(self, session: LaunchSession, planner: LivePlanner, launcher: RunLauncher) -> None:
        self._session, self._planner, self._launcher = session, planner, launcher

    async def measure(self, spec: TrainSpec) -> tuple[Profile, Document]:
        """Measure all devices of ``spec`` with its workload, or with the first steps of its script, and store the profile.

        The document says how the run ended: a failed run may have measured some devices.
        """
        job, spec = await self._prepared(spec)
        plan = self._measured(job, await self._planner.plan_when_ready(spec, job.data))
        result = await self._launcher.launch(spec, plan, job.sources)
        profile, document = self._session.profile_cache(plan).save(self._session.runs / plan.run_id)
        return profile, document | {key: result.get(key) for key in ("state", "reason", "failed_rank", "failed_node")}

    async def load_or_measure(self, spec: TrainSpec) -> Profile:
        """The profile of all reachable devices: the stored one where valid, otherwise measured now, with a warning why."""
        job, prepared = await self._prepared(spec)
        prepared = replace(prepared, devices=await self._planner.reachable_devices())
        plan = self._measured(job, (await self._planner.plan(prepared, job.data))[0])
        if (stored := self._session.profile_cache(plan).load_or_explain()) is not None:
            return replace(stored, samples=job.data.training_rows or stored.samples)
        profile, _ = await self.measure(replace(spec, devices=prepared.devices))
        self._launcher.run_id = None  # the profiling run is over: an interrupt must not name it as going on
        return profile

    async def _prepared(self, spec: TrainSpec) -> tuple[PreparedJob, TrainSpec]:
        """The data or project of a job, and the job that measures it."""
        job = await prepare_job(self._session, spec)
        if job.spec.script is None:
            return job, replace(spec, global_batch_size=PROFILING_BATCH_SIZE)
        return job, replace(job.spec, policies=("dynamic",), checkpoint_every="never")

    def _measured(self, job: PreparedJob, plan: Plan) -> Plan:
        """The plan of the run that measures: the program of its own, or the first steps of the script."""
        if plan.script is None:
            return replace(plan, program="profiling")
        plan = with_known(job.complete(plan), None, self._session.kept_rate(plan))
        assert plan.script is not None
        return replace(plan, script=replace(plan.script, max_steps=PROFILED_STEPS))


def profiling_spec(spec: TrainSpec) -> TrainSpec:
    """The job that profiles the devices for another job."""
    return TrainSpec(workload=spec.workload, csv=spec.csv, is_shared=spec.is_shared, script=spec.script)
