"""What all experiments share: a plan in a journal, runs that are launched or followed, and a document at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ...events import Event, ExperimentAdvanced, Progress, RunPlanned
from ...experiments.board import board_of
from ...experiments.journal import Journal, begin, resume
from ...protocol.json_files import write_json
from ...reports.document_type import Document
from ...specs import LinkSpec, TrainSpec
from ..launch.job import JobLauncher
from ..launch.session import LaunchSession
from ..runs.result_path import RESULT_FILE

Attach = Callable[[str], Awaitable[Document | None]]
"""Follows a run that has begun to its result; None: no node knows it."""
Request = TypeVar("Request")


class Experiment(ABC, Generic[Request]):
    """One experiment on the machines of a session. A subclass says what its plan, its cases and its document are."""

    kind: ClassVar[str]
    """Its verb."""

    def __init__(self, session: LaunchSession, attach: Attach) -> None:
        self._session, self._attach = session, attach
        self._launcher: JobLauncher | None = None
        self._name = ""

    @property
    def run_id(self) -> str | None:
        """The run that goes on now; None between two."""
        return self._launcher.run_id if self._launcher else None

    @property
    def resume_hint(self) -> str:
        """How to go on after an interrupt; empty before the plan is written."""
        return f"paceline {self.kind} --resume {self._name} goes on with the experiment" if self._name else ""

    async def begin(self, directory: Path, request: Request) -> Document:
        """Plan an experiment, write its plan, and run it. Raises UsageError where the name has another plan."""
        return await self._complete(begin(directory, self.kind, await self._plan(request)))

    async def resume(self, directory: Path) -> Document:
        """Go on with an experiment that was interrupted, by the plan it began with."""
        return await self._complete(resume(directory, self.kind))

    async def _complete(self, journal: Journal) -> Document:
        """Run what is left; returns the document, which the directory of the experiment keeps too."""
        self._name = journal.name
        self._show(journal)
        await self._run(journal)
        document = self._document(journal)
        self._show(journal)
        write_json(journal.directory / RESULT_FILE, {"schema": 1, **document})
        return document | {"directory": str(journal.directory)}

    @abstractmethod
    async def _plan(self, request: Request) -> Document:
        """What determines the cases and their order."""

    @abstractmethod
    async def _run(self, journal: Journal) -> None:
        """Run the cases that have no row yet."""

    @abstractmethod
    def _document(self, journal: Journal) -> Document:
        """What the rows say together."""

    def _show(self, journal: Journal, running: Sequence[Mapping[str, Any]] = (), note: str = "") -> None:
        """Publish how far the experiment is."""
        board = board_of(self._document(journal), running, note)
        if board is not None:
            self._session.publish(ExperimentAdvanced(board=board, is_new=True))

    async def _run_cases(
        self,
        journal: Journal,
        cases: Iterable[tuple[str, TrainSpec, LinkSpec | None]],
        facts_of: Callable[[Mapping[str, Any]], Document],
    ) -> None:
        """Run cases of one run each that have no good row yet. A case: words for a person, its job, and its network.

        A run that goes on from before an interrupt is followed instead of launched again.
        """
        several = list(cases)
        for case, (words, job, link) in enumerate(several):
            if journal.rows.get(case, {}).get("state") == "done":
                continue
            self._session.publish(Progress(phase=f"{journal.name}: run {case + 1} of {len(several)}, {words}"))
            self._show(journal, note=words)
            result = None
            if case in journal.run_ids and case not in journal.rows:
                result = await self._attach(journal.run_ids[case])
            if result is None or result.get("state") != "done":
                result = await self._launch(journal, case, job, link)
            journal.note_row(case, facts_of(result))

    async def _launch(self, journal: Journal, case: int, job: TrainSpec, link: LinkSpec | None = None) -> Document:
        """Launch the run of a case and follow it; the journal knows its id as soon as there is one."""

        def publish(event: Event) -> None:
            if isinstance(event, RunPlanned):
                journal.note_run(case, event.run_id)
            self._session.publish(event)
            self._observe(journal, event)

        return await self._launcher_over(link, publish).run(job)

    def _observe(self, journal: Journal, event: Event) -> None:
        """Look at an event of the run that goes on."""

    def _launcher_over(self, link: LinkSpec | None, publish: Callable[[Event], None] | None = None) -> JobLauncher:
        """A launcher on the network there is, or on an emulated one."""
        inventory = self._session.inventory
        session = replace(self._session, inventory=inventory if link is None else replace(inventory, link=link))
        self._launcher = JobLauncher(session if publish is None else replace(session, publish=publish))
        return self._launcher
