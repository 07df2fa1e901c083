"""The whole thing: real loopback SSH, real torchrun with two ranks, the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.agent.runs import device_lock
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.plan import RankPlan

from tests.support.installed import needs
from tests.support.listeners import DoorWatch, lets_in, listening_ports
from tests.support.runs.labs import LabDirectory
from tests.support.screens.documents import documented, paths

pytestmark = needs("torch", "sklearn")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabDirectory]:
    lab = LabDirectory(tmp_path, {"fast": 60.0, "slow": 20.0})
    yield lab
    lab.end_runs()


@pytest.fixture(params=["played", pytest.param("real", marks=pytest.mark.slow)])
def playing(lab: LabDirectory, request: pytest.FixtureRequest) -> LabDirectory:
    """For what the centre and the runners do, whatever torchrun and its ranks compute: those are played, in ``make soak`` real."""
    if request.param == "played":
        lab.play_torchrun()
    return lab


def test_a_job_over_two_nodes_ends_with_its_result_and_byte_exact_copies(lab: LabDirectory) -> None:
    recording = lab.path / "session.jsonl"
    status, document = lab.run("--record", str(recording), "train", "--epochs", "2", "--policy", "proportional")
    assert status == 0, lab.narration()
    assert document["state"] == "done"
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2]
    assert document["epochs"][-1]["loss"] < document["epochs"][0]["loss"] * 1.5
    assert [device["name"] for device in document["devices"]] == ["fast", "slow"]
    run_id = document["run_id"]
    for node in ("n0", "n1"):
        origin, copy = lab.node(node) / "runs" / run_id, lab.path / "logs" / "runs" / run_id / "nodes" / node
        left_out = (origin / "lease.json", *origin.glob("checkpoints/*"))  # a newest checkpoint is fetched by itself
        files = {path.relative_to(origin) for path in origin.rglob("*") if path.is_file() and path not in left_out}
        assert {Path("exit.json"), Path("events.jsonl"), Path("out.log"), Path("plan.json")} < files
        assert {name: (origin / name).read_bytes() for name in files} == {name: (copy / name).read_bytes() for name in files}
    assert lab.marked(run_id) == []
    assert lab.run("replay", str(recording))[1]["run_id"] == run_id


@pytest.mark.slow  # test_soak_node.py kills a centre and finds its run
def test_a_run_left_going_is_found_and_cancelled_by_a_new_process(lab: LabDirectory) -> None:
    first = lab.start("train", "--epochs", "1000")
    doors = DoorWatch(lab)
    doors.until("epoch 1/1000", first)
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 130
    run_id = lab.run_id()
    # While it starts: a TLS port of each runner, gloo's one of each rank, on the training address; none of torchrun or the store.
    assert {address for address, _ in doors.seen} == {"127.0.0.1"}
    assert len(doors.seen) <= 4
    # While it trains: gloo's alone, which let nobody in.
    assert [listening_ports(runner) for runner in doors.runners(run_id)] == [set(), set()]
    lines = [line for node in (0, 1) for line in (lab.node(f"n{node}") / "runs" / run_id / f"ranks/{node}.jsonl").open()]
    assert set(doors.of_ranks) == {json.loads(line)["pid"] for line in lines if '"RankJoined"' in line}
    assert [lets_in(place) for (place,) in doors.of_ranks.values()] == [False, False]
    assert f"run {run_id} goes on" in lab.narration()
    assert len(lab.marked(run_id)) >= 4
    status, document = lab.run("jobs")
    assert paths(document) - {"silent"} == documented("jobs") - {"silent[].name", "silent[].reason"}
    assert document["silent"] == []
    (row,) = document["runs"]
    assert (status, row["run_id"], row["state"], row["nodes"]) == (0, run_id, "running", ["n0", "n1"])
    assert row["workload"] == "digits-cnn"
    assert row["step"] >= 0
    (seen_from_one,) = lab.run("--only", "n0", "jobs")[1]["runs"]
    assert seen_from_one["state"] == "unreachable"
    assert lab.marked(run_id) != []
    status, document = lab.run("cancel", run_id)
    assert (status, document["state"], document["survivors"]) == (0, "cancelled", [])
    assert paths(document) - {"survivors"} <= documented("cancel")
    assert lab.marked(run_id) == []
    assert lab.runner("n0", run_id) is None
    assert lab.runner("n1", run_id) is None
    assert (lab.path / "logs" / "runs" / run_id / "result.json").exists()
    assert lab.run("cancel", "20200101-0000-nobody")[0] == 2


def test_a_killed_rank_ends_the_run_and_is_named(lab: LabDirectory) -> None:
    process = lab.start("train", "--epochs", "1000")
    lab.wait_for("epoch 1/1000", process)
    run_id = lab.run_id()
    lines = (lab.node("n1") / "runs" / run_id / "ranks" / "1.jsonl").read_text().splitlines()
    pid = next(int(line.split('"pid":')[1].split(",")[0].rstrip("}")) for line in lines if '"RankJoined"' in line)
    os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 1
    assert f"run {run_id} failed: rank 1 on n1 (slow): killed by SIGKILL" in lab.narration()
    assert lab.marked(run_id) == []


@pytest.mark.slow
def test_everything_of_one_node_killed_at_once_ends_the_run_and_names_the_rank(playing: LabDirectory) -> None:
    process = playing.start("train", "--epochs", "1000")
    playing.wait_for("epoch 1/1000", process)
    run_id = playing.run_id()
    playing.kill_everything_of("n1", run_id)
    process.communicate()
    assert process.returncode == 1
    assert f"run {run_id} failed: rank 1 on n1 is gone" in playing.narration()
    assert playing.marked(run_id) == []
    assert playing.runner("n0", run_id) is None


def test_a_second_interrupt_cancels_and_waits_until_nothing_is_left(playing: LabDirectory) -> None:
    process = playing.start("train", "--epochs", "1000")
    playing.wait_for("epoch 1/1000", process)
    run_id = playing.run_id()
    process.send_signal(signal.SIGINT)
    playing.wait_for("again within 10 s stops it", process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert playing.marked(run_id) == []
    assert f"run {run_id} was cancelled, no process is left" in playing.narration()


def test_an_interrupt_before_anything_was_started_leaves_nothing(lab: LabDirectory) -> None:
    process = lab.start("train")
    lab.wait_for("preparing the data", process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert "nothing was started" in lab.narration()
    assert not list(lab.path.glob("logs/nodes/*/runs/*"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "full"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system to be had: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_no_space_for_the_run_directory_at_the_centre_starts_nothing(lab: LabDirectory, full_disk: Path) -> None:
    (full_disk / "filler").write_bytes(b"x" * 60000)
    (lab.path / "logs").mkdir()
    (lab.path / "logs" / "runs").symlink_to(full_disk)
    status, _ = lab.run("train")
    last = lab.narration().splitlines()[-1]
    assert (status, "No space left on device" in last, str(lab.path) in last) == (1, True, True)
    assert not list(lab.path.glob("logs/nodes/*/runs/*"))


@pytest.mark.slow
def test_no_space_for_the_run_directory_on_one_node_starts_nothing_on_any(lab: LabDirectory, full_disk: Path) -> None:
    lab.run("status")
    runs = lab.node("n1") / "runs"
    runs.rmdir()
    runs.symlink_to(full_disk)
    (full_disk / "filler").write_bytes(b"x" * 65536)
    status, _ = lab.run("train")
    last = lab.narration().splitlines()[-1]
    assert (status, last.startswith("paceline: n1: cannot write")) == (1, True), last
    assert "No space left on device" in last
    assert not any(path.is_dir() for path in (lab.path / "logs" / "runs").iterdir())
    for withdrawn in (lab.node("n0") / "runs").iterdir():
        assert lab.marked(withdrawn.name) == []
    assert not list(full_disk.glob("2*"))


def test_one_interrupt_ends_a_bench_on_the_embedded_lab(playing: LabDirectory) -> None:
    process = playing.start("bench", "--epochs", "1000", "--policies", "equal")
    playing.wait_for("starting torchrun", process)
    run_id = playing.run_id()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert playing.marked(run_id) == []
    assert all(not pids_of_run(run_id, root) for root in (playing.path / "logs" / "nodes").iterdir())


def test_nothing_is_started_on_a_node_that_may_only_be_read(lab: LabDirectory) -> None:
    nodes = lab.path / "nodes.toml"
    nodes.write_text(nodes.read_text().replace('kind = "embedded"', 'kind = "embedded"\nread_only = true'))
    status, _ = lab.run("train")
    assert (status, "no device can take part" in lab.narration()) == (5, True)
    assert not list(lab.path.glob("logs/nodes/*/runs/*"))


@pytest.mark.slow
def test_a_device_in_use_is_refused_with_its_owner_or_shared_or_waited_for(playing: LabDirectory) -> None:
    playing.run("status")
    other = device_lock.acquire(playing.node("n0"), [RankPlan(0, "n0", 0, 0, 0, "emulated", "fast")], "another", is_shared=False)
    status, _ = playing.run("train")
    (refusal,) = [line for line in playing.narration().splitlines() if line.startswith("paceline: ")]
    assert (status, "n0 / fast is in use by run another" in refusal, "--wait" in refusal) == (5, True, True), refusal
    sharing = playing.start("train", "--epochs", "1000", "--share")
    playing.wait_for("starting torchrun", sharing)
    other.release()
    run_id = playing.run_id()
    waiting = playing.start("train", "--epochs", "1", "--wait")
    playing.wait_for(f"n1 / slow is in use by run {run_id}", waiting)
    assert playing.run("cancel", run_id)[0] == 0
    out, _ = waiting.communicate()
    assert waiting.returncode == 0, playing.narration()
    assert json.loads(out)["state"] == "done"
    assert sharing.wait() == 1
