"""Jobs on a real Slurm, seen from their login node: two unlike machines, played ranks, no control centre.

Whatever happens to a job, every slot of it says how it ended, its secrets are gone, and none of its processes is left.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from paceline.engine.agent.slurm.commands import Slurm
from paceline.engine.agent.slurm.job_files import JobFiles, prepare_slot
from paceline.engine.agent.slurm.job_table import JobTable
from paceline.engine.agent.slurm.settle import settle
from paceline.engine.agent.slurm.submitting import accept, submit_once
from paceline.engine.agent.slurm.watching import ClusterSampler
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.agent.telemetry.sampler import Sampler
from paceline.engine.errors import PacelineError
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.slurm.script import JobPlaces, batch_script
from paceline.engine.specs import SlotSpec
from paceline.engine.ssh.bundle import bundle
from paceline.engine.wire import to_plain

from tests.support.runs.played_torchrun import python_that_plays
from tests.support.slurm import NODES, Cluster, SlurmLab, needs_slurm, slurm_cluster
from tests.support.waiting import until_sync as until_at_once

T = TypeVar("T")
pytestmark = [pytest.mark.slow, needs_slurm]
SLOTS = {"hpc-a-1": "rtx3060", "hpc-b-1": "gtx1650"}
LONG = 6000
"""Epochs of a tenth of a second."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "c") as running:
        yield running


def until_sync(condition: Callable[[], T | None]) -> T:
    """Wait as ``until_sync`` does, with fewer looks: each may ask Slurm."""
    return until_at_once(condition, lambda: time.sleep(0.3))


class LoginNode:
    """The state directory of a login node, and what its agent knows."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.root, self.cluster, self.slurm = root, cluster, Slurm()
        self.table = JobTable(root, self.slurm, settle)
        self._numbers = itertools.count()
        (root / "bundles").mkdir(parents=True)
        (root / "bundles" / bundle().name).write_bytes(bundle().data)
        self._python = str(python_that_plays(root))
        for slot in SLOTS:
            prepare_slot(root, slot)

    def accept(self, epochs: int, **options: Any) -> JobFiles:
        """Accept a run of so many epochs, without submitting it. ``options``: of both slots."""
        job = JobFiles(self.root, f"20261130-1200-{next(self._numbers):06d}")
        nodes = tuple(NodePlan(name, rank, (rank,), "", "", self._python) for rank, name in enumerate(SLOTS))
        ranks = tuple(RankPlan(rank, name, rank, 0, 0, "emulated", "A") for rank, name in enumerate(SLOTS))
        data = DataPlan("0" * 64, "made up", 1, "0" * 64)
        plan = Plan(job.run_id, "digits-cnn", (CasePlan("equal", "equal"),), nodes, ranks, data, epochs, 8)
        slots = [SlotSpec("hpc", **{"partition": "gpu", "constraint": kind, **options}) for kind in SLOTS.values()]
        places = JobPlaces(str(job.directory), str(self.root), self._python, str(self.root / "bundles" / bundle().name))
        request = {"spec": {"workload": "digits-cnn"}, "plan": to_plain(plan), "env": {}, "holder": "test"}
        request["certificates"] = make_certificates(job.run_id, SLOTS)
        accept(job, request, batch_script(job.run_id, slots, places))
        return job

    def begin(self, epochs: int, **options: Any) -> tuple[JobFiles, str]:
        """Submit a run, and return it with the number of its job when a rank has reported a step."""
        job = self.accept(epochs, **options)
        number = submit_once(job, self.slurm)
        until_sync(lambda: self.has_stepped(job))
        return job, str(number)

    def has_stepped(self, job: JobFiles) -> bool:
        paths = self.root.glob(f"nodes/*/runs/{job.run_id}/ranks/*.jsonl")
        return any("StepsTaken" in path.read_text() for path in paths)

    def state(self, job: JobFiles) -> str:
        self.table.refresh(is_due=False)
        return self.table.view(job.run_id).state

    def ends(self, job: JobFiles) -> dict[str, tuple[str, str]]:
        """State and reason of every slot, once the job has ended on paper and in fact."""

        def has_ended() -> bool:
            self.table.refresh(is_due=False)
            return job.ended.exists()

        until_sync(has_ended)
        until_sync(lambda: not SlurmLab(self.root, self.cluster).orphans())
        assert not job.request.exists()
        ended = {slot: json.loads((job.run_of(slot) / "exit.json").read_text()) for slot in SLOTS}
        return {slot: (one["state"], one["reason"]) for slot, one in ended.items()}


@pytest.fixture(scope="module")
def login(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginNode]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.configuration))
        yield LoginNode(tmp_path_factory.mktemp("login") / "r", cluster)


def states(ends: dict[str, tuple[str, str]]) -> set[str]:
    return {state for state, _ in ends.values()}


def test_a_requeued_job_goes_on_in_its_run_directories(login: LoginNode) -> None:
    job, number = login.begin(100)
    before = {slot: (job.run_of(slot) / "plan.json").read_bytes() for slot in SLOTS}
    login.cluster.ask("scontrol", "requeue", number)
    until_sync(lambda: login.state(job) == "queued")
    assert not any((job.run_of(slot) / "exit.json").exists() for slot in SLOTS)
    login.cluster.ask("scontrol", "update", f"jobid={number}", "StartTime=now")
    assert login.ends(job) == dict.fromkeys(SLOTS, ("done", ""))
    assert {slot: (job.run_of(slot) / "plan.json").read_bytes() for slot in SLOTS} == before
    assert (job.run_of("hpc-a-1") / "ranks/0.jsonl").read_text().count("RankJoined") == 2


def test_scancel_by_hand_is_a_cancelled_run(login: LoginNode) -> None:
    job, number = login.begin(LONG)
    login.cluster.ask("scancel", number)
    ends = login.ends(job)
    assert states(ends) == {"cancelled"}
    assert all("Slurm" in reason for _, reason in ends.values())


def test_a_person_s_cancel_is_that_of_a_person(login: LoginNode) -> None:
    job, number = login.begin(LONG)
    job.cancelled.touch()
    login.slurm.cancel(int(number))
    assert login.ends(job) == dict.fromkeys(SLOTS, ("cancelled", "cancelled by a person"))


def test_the_time_limit_is_a_failure_that_says_so(login: LoginNode) -> None:
    job, _ = login.begin(LONG, time_limit="00:01:00")
    ends = login.ends(job)
    assert states(ends) == {"failed"}
    assert all("its time limit was reached" in reason for _, reason in ends.values()), ends


def test_a_controller_that_is_away_changes_nothing(login: LoginNode) -> None:
    job, _ = login.begin(150)
    assert login.state(job) == "running"
    login.cluster.stop_controller()
    assert login.state(job) == "running"
    login.cluster.start_controller()
    assert login.ends(job) == dict.fromkeys(SLOTS, ("done", ""))


def test_a_machine_that_dies_is_named_by_the_others(login: LoginNode) -> None:
    job, _ = login.begin(LONG)
    login.cluster.cut_power("lab1")
    try:
        ends = login.ends(job)
        assert states(ends) == {"failed"}
        assert "hpc-a-1 is gone" in ends["hpc-b-1"][1]
    finally:
        login.cluster.start_machine("lab1")
        until_sync(lambda: login.cluster.ask("sinfo", "-h", "-p", "gpu", "-t", "idle", "-o", "%D").strip() == str(len(NODES)))


def test_a_job_whose_number_was_lost_is_found_by_its_name_and_a_second_one_does_nothing(login: LoginNode) -> None:
    job = login.accept(30)
    first = submit_once(job, login.slurm)
    second = login.slurm.submit(job.script)
    job.submitted.unlink()
    assert submit_once(job, login.slurm) in (first, second)
    assert login.ends(job) == dict.fromkeys(SLOTS, ("done", ""))
    until_sync(lambda: login.cluster.jobs("PENDING,RUNNING,COMPLETING") == [])
    assert (job.run_of("hpc-a-1") / "ranks/0.jsonl").read_text().count("RankJoined") == 1


def test_a_job_without_its_python_says_what_its_machine_said(login: LoginNode) -> None:
    job = login.accept(1)
    job.script.write_text(job.script.read_text().replace("/python -m", "/no-such-python -m"))
    submit_once(job, login.slurm)
    ends = login.ends(job)
    assert states(ends) == {"failed"}
    assert all("no-such-python" in reason for _, reason in ends.values()), ends


def test_a_job_waits_with_a_reason_and_is_taken_out_of_the_queue(login: LoginNode) -> None:
    blocker = login.root / "sleep.sh"
    blocker.write_text("#!/bin/sh\nsleep 300\n")
    other = login.cluster.ask("sbatch", "--parsable", "--output=/dev/null", "-N4", "--exclusive", str(blocker)).strip()
    until_sync(lambda: other in login.cluster.jobs("RUNNING"))
    job = login.accept(LONG)
    submit_once(job, login.slurm)
    assert login.state(job) == "queued"
    job.cancelled.touch()
    until_sync(lambda: login.state(job) != "queued")
    login.cluster.ask("scancel", other)
    assert states(login.ends(job)) == {"cancelled"}
    assert not any((job.run_of(slot) / "start.json").exists() for slot in SLOTS)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"partition": "nope"}, 2, "set partitions"),
        ({"constraint": "h100"}, 2, "set constraint"),
        ({"gres": "gpu:h100:1"}, 5, "no machines"),
        ({"gres": "gpu:9"}, 5, "no machines"),
    ],
)
def test_what_slurm_refuses_is_named_with_what_to_do(login: LoginNode, options: dict[str, str], status: int, words: str) -> None:
    job = login.accept(1, **options)
    with pytest.raises(PacelineError) as caught:
        submit_once(job, login.slurm)
    assert caught.value.exit_status == status, caught.value
    assert words in str(caught.value)
    assert not job.directory.exists()


def test_the_cluster_is_seen_by_class_with_its_queue(login: LoginNode) -> None:
    report = ClusterSampler(Sampler(StateDir(login.root, "hpc")), login.slurm, ("gpu",)).read()
    assert {device.name.partition(" ")[0] for device in report.devices} == set(NODES.values())
    assert all("machines free" in device.name for device in report.devices)
    assert {device.kind for device in report.devices} == {"slurm"}
