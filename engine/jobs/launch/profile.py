"""The verb ``profile``: measure devices, links and machines in a run of its own, or load the stored profile where it is valid."""

from __future__ import annotations

from dataclasses import replace

from ...profiles.profile import Profile
from ...reports.document_type import Document
from ...specs import TrainSpec
from .data import prepare_data
from .live_plan import LivePlanner
from .session import LaunchSession
from .submit import RunLauncher

PROFILING_BATCH_SIZE = 1 << 20
"""Profiling trains no global batch: this one is large enough for any number of devices."""


class ProfileLauncher:
    """Profiles the devices of one session."""

    def __init__(self, session: LaunchSession, planner: LivePlanner, launcher: RunLauncher) -> None:
        self._session, self._planner, self._launcher = session, planner, launcher

    async def measure(self, spec: TrainSpec) -> tuple[Profile, Document]:
        """Measure all devices of ``spec`` with its workload and store the profile. The document says how the run ended: a failed
        run may have measured some devices."""
        data, source = await prepare_data(self._session, spec)
        spec = replace(spec, global_batch_size=PROFILING_BATCH_SIZE)
        plan = replace(await self._planner.plan_when_ready(spec, data), program="profiling")
        result = await self._launcher.launch(spec, plan, {data.digest: source})
        profile, document = self._session.profile_cache(plan).save(self._session.runs / plan.run_id)
        return profile, document | {key: result.get(key) for key in ("state", "reason", "failed_rank", "failed_node")}

    async def load_or_measure(self, spec: TrainSpec) -> Profile:
        """The profile of all reachable devices: the stored one where valid, otherwise measured now, with a warning why."""
        data, _ = await prepare_data(self._session, spec)
        spec = replace(spec, devices=await self._planner.reachable_devices(), global_batch_size=PROFILING_BATCH_SIZE)
        plan, _ = await self._planner.plan(spec, data)
        if (stored := self._session.profile_cache(plan).load_or_explain()) is not None:
            return replace(stored, samples=data.training_rows or stored.samples)
        profile, _ = await self.measure(spec)
        self._launcher.run_id = None  # the profiling run is over: an interrupt must not name it as going on
        return profile


def profiling_spec(spec: TrainSpec) -> TrainSpec:
    """The job that profiles the devices for another job."""
    return TrainSpec(workload=spec.workload, csv=spec.csv, is_shared=spec.is_shared)
