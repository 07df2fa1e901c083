"""A run is submitted once, whoever is killed at which step: 200 seeded histories against a scheduler that behaves as Slurm does.

Every step of a submission, before and after each file and each word to the scheduler, may be the last of its process. Two centres
may submit the same run, the controller may be silent, its queue may not show yet what it has taken, and its answer may be lost.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.slurm import submitting
from paceline.engine.agent.slurm.job_files import JobFiles
from paceline.engine.agent.slurm.job_table import JobTable, JobView
from paceline.engine.agent.slurm.submitting import accept, submit_once, submitted_id
from paceline.engine.errors import ConfigurationError, NodeUnreachable, UsageError
from paceline.engine.slurm.listings import QueuedJob
from paceline.engine.slurm.script import job_name

RUN = "20261130-1200-abcdef"
REQUEST = {"spec": {"workload": "digits-cnn"}, "plan": {"nodes": [{"name": "hpc-a-1"}]}}


class Killed(BaseException):
    """The process ends here, as by SIGKILL."""


class Kills:
    """Counts the steps of a process and ends it at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.steps = at, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed

    def around(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        def done(*words: Any, **options: Any) -> Any:
            self.step()
            value = deed(*words, **options)
            self.step()
            return value

        return done


class Controller:
    """What Slurm keeps: jobs by number, each with its name; of one name only one runs at a time, in the order of their numbers."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.names: dict[int, str] = {}
        self.over: set[int] = set()
        self.hidden: set[int] = set()
        """Jobs that the queue does not show yet."""
        self.silence = 0.0
        """How often it does not answer."""
        self.has_run: list[int] = []
        """Jobs that really ran: those that did not find the run ended."""

    def run_all(self, done: Path) -> None:
        """Start every job, one after another, as ``singleton`` has them; a job that finds its run ended does nothing."""
        for number in sorted(self.names.keys() - self.over):
            if not done.exists():
                self.has_run.append(number)
                done.touch()
            self.over.add(number)


class Client:
    """One process's view of the controller."""

    def __init__(self, controller: Controller, kills: Kills) -> None:
        self._controller, self._kills = controller, kills

    def _answer(self) -> None:
        self._kills.step()
        if self._controller.draw.random() < self._controller.silence:
            raise NodeUnreachable("Slurm: the Slurm controller does not answer")

    def submit(self, script: Path) -> int:
        self._answer()
        assert script.read_text().startswith("#!")
        number = len(self._controller.names) + 1
        self._controller.names[number] = job_name(RUN)
        if self._controller.draw.random() < 0.3:
            self._controller.hidden.add(number)
        self._answer()  # the job is taken, and its number may be lost
        return number

    def find(self, name: str) -> int | None:
        self._answer()
        shown = (number for number, one in self._controller.names.items() if one == name and number not in self._controller.hidden)
        return max(shown, default=None)

    def queue(self) -> list[QueuedJob]:
        self._answer()
        self._controller.hidden.clear()
        alive = self._controller.names.keys() - self._controller.over
        return [QueuedJob(number, 0, "PENDING", "Priority", "gpu", name=self._controller.names[number]) for number in sorted(alive)]

    def show(self, job_id: int) -> dict[str, str]:
        self._answer()
        return {"JobState": "COMPLETED"} if job_id in self._controller.over else {}

    def cancel(self, job_id: int) -> None:
        self._answer()
        self._controller.over.add(job_id)


def attempt(monkeypatch: pytest.MonkeyPatch, job: JobFiles, controller: Controller, kills: Kills) -> int | None:
    """One process that submits the run, perhaps not to its end."""
    with monkeypatch.context() as patch:
        for name in ("write_json", "write_bytes"):
            patch.setattr(submitting, name, kills.around(getattr(submitting, name)))
        patch.setattr("paceline.engine.agent.slurm.submitting.os.rename", kills.around(os.rename))
        try:
            accept(job, REQUEST, "#!/bin/sh\n")
            return submit_once(job, Client(controller, kills))
        except Killed:
            return None


def make_table(job: JobFiles, controller: Controller, ended: list[JobView]) -> JobTable:
    """The table of a process that looks every ten seconds; ``ended``: what it settles."""
    clock = itertools.count(0.0, 10.0)
    return JobTable(
        job.root, Client(controller, Kills(None)), lambda _, view: ended.append(view), lambda: next(clock), lambda: next(clock)
    )


def steps_of_a_submission(monkeypatch: pytest.MonkeyPatch, place: Path) -> int:
    kills = Kills(None)
    controller = Controller(random.Random(0))
    attempt(monkeypatch, JobFiles(place, RUN), controller, kills)
    return kills.steps


def test_in_200_histories_of_kills_every_accepted_run_runs_exactly_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = steps_of_a_submission(monkeypatch, tmp_path / "count")
    assert last >= 12
    points = itertools.cycle(range(1, last + 2))
    lost, doubled, accepted = [], [], 0
    for seed in range(200):
        draw = random.Random(seed)
        job = JobFiles(tmp_path / str(seed), RUN)
        controller = Controller(draw)
        for number in range(draw.randint(1, 3)):  # centres that submit, one after another
            controller.silence = draw.choice((0.0, 0.0, 0.5))
            attempt(
                monkeypatch, job, controller, Kills(next(points) if number == 0 else draw.choice((None, draw.randint(1, last))))
            )
        if not job.directory.exists():  # nothing was made durable: nobody was told that it was accepted
            assert not controller.names
            continue
        accepted += 1
        controller.silence = draw.choice((0.0, 0.3))
        table = make_table(job, controller, [])
        for _ in range(40):  # whoever looks next, until the job is known
            table.refresh(is_due=False)
            if submitted_id(job) is not None:
                break
        controller.run_all(job.directory / "done")
        if len(controller.has_run) > 1:
            doubled.append(seed)
        if not controller.has_run:
            lost.append(seed)
    assert (lost, doubled) == ([], [])
    assert accepted > 120


def test_a_cancelled_run_is_never_submitted_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, controller = JobFiles(tmp_path, RUN), Controller(random.Random(1))
    accept(job, REQUEST, "#!/bin/sh\n")
    job.cancelled.touch()
    ended: list[JobView] = []
    table = make_table(job, controller, ended)
    table.refresh(is_due=False)
    table.refresh(is_due=False)
    assert not controller.names
    assert [view.state for view in ended] == ["over"] * len(ended)
    assert ended


def test_a_refusal_leaves_no_intent_and_another_spec_is_refused(tmp_path: Path) -> None:
    class Refusing(Client):
        def submit(self, script: Path) -> int:
            raise ConfigurationError("Slurm: it knows no such partition")

    job, controller = JobFiles(tmp_path, RUN), Controller(random.Random(1))
    accept(job, REQUEST, "#!/bin/sh\n")
    accept(job, REQUEST, "#!/bin/sh\n")
    with pytest.raises(UsageError, match="another spec"):
        accept(job, {**REQUEST, "spec": {"workload": "digits-mlp"}}, "#!/bin/sh\n")
    with pytest.raises(ConfigurationError):
        submit_once(job, Refusing(controller, Kills(None)))
    assert not job.directory.exists()


def test_a_silent_controller_never_changes_what_is_known(tmp_path: Path) -> None:
    job, controller = JobFiles(tmp_path, RUN), Controller(random.Random(1))
    ended: list[JobView] = []
    table = make_table(job, controller, ended)
    accept(job, REQUEST, "#!/bin/sh\n")
    assert submit_once(job, Client(controller, Kills(None))) == 1
    table.refresh(is_due=False)
    controller.silence = 1.0
    for _ in range(20):
        table.refresh(is_due=False)
    assert table.view(RUN).state == "queued"
    assert not ended
