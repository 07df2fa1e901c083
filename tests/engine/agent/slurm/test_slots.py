"""A slot of a cluster is a directory beside its login node: its runs wait, begin, go on after an interruption, and end on paper."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc.slurm_jobs import slot_facts, slot_state_dir
from paceline.engine.agent.runs.run_dir import run_facts, runner_is_alive, start_path
from paceline.engine.agent.slurm import job_table
from paceline.engine.agent.slurm.attempt import TaskPlace, attempt_plan, newest_resume
from paceline.engine.agent.slurm.job_files import JobFiles, asked_plan, job_of, prepare_slot, slot_dir
from paceline.engine.agent.slurm.job_table import JobTable, JobView, keep_table
from paceline.engine.agent.slurm.meeting import Meeting
from paceline.engine.agent.slurm.settle import settle
from paceline.engine.agent.slurm.submitting import accept
from paceline.engine.agent.slurm.task_supervisor import fate
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable, UsageError, WorkFailed
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.protocol.checkpoints import CHECKPOINT_DIR, RESUME_FILE, CheckpointInfo, digest_of_file, write_info
from paceline.engine.protocol.json_files import read_json, write_json
from paceline.engine.protocol.run_plan import attempt_plan_path, read_run_plan
from paceline.engine.slurm.listings import QueuedJob
from paceline.engine.specs import ResumeSpec
from paceline.engine.wire import to_plain

RUN = "20261130-1200-abcdef"
SLOTS = ("hpc-a-1", "hpc-b-1")
PLAN = Plan(
    RUN,
    "digits-cnn",
    (CasePlan("hybrid", "hybrid"),),
    tuple(NodePlan(name, rank, (rank,), "", "", "python3") for rank, name in enumerate(SLOTS)),
    tuple(RankPlan(rank, name, rank, 0, 0, "emulated", "A") for rank, name in enumerate(SLOTS)),
    DataPlan("d" * 64, "made up", 1, "0" * 64),
    1,
    8,
)
REQUEST = {"spec": {"workload": "digits-cnn", "policies": ["hybrid"]}, "plan": to_plain(PLAN), "certificates": {"x": "secret"}}


class Queue:
    """A scheduler with one job in one state."""

    def __init__(self, state: str, shown: dict[str, str] | None = None) -> None:
        self.state, self.shown = state, shown or {}

    def submit(self, script: Path) -> int:
        return 7

    def find(self, name: str) -> int | None:
        return None

    def queue(self) -> list[QueuedJob]:
        return [QueuedJob(7, 0, self.state, "Priority", "gpu")] if self.state else []

    def show(self, job_id: int) -> dict[str, str]:
        return self.shown

    def cancel(self, job_id: int) -> None:
        self.state = ""


@pytest.fixture
def job(tmp_path: Path) -> JobFiles:
    for name in SLOTS:
        prepare_slot(tmp_path, name)
    job = JobFiles(tmp_path, RUN)
    accept(job, REQUEST, "#!/bin/sh\n")
    return job


def look(job: JobFiles, monkeypatch: pytest.MonkeyPatch, queue: Queue, looks: int = 1) -> JobTable:
    """A table that has looked at the queue."""
    monkeypatch.setattr(job_table, "_tables", {})
    monkeypatch.setattr(JobTable, "refresh_soon", lambda self: None)
    times = iter(range(0, 1000, 2))
    table = keep_table(job.root, JobTable(job.root, queue, settle, *2 * (lambda: float(next(times)),)))
    for _ in range(looks):
        table.refresh(is_due=False)
    return table


def test_a_run_in_the_queue_is_listed_by_every_slot_with_its_reason(job: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    look(job, monkeypatch, Queue("PENDING"))
    for name in SLOTS:
        (row,) = slot_facts(slot_dir(job.root, name))
        assert (row["run_id"], row["nodes"], row["is_alive"]) == (RUN, list(SLOTS), True)
        assert row["queue"] == {"state": "queued", "reason": "Priority", "job_id": 7}
    assert slot_facts(prepare_slot(job.root, "hpc-other-1")) == []
    assert asked_plan(job.run_of(SLOTS[0])) == REQUEST["plan"]


def test_a_silent_controller_delays_no_list_and_a_run_in_its_queue_stays_queued(
    job: JobFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Silent(Queue):
        def queue(self) -> list[QueuedJob]:
            released.wait()
            raise NodeUnreachable("Slurm: squeue does not answer")

    monkeypatch.setattr("paceline.engine.agent.rpc.slurm_jobs.LISTING_LOOK_S", 0.0)
    monkeypatch.setattr(job_table, "_tables", {})
    monkeypatch.setattr(JobTable, "refresh_soon", lambda self: None)
    keep_table(job.root, JobTable(job.root, Silent("PENDING"), settle))
    try:
        (row,) = slot_facts(slot_dir(job.root, SLOTS[0]))
        assert row["queue"] == {"state": "queued", "reason": "Slurm does not answer", "job_id": None}
    finally:
        released.set()


def test_a_job_that_is_over_ends_every_slot_with_its_reason_and_forgets_the_keys(
    job: JobFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job.directory / "slurm.out").write_text("python3: not found\nsrun: error: task 0\n")
    look(job, monkeypatch, Queue("", {"JobState": "FAILED", "ExitCode": "1:0"}), looks=5)
    for name in SLOTS:
        ended = read_json(job.run_of(name) / "exit.json") or {}
        assert ended["state"] == "failed"
        assert "script failed (status 1:0)" in ended["reason"]
        assert "python3: not found" in ended["reason"]
        assert run_facts(job.run_of(name))["nodes"] == list(SLOTS)
    assert job.ended.exists()
    assert not job.request.exists()


def test_a_job_that_slurm_has_forgotten_runs_on_as_long_as_it_writes(job: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    events = job.run_of(SLOTS[1]) / "events.jsonl"
    events.parent.mkdir()
    events.write_text("{}\n")
    os.utime(events, (900.0, 900.0))
    table = look(job, monkeypatch, Queue(""), looks=5)
    assert table.view(RUN).state == "running"
    os.utime(events, (-200.0, -200.0))
    for _ in range(5):
        table.refresh(is_due=False)
    assert (read_json(job.run_of(SLOTS[0]) / "exit.json") or {})["reason"].startswith(
        "Slurm: it ended, and Slurm has forgotten how"
    )


@pytest.mark.parametrize(
    ("is_cancelled", "state", "end"),
    [(True, "CANCELLED", "cancelled"), (False, "CANCELLED", "cancelled"), (False, "TIMEOUT", "failed"), (False, "", "failed")],
)
def test_the_state_that_slurm_names_is_that_of_slots_that_said_nothing(
    job: JobFiles, is_cancelled: bool, state: str, end: str
) -> None:
    if is_cancelled:
        job.cancelled.touch()
    run = prepare_slot(job.root, SLOTS[0]).runs / RUN
    run.mkdir()
    write_json(run / "exit.json", {"state": "done"})
    settle(job, JobView("over", "Slurm: so it ended", 7, state))
    assert (read_json(run / "exit.json") or {})["state"] == "done"
    assert (read_json(job.run_of(SLOTS[1]) / "exit.json") or {})["state"] == end


def test_a_slot_is_alive_as_long_as_its_job_may_write_whatever_machine_it_is_on(job: JobFiles) -> None:
    run = job.run_of(SLOTS[0])
    run.mkdir()
    write_json(run / "start.json", {"pid": 1 << 22, "boot_id": "of another machine", "start_time": 1, "wall_time": 5.0})
    assert runner_is_alive(run)
    write_json(run / "exit.json", {"state": "done"})
    assert not runner_is_alive(run)
    assert job_of(Path("/x/lab1/runs") / RUN) is None


def test_a_later_attempt_leaves_plan_and_start_as_they_were_copied(job: JobFiles) -> None:
    run = job.run_of(SLOTS[0])
    (run / "private").mkdir(parents=True)
    write_json(run / "plan.json", to_plain(PLAN))
    assert start_path(run) == run / "start.json"
    write_json(run / "start.json", {"pid": 5})
    assert start_path(run) == run / "private" / "start.json"
    later = replace(PLAN, resume=ResumeSpec(RUN, 1, 20, "f" * 64))
    assert read_run_plan(run) == PLAN
    write_json(attempt_plan_path(run), to_plain(later))
    assert read_run_plan(run) == later


def test_the_newest_sound_checkpoint_of_any_slot_is_packed_for_all(job: JobFiles) -> None:
    for name, step, is_sound in ((SLOTS[0], 20, True), (SLOTS[1], 40, True), (SLOTS[1], 60, False)):
        directory = job.run_of(name) / CHECKPOINT_DIR
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"step-{step:09d}.pt"
        file.write_bytes(b"x" * step)
        size, sha256 = digest_of_file(file)
        write_info(directory, CheckpointInfo(name=file.name, epoch=1, step=step, size=size, sha256=sha256, written=0.0))
        if not is_sound:
            file.write_bytes(b"torn")
    resume = newest_resume(job, PLAN)
    assert resume is not None
    assert resume.step == 40
    assert (job.run_of(SLOTS[0]).parents[1] / "data" / resume.digest / RESUME_FILE).read_bytes() == b"x" * 40
    places = {name: TaskPlace(f"10.0.0.{i}", "eth0", "python3", resume=None if i else resume) for i, name in enumerate(SLOTS)}
    plan = attempt_plan(PLAN, places)
    assert plan.resume == resume
    assert [node.address for node in plan.nodes] == ["10.0.0.0", "10.0.0.1"]


def test_tasks_meet_and_one_that_cannot_take_part_ends_the_others(tmp_path: Path) -> None:
    found: dict[str, Any] = {}

    def meet(name: str) -> None:
        found[name] = Meeting(tmp_path, SLOTS, name).exchange("port", len(name))

    threads = [threading.Thread(target=meet, args=(name,)) for name in SLOTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: {other: len(other) for other in SLOTS} for name in SLOTS}
    Meeting(tmp_path, SLOTS, SLOTS[0]).fail("no torch there")
    with pytest.raises(WorkFailed, match="no torch there"):
        Meeting(tmp_path, SLOTS, SLOTS[1]).exchange("place", 1)
    with pytest.raises(NodeUnreachable, match=SLOTS[1]):
        Meeting(tmp_path / "alone", SLOTS, SLOTS[0], patience=0.0).exchange("place", 1)


@pytest.mark.parametrize(
    ("fields", "starts", "expected"),
    [
        ({"Restarts": "1", "RunTime": "00:01:00", "TimeLimit": "00:10:00"}, 0, None),
        ({"Restarts": "0", "RunTime": "00:01:00", "TimeLimit": "00:10:00"}, 0, "cancelled"),
        ({"Restarts": "2", "RunTime": "1-00:00:01", "TimeLimit": "1-00:00:00"}, 2, "failed"),
        ({"Restarts": "0", "RunTime": "00:01:00", "TimeLimit": "UNLIMITED"}, 0, "cancelled"),
        ({}, 0, None),
    ],
)
def test_what_term_means_is_asked_of_slurm(fields: dict[str, str], starts: int, expected: str | None) -> None:
    end = fate(fields, starts)
    assert (end[0] if end else None) == expected


def test_a_slot_answers_about_files_and_never_for_a_machine(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path, "hpc")
    assert slot_state_dir(state_dir, {"ask": "kill"}) is state_dir
    assert slot_state_dir(state_dir, {"ask": "follow", "slot": "hpc-a-1"}).root == tmp_path / "nodes" / "hpc-a-1"
    for body in ({"ask": "kill", "slot": "hpc-a-1"}, {"ask": "follow", "slot": "../x"}, {"ask": "follow", "slot": ".x"}):
        with pytest.raises(UsageError):
            slot_state_dir(state_dir, body)
