"""What experiments of trials share: many trials are one run, and what a lost node leaves runs again in the next one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from ...errors import WorkFailed
from ...events import Event, Progress
from ...experiments.journal import Journal
from ...reports.document_type import Document
from ...specs import TrainSpec
from ..launch.live_plan import LivePlanner
from ..mirror.follow import copied_events
from .experiment import Experiment, Request

MAX_LAUNCHES = 6
"""Launches of some trials: after a lost node those that are left run again on the others."""


class TrialExperiment(Experiment[Request]):
    """An experiment whose plan has ``trials`` and ``devices``, and whose journal has one row a trial."""

    @abstractmethod
    def _job(self, plan: Document, left: Sequence[int], devices: str) -> TrainSpec:
        """The trials that are left as one run."""

    @abstractmethod
    def _rows(self, events: Sequence[Event], places: Mapping[int, str], journal: Journal) -> dict[int, Document]:
        """What the events of a run say of its trials; ``places``: ``node:index`` of each rank."""

    def _left(self, journal: Journal, devices: str) -> list[int]:
        """Numbers of the trials that are left and can run on these devices."""
        return [number for number in range(len(journal.plan["trials"])) if number not in journal.rows]

    async def _run(self, journal: Journal) -> None:
        """Launch what is left until every trial has ended."""
        plan = journal.plan
        launch = len(journal.run_ids)
        if launch and (document := await self._attach(journal.run_ids[launch - 1])) is not None:
            self._note(journal, launch - 1, document)
        await self._launch_all(journal, str(plan["devices"]))

    async def _launch_all(self, journal: Journal, devices: str) -> None:
        """Launch the trials that are left until there are none, on what is left of the devices."""
        plan, first = journal.plan, len(journal.run_ids)
        launch = first
        while left := self._left(journal, devices):
            if launch - first == MAX_LAUNCHES:
                raise WorkFailed(f"{len(left)} trials have not ended after {MAX_LAUNCHES} launches", hint=self.resume_hint)
            self._session.publish(Progress(phase=f"{journal.name}: {len(left)} of {len(plan['trials'])} trials are left"))
            if launch and plan["devices"] == "all":
                devices = await LivePlanner(self._session).reachable_devices()
                left = self._left(journal, devices)
            document = await self._launch(journal, launch, self._job(plan, left, devices))
            self._note(journal, launch, document)
            launch += 1
            if len(self._left(journal, devices)) == len(left) and document.get("state") != "done":
                raise WorkFailed(f"no trial ended: {document.get('reason')}", hint=self.resume_hint)

    def _note(self, journal: Journal, launch: int, document: Mapping[str, object]) -> None:
        """Note the trials that ended in a run, each once."""
        run_id = journal.run_ids.get(launch)
        if run_id is None:
            return
        devices = document.get("devices")
        listed = devices if isinstance(devices, list) else []
        places = {rank: f"{device['node']}:{device['index']}" for rank, device in enumerate(listed)}
        for number, row in self._rows(copied_events(self._session.runs / run_id, run_id), places, journal).items():
            if number not in journal.rows:
                journal.note_row(number, row | {"run_id": run_id})
