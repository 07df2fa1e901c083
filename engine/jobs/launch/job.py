"""The verbs ``train`` and ``bench``: one job from its spec to its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ...errors import DeviceInUse
from ...events import Progress, Warned
from ...plan import Plan, RankPlan
from ...reports.document_type import Document
from ...reports.prediction import batch_warning
from ...specs import TrainSpec
from ...states import Policy
from ..scripts.bench import ALONE_STEPS, bench_script
from ..scripts.script_plan import alone, start_sentence, with_known
from .data import PreparedJob, prepare_job
from .forecast import advice_for, calibrate_from, host_loads, recommended_spec, with_forecast
from .live_plan import LivePlanner
from .planning import hours_warning, make_case
from .profile import ProfileLauncher, profiling_spec
from .session import LaunchSession
from .submit import RunLauncher


class JobLauncher:
    """Launches jobs on the machines of one session."""

    def __init__(self, session: LaunchSession) -> None:
        self._session = session
        self._planner = LivePlanner(session)
        self._launcher = RunLauncher(session)
        self.profiles = ProfileLauncher(session, self._planner, self._launcher)

    @property
    def run_id(self) -> str | None:
        """The run that was submitted last; None while there is none."""
        return self._launcher.run_id

    def stop_waiting(self) -> None:
        """Cancel the wait for devices in use, if there is one."""
        self._planner.stop_waiting()

    async def run(self, spec: TrainSpec, is_waiting: bool = False) -> Document:
        """Launch a job and follow it to the end; returns the result. What fails before the runners know their peers starts nothing.

        ``is_waiting``: wait here until the devices are free; until then nothing is on the nodes. Otherwise, and without
        ``spec.is_shared``, devices in use raise DeviceInUse.
        """
        if spec.devices != "auto":
            self._planner.node_names(spec.devices)  # an unknown node is refused before data is prepared
        job = await prepare_job(self._session, spec)
        if job.spec.devices == "auto":
            job = replace(job, spec=await self._recommended(job.spec))
        if job.spec.script is not None and job.spec.is_bench:

            async def launch(spec: TrainSpec, policy: Policy, repeat: int) -> tuple[Plan, Document]:
                case = make_case(policy, repeat)
                return await self._launch(replace(job, spec=spec), is_waiting, lambda plan: replace(plan, cases=(case,)))

            async def launch_alone(rank: RankPlan, batch: int | None) -> tuple[Plan, Document]:
                spec = replace(
                    job.spec, devices=f"{rank.node}:{rank.device_index}", policies=("dynamic",), is_bench=False, repeats=1
                )
                return await self._launch(replace(job, spec=spec), is_waiting, partial(alone, steps=ALONE_STEPS, batch=batch))

            session = self._session
            return await bench_script(job.spec, session.runs, launch, launch_alone, session.publish)
        return (await self._launch(job, is_waiting))[1]

    async def _launch(
        self, job: PreparedJob, is_waiting: bool, change: Callable[[Plan], Plan] = lambda plan: plan
    ) -> tuple[Plan, Document]:
        """Launch and follow one run; returns its plan and its result. ``change``: makes its plan from that of the job."""
        while True:
            plan = job.complete(await self._planner.plan_when_ready(job.spec, job.data, is_waiting))
            plan = change(plan)
            cache = self._session.profile_cache(plan)
            profile = cache.load()
            plan = with_known(plan, profile, self._session.kept_rate(plan))
            try:
                loads = host_loads((name, node.host) for name, node in self._session.live.state.nodes.items())
                plan = with_forecast(profile, plan, time.time(), loads)
                for sentence in (
                    batch_warning(plan),
                    hours_warning(plan),
                    start_sentence(plan),
                    *self._planner.software_warnings(plan),
                ):
                    if sentence is not None:
                        self._session.publish(Warned(reason=sentence))
                document = await self._launcher.launch(job.spec, plan, job.sources)
            except DeviceInUse:
                if not is_waiting:
                    raise
                continue  # another launch took a device first: wait for it
            if profile is not None and not profile.is_calibrated:
                cache.calibrate(calibrate_from(profile, plan, document))
            return plan, document

    async def _recommended(self, spec: TrainSpec) -> TrainSpec:
        """The job on the devices that the advisor recommends for it; publishes the prediction."""
        profile = await self.profiles.load_or_measure(profiling_spec(spec))
        devices, sentence = recommended_spec(profile, advice_for(profile, spec, time.time()), spec.policies[0])
        self._session.publish(Progress(phase=sentence))
        return replace(spec, devices=devices)
