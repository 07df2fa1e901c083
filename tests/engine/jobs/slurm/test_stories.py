"""Stories on a real Slurm with four unlike nodes: whatever happens to a job, its run ends in the right state and leaves no process.

Ranks are played where a story is about the job; the two that go on from a checkpoint and the search train for real.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from paceline.engine.events import CheckpointWritten, RankJoined, StepsTaken
from paceline.engine.wire import decode

from tests.support.runs.played_torchrun import python_that_plays
from tests.support.slurm import Cluster, SlurmLab, needs_slurm, slurm_cluster, slurm_lab
from tests.support.waiting import until_sync as until_at_once

T = TypeVar("T")
pytestmark = [pytest.mark.slow, needs_slurm]
LONG = ("--epochs", "600")
"""A run whose played ranks would take a minute."""


def until_sync(condition: Callable[[], T | None]) -> T:
    """Wait as ``until_sync`` does, with fewer looks: each may ask Slurm, or start the command."""
    return until_at_once(condition, lambda: time.sleep(0.3))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "c") as running:
        yield running


@pytest.fixture(scope="module")
def played(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    place = tmp_path_factory.mktemp("played")
    with slurm_lab(cluster, place / "l", str(python_that_plays(place))) as lab:
        yield lab


@pytest.fixture(scope="module")
def real(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    with slurm_lab(cluster, tmp_path_factory.mktemp("real") / "l", sys.executable) as lab:
        yield lab


def begin(lab: SlurmLab, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a run, and return its command and its id once the login node has accepted it."""
    before = lab.run_ids()
    process = lab.start(*words)
    until_sync(lambda: lab.run_ids() - before or process.poll() is not None)
    assert lab.run_ids() - before, lab.narration()[-500:]
    return process, next(iter(lab.run_ids() - before))


def begin_and_step(lab: SlurmLab, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a run, and return when its ranks have reported a step."""
    process, run_id = begin(lab, *words)
    until_sync(lambda: lab.has_stepped(run_id) or process.poll() is not None)
    assert process.poll() is None, lab.narration()[-2000:]
    return process, run_id


def end(lab: SlurmLab, process: subprocess.Popen[str], run_id: str) -> dict[str, Any]:
    """The row of a run whose command has ended. No process of it is left, and its secrets are gone."""
    process.communicate()
    row = lab.row(run_id)
    until_sync(lambda: not lab.orphans())
    until_sync(lambda: lab.row(run_id)["state"] and not (lab.directory / "shared/hpc/jobs" / run_id / "request.json").exists())
    return row


def job_of(lab: SlurmLab) -> str:
    """Number of the newest job of the cluster that is not over."""
    return until_sync(lambda: next(iter(lab.cluster.jobs("PENDING,RUNNING")[-1:]), None))


def test_a_run_on_four_unlike_machines_is_one_job_and_one_world(played: SlurmLab) -> None:
    process, run_id = begin(played, "train", "--epochs", "3")
    row = end(played, process, run_id)
    assert row["state"] == "done"
    assert process.returncode == 0
    assert row["nodes"] == ["hpc-rtx3060-1", "hpc-rtx3050-1", "hpc-gtx1650-1", "hpc-gtx1650-2"]
    plans = {path.read_text() for path in played.directory.glob(f"shared/hpc/nodes/*/runs/{run_id}/plan.json")}
    assert len(plans) == 1
    _, logs = played.run("logs", run_id)
    assert logs["lines"]
    assert {line["node"] for line in logs["lines"]} == set(row["nodes"])


def test_a_bench_of_two_policies_ends_done(played: SlurmLab) -> None:
    process, run_id = begin(played, "bench", "--policies", "equal,hybrid", "--epochs", "2", "--repeats", "1")
    assert end(played, process, run_id)["state"] == "done"


def test_a_run_waits_in_the_queue_with_its_reason_and_another_centre_attaches(played: SlurmLab) -> None:
    script = played.directory / "sleep.sh"
    script.write_text("#!/bin/sh\nsleep 300\n")
    blocker = played.cluster.ask("sbatch", "--parsable", "--output=/dev/null", "-N4", "--exclusive", str(script)).strip()
    process, run_id = begin(played, "train", "--epochs", "3")
    row = until_sync(lambda: row if (row := played.row(run_id)).get("state") == "queued" and row["reason"] else None)
    assert "Resources" in row["reason"] or "Priority" in row["reason"] or "Dependency" in row["reason"]
    process.send_signal(signal.SIGKILL)
    other = played.start("attach", run_id)
    until_sync(lambda: "queued" in played.narration())
    played.cluster.ask("scancel", blocker)
    assert end(played, other, run_id)["state"] == "done"


def test_a_run_in_the_queue_is_cancelled_and_was_never_started(played: SlurmLab) -> None:
    script = played.directory / "sleep.sh"
    script.write_text("#!/bin/sh\nsleep 300\n")
    blocker = played.cluster.ask("sbatch", "--parsable", "--output=/dev/null", "-N4", "--exclusive", str(script)).strip()
    process, run_id = begin(played, "train", *LONG)
    until_sync(lambda: played.row(run_id).get("state") == "queued")
    assert played.run("cancel", run_id)[0] == 0
    played.cluster.ask("scancel", blocker)
    row = end(played, process, run_id)
    assert (row["state"], row["reason"]) == ("cancelled", "cancelled by a person")


def test_a_running_run_is_cancelled_everywhere(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", *LONG)
    assert played.run("cancel", run_id)[0] == 0
    assert end(played, process, run_id)["state"] == "cancelled"


def test_scancel_by_hand_is_a_cancelled_run(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", *LONG)
    played.cluster.ask("scancel", job_of(played))
    row = end(played, process, run_id)
    assert row["state"] == "cancelled"
    assert "Slurm" in row["reason"]


def test_a_killed_centre_leaves_a_run_that_another_one_follows(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", "--epochs", "60")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert end(played, played.start("attach", run_id), run_id)["state"] == "done"


def test_a_requeued_job_goes_on_in_the_same_run(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", "--epochs", "80")
    job = job_of(played)
    played.cluster.ask("scontrol", "requeue", job)
    until_sync(lambda: played.row(run_id).get("state") == "queued")
    played.cluster.ask("scontrol", "update", f"jobid={job}", "StartTime=now")
    row = end(played, process, run_id)
    assert row["state"] == "done", row["reason"]
    assert "queued" in played.narration()


def test_a_machine_that_dies_ends_the_run_and_is_named(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", *LONG)
    played.cluster.cut_power("lab2")
    try:
        row = end(played, process, run_id)
        assert row["state"] == "failed"
        assert "hpc-rtx3050-1" in row["reason"], row["reason"]
    finally:
        played.cluster.start_machine("lab2")
        until_sync(lambda: played.cluster.ask("sinfo", "-h", "-p", "gpu", "-t", "idle", "-o", "%D").strip() == "4")


def test_a_controller_that_restarts_changes_nothing(played: SlurmLab) -> None:
    process, run_id = begin_and_step(played, "train", "--epochs", "400")
    played.cluster.stop_controller()
    try:
        assert played.row(run_id)["state"] == "running"
    finally:
        played.cluster.start_controller()
    assert end(played, process, run_id)["state"] == "done"


def test_a_run_that_reaches_its_time_limit_has_failed_and_says_so(played: SlurmLab) -> None:
    nodes = played.directory / "nodes.toml"
    text = nodes.read_text()
    nodes.write_text(text.replace('time_limit = "00:10:00"', 'time_limit = "00:01:00"'))
    try:
        process, run_id = begin(played, "train", "--epochs", "9000")
    finally:
        nodes.write_text(text)
    row = end(played, process, run_id)
    assert row["state"] == "failed"
    assert "time limit" in row["reason"], row["reason"]


def test_what_slurm_refuses_is_named_with_what_to_do(played: SlurmLab) -> None:
    nodes = played.directory / "nodes.toml"
    text = nodes.read_text()
    try:
        for old, new, status, words in (
            ('partitions = ["gpu"]', 'partitions = ["nope"]', 2, ("no such partition", "set partitions")),
            ('constraint = "rtx3060", ', 'constraint = "h100", ', 2, ("no machine has such features", "set constraint")),
            ('gtx1650", speed', 'rtx3050", speed', 5, ("no machines of this cluster fit",)),
        ):
            nodes.write_text(text.replace(old, new))
            accepted = played.run_ids()
            assert played.run("train", "--epochs", "1")[0] == status, played.narration()[-500:]
            assert all(word in played.narration() for word in words), played.narration()[-500:]
            assert played.run_ids() == accepted
    finally:
        nodes.write_text(text)


def test_a_requeued_training_goes_on_from_its_newest_checkpoint(real: SlurmLab) -> None:
    process, run_id = begin(real, "train", "--epochs", "30", "--checkpoint-every", "2 steps")
    runs = real.directory / "shared/hpc/nodes"
    until_sync(lambda: any(runs.glob(f"*/runs/{run_id}/checkpoints/*.json")) or process.poll() is not None)
    job = job_of(real)
    real.cluster.ask("scontrol", "requeue", job)
    until_sync(lambda: real.row(run_id).get("state") == "queued")
    real.cluster.ask("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert end(real, process, run_id)["state"] == "done"
    lines = (runs / "hpc-rtx3060-1/runs" / run_id / "ranks/0.jsonl").read_text().splitlines()
    events = [event for line in lines if (event := decode(line)) is not None]
    second = [number for number, event in enumerate(events) if isinstance(event, RankJoined)][1]
    saved = [event.step for event in events[:second] if isinstance(event, CheckpointWritten) and not event.error]
    first = next(event for event in events[second:] if isinstance(event, StepsTaken))
    assert first.step - first.steps + 1 >= saved[0] >= 2  # on from a checkpoint, not from the beginning


def test_a_search_shares_its_trials_out_among_the_machines(real: SlurmLab) -> None:
    status, document = real.run("search", "--grid", "lr=0.1,0.01", "--epochs", "1")
    assert status == 0, real.narration()[-800:]
    assert len(document["trials"]) == 2
    assert not real.orphans()
