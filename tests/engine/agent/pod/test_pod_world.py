"""The command line of the pods that ``export`` writes, run here as processes with the environment of pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.kubernetes.manifest import objects_of
from paceline.engine.kubernetes.pod_template import KEYS_PATH, PLAN_PATH, VOLUME_PATH, ClusterSettings
from paceline.engine.plan import Plan
from paceline.engine.specs import TrainSpec

from tests.support.clusters.pods import Pod, mount, pods_of
from tests.support.runs.training_lab import digit_arrays, make_plan
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def put_data(volume: Path, plan: Plan) -> None:
    data = volume / "data" / plan.data.digest
    data.mkdir(parents=True)
    for name, array in digit_arrays().items():
        np.save(data / f"{name}.npy", array)
    (data / "manifest.json").write_text("{}")


def start(volume: Path, plan: Plan, kind: str, place: Path) -> list[subprocess.Popen[str]]:
    """Every pod of the objects of a plan, as a process of its own."""
    certificates = make_certificates(plan.run_id, (node.name for node in plan.nodes))
    objects = objects_of(plan, TrainSpec(), certificates, ClusterSettings(), kind)
    paths = {VOLUME_PATH: volume, **mount(objects, place, PLAN_PATH, KEYS_PATH)}
    return [launch(pod, paths) for pod in pods_of(objects[-1])]


def launch(pod: Pod, paths: dict[str, Path]) -> subprocess.Popen[str]:
    words = [str(paths.get(word, word)) for word in pod.command]
    assert words[0] == "python3"
    environment = {**os.environ, **pod.environment, "POD_IP": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, *words[1:]], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def exits(volume: Path, plan: Plan) -> list[Any]:
    return [json.loads((volume / "nodes" / node.name / "runs" / plan.run_id / "exit.json").read_text()) for node in plan.nodes]


def test_unlike_pods_of_a_jobset_form_one_world_and_train(tmp_path: Path, pods: list[subprocess.Popen[str]]) -> None:
    plan = make_plan("digits-cnn", [[40.0], [14.0]], ["hybrid"], epochs=1, batch=64)
    volume = tmp_path / "volume"
    put_data(volume, plan)

    pods += start(volume, plan, "jobset", tmp_path / "mounts")
    output = [process.communicate(timeout=240)[0] for process in pods]

    assert [process.returncode for process in pods] == [0, 0], output
    assert [ended["state"] for ended in exits(volume, plan)] == ["done", "done"]
    ranks = [(volume / "nodes" / node / "runs" / plan.run_id / "ranks" / f"{rank}.jsonl") for rank, node in enumerate(("n0", "n1"))]
    assert all("EpochEnded" in path.read_text() for path in ranks)


def test_a_pod_without_its_data_ends_all_at_once_and_says_so(tmp_path: Path, pods: list[subprocess.Popen[str]]) -> None:
    plan = make_plan("digits-cnn", [[40.0], [14.0]], ["hybrid"], epochs=1, batch=64)

    pods += start(tmp_path / "volume", plan, "pytorchjob", tmp_path / "mounts")
    output = [process.communicate(timeout=120)[0] for process in pods]

    assert {process.returncode for process in pods} <= {1, 2}, output
    assert all("has no data 0123456789abcdef" in text for text in output)


def test_a_pod_that_is_terminated_cancels_the_run_everywhere(tmp_path: Path, pods: list[subprocess.Popen[str]]) -> None:
    plan = make_plan("digits-cnn", [[2.0], [2.0]], ["hybrid"], epochs=50, batch=64)
    volume = tmp_path / "volume"
    put_data(volume, plan)

    pods += start(volume, plan, "jobset", tmp_path / "mounts")
    log = volume / "nodes" / "n0" / "runs" / plan.run_id / "ranks" / "0.jsonl"
    until_sync(lambda: log.exists() and "StepsTaken" in log.read_text())
    pods[1].send_signal(signal.SIGTERM)
    output = [process.communicate(timeout=60)[0] for process in pods]

    assert [process.returncode for process in pods] == [1, 1], output
    assert [ended["state"] for ended in exits(volume, plan)] == ["cancelled", "cancelled"]
