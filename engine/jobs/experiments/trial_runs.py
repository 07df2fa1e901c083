"""What experiments of trials share: many trials are one run, and what a lost node leaves runs again in the next one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import WorkFailed
from ...events import Event, Progress, RunPlanned, TrialEnded, TrialStarted
from ...experiments.journal import Journal
from ...reports.document_type import Document
from ...specs import TrainSpec
from ..launch.live_plan import LivePlanner
from ..launch.session import LaunchSession
from ..mirror.follow import copied_events
from .experiment import Attach, Experiment, Request

MAX_LAUNCHES = 6
"""Launches of some trials: after a lost node those that are left run again on the others."""


class TrialExperiment(Experiment[Request]):
    """An experiment whose plan has ``devices``, and whose journal has one row a trial."""

    def __init__(self, session: LaunchSession, attach: Attach) -> None:
        super().__init__(session, attach)
        self._places: dict[int, str] = {}
        """``node:index`` of each rank of the run that goes on,"""
        self._told: list[Event] = []
        """and what it has told of its trials."""

    def _observe(self, journal: Journal, event: Event) -> None:
        """Show a trial as soon as it begins or ends; the journal has it when the run is over."""
        if isinstance(event, RunPlanned):
            self._told = []
            self._places = {rank.rank: f"{rank.node}:{rank.device_index}" for rank in event.ranks}
        if not isinstance(event, TrialStarted | TrialEnded):
            return
        self._told.append(event)
        rows = self._rows(self._told, self._places, journal)
        starts = [one.node_time for one in self._told if isinstance(one, TrialStarted) and one.node_time is not None]
        first = min(starts, default=0.0)
        ended = {(one.trial, one.rank) for one in self._told if isinstance(one, TrialEnded)}
        running = [
            {
                "trial": one.trial,
                "device": self._places.get(one.rank, ""),
                "start": (one.node_time or first) - first,
            }
            for one in self._told
            if isinstance(one, TrialStarted) and (one.trial, one.rank) not in ended
        ]
        self._show(replace(journal, rows=rows | journal.rows), running)

    @abstractmethod
    def _job(self, journal: Journal, left: Sequence[int], devices: str) -> TrainSpec:
        """The trials that are left as one run."""

    @abstractmethod
    def _rows(self, events: Sequence[Event], places: Mapping[int, str], journal: Journal) -> dict[int, Document]:
        """What the events of a run say of its trials; ``places``: ``node:index`` of each rank."""

    def _left(self, journal: Journal, devices: str) -> list[int]:
        """Numbers of the trials that are left and can run on these devices."""
        return [number for number in self._numbers(journal) if number not in journal.rows]

    def _numbers(self, journal: Journal) -> Sequence[int]:
        """Numbers of all trials that are known now."""
        return range(len(journal.plan["trials"]))

    async def _run(self, journal: Journal) -> None:
        """Launch what is left until every trial has ended."""
        await self._go_on(journal)
        await self._launch_all(journal, str(journal.plan["devices"]))

    async def _go_on(self, journal: Journal) -> None:
        """Follow the run that an interrupt left behind, where there is one, and note its trials."""
        launch = len(journal.run_ids)
        if launch and (document := await self._attach(journal.run_ids[launch - 1])) is not None:
            self._note(journal, launch - 1, document)

    async def _launch_all(self, journal: Journal, devices: str) -> None:
        """Launch the trials that are left until there are none, on what is left of the devices."""
        first = launch = len(journal.run_ids)
        now = devices
        while left := self._left(journal, now):
            if launch - first == MAX_LAUNCHES:
                raise WorkFailed(f"{len(left)} trials have not ended after {MAX_LAUNCHES} launches", hint=self.resume_hint)
            whole = len(self._numbers(journal))
            self._session.publish(Progress(phase=f"{journal.name}: {len(left)} of {whole} trials are left"))
            if launch and devices == "all":
                now = await LivePlanner(self._session).reachable_devices()
                left = self._left(journal, now)
            document = await self._launch(journal, launch, self._job(journal, left, now))
            self._note(journal, launch, document)
            launch += 1
            if len(self._left(journal, now)) == len(left) and document.get("state") != "done":
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
