"""A run on a cluster whose API server fails in twenty ways: right final state, nothing submitted twice, nothing left by cancel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paceline.engine.errors import ConfigurationError, NodeRefused, PacelineError, PlanImpossible, UsageError, WorkFailed
from paceline.engine.events import Event, RunEnded, RunQueued
from paceline.engine.jobs.kubernetes import follow
from paceline.engine.jobs.kubernetes.client import ClusterApi, open_client
from paceline.engine.jobs.kubernetes.run import Cluster, ClusterAccess
from paceline.engine.kubernetes.names import RUN_LABEL
from paceline.engine.kubernetes.pod_template import ClusterSettings
from paceline.engine.plan import Plan
from paceline.engine.specs import TrainSpec
from paceline.engine.wire import to_plain

from tests.support.clusters.fake_api import FakeApi
from tests.support.runs.training_lab import digit_arrays, make_plan

pytestmark = pytest.mark.slow
pytest.importorskip("kubernetes", reason="pip install 'paceline[kubernetes]' brings the client")
DIGEST = "0123456789abcdef"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(follow, "VOLUME_POLL_S", 0.1)
    fake = FakeApi(tmp_path / "cluster")
    fake.objects["/api/v1/namespaces/paceline"] = {"kind": "Namespace", "metadata": {"name": "paceline"}}
    yield fake
    fake.close()


class Centre:
    """A control centre with one cluster."""

    def __init__(self, fake: FakeApi, place: Path, patience: float = 60.0) -> None:
        self.events: list[Event] = []
        client = open_client("k8s", str(fake.kubeconfig()), None)
        self.api = ClusterApi(client, "k8s", "paceline", patience=patience, pause=lambda seconds: _pause(min(seconds, 0.05)))
        access = ClusterAccess("k8s", ClusterSettings())
        self.cluster = Cluster(access, place / "runs", self.events.append, api=self.api)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def _pause(seconds: float) -> None:
    import time

    time.sleep(seconds)


def job(place: Path, epochs: int = 1) -> tuple[TrainSpec, Plan, dict[str, Path]]:
    plan = make_plan("digits-cnn", [[40.0], [14.0]], ["hybrid"], epochs=epochs, batch=64)
    source = place / "data"
    source.mkdir()
    for name, array in digit_arrays().items():
        np.save(source / f"{name}.npy", array)
    (source / "manifest.json").write_text("{}")
    return TrainSpec(), plan, {DIGEST: source}


def play_node(volume: Path, plan: Plan, node: str, state: str = "done") -> None:
    """What a pod writes to the volume."""
    run = volume / "nodes" / node / "runs" / "r1"
    (run / "ranks").mkdir(parents=True)
    rank = node[1:]
    (run / "plan.json").write_text(json.dumps(to_plain(plan)))
    (run / "events.jsonl").write_text('{"kind": "LaunchStarted", "pid": 7}\n')
    (run / "ranks" / f"{rank}.jsonl").write_text('{"kind": "RankJoined"}\n')
    (run / "exit.json").write_text(json.dumps({"kind": "RunnerEnded", "state": state}))


@dataclass(frozen=True)
class Case:
    """One kind of fault, and when it strikes."""

    name: str
    strike: Callable[[FakeApi], object]


def fault(name: str, method: str, pattern: str, **how: Any) -> Case:
    return Case(name, lambda fake: fake.fail(method, pattern, **how))


CASES = (
    Case("none", lambda fake: None),
    fault("429 with Retry-After on create", "POST", "/trainjobs|/jobsets", status=429, headers={"Retry-After": "1"}, count=2),
    fault("429 without Retry-After on list", "GET", "/pods\\?", status=429, count=3),
    fault("500 on create", "POST", "/configmaps", status=500, count=3),
    fault("502 on get", "GET", "/jobsets/", status=502, count=3),
    fault("503 on watch", "GET", "watch=1", status=503, headers={"Retry-After": "0"}, count=2),
    fault("504 on the secret", "POST", "/secrets", status=504, count=2),
    fault("created, and the answer cut off", "POST", "/jobsets|/trainjobs", kind="cut"),
    fault("created, and no answer", "POST", "/jobsets|/trainjobs", kind="late"),
    fault("config map created, and no answer", "POST", "/configmaps", kind="late"),
    fault("no answer to create", "POST", "/jobsets|/trainjobs", kind="close", count=2),
    fault("list cut off", "GET", "/pods\\?labelSelector", kind="cut", count=2),
    fault("watch cut in a line", "GET", "watch=1", kind="cut", count=3),
    fault("watch in small pieces", "GET", "watch=1", kind="drip", count=9),
    fault("slow body of get", "GET", "/jobsets/", kind="drip", count=5),
    Case("410 in the middle of a watch", lambda fake: fake.forget()),
    fault("410 at the start of a watch", "GET", "watch=1", status=410, count=2),
    fault("command in a pod closed", "GET", "/exec", kind="close"),
    fault("command in a pod refused by 500", "GET", "/exec", status=500),
    fault("408 on delete", "DELETE", "/jobsets|/secrets", status=408, count=2),
    fault("409 on delete", "DELETE", "/configmaps", status=409, count=2),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_run_ends_right_and_once_whatever_the_api_server_does(api: FakeApi, tmp_path: Path, case: Case) -> None:
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)
    case.strike(api)

    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 100))
    await until(lambda: running.done() or "paceline-r1" in (*api.names("jobsets"), *api.names("trainjobs")))
    labels = {RUN_LABEL: "r1"}
    for number in range(2):
        api.set_pod(f"p{number}", {"phase": "Running"}, labels)
    if case.name.startswith("410 in"):
        api.forget()
    for node in ("n0", "n1"):
        play_node(api.volume, plan, node)
    for number in range(2):
        api.set_pod(f"p{number}", {"phase": "Succeeded"}, labels)
    api.set_job("Completed")
    document = await asyncio.wait_for(running, 60)

    assert document["state"] == "done"
    assert [event.state for event in centre.of(RunEnded)] == ["done"]
    jobs = [path for path in api.created if path.split("/")[-2] in ("jobsets", "trainjobs")]
    assert len(jobs) == 1
    assert len(set(api.created)) == len(api.created)


def left_of_run(fake: FakeApi) -> list[str]:
    """Objects that carry the label of a run."""
    return [path for path, one in fake.objects.items() if RUN_LABEL in (one["metadata"].get("labels") or {})]


async def test_a_real_world_of_pods_trains_and_its_files_come_back(api: FakeApi, tmp_path: Path) -> None:
    api.is_running = True
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)

    document = await asyncio.wait_for(centre.cluster.launch(spec, plan, sources, 1437), 240)

    assert document["state"] == "done"
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1]
    assert left_of_run(api) == []
    (row,) = await centre.cluster.rows()
    assert (row["run_id"], row["state"], row["nodes"]) == ("r1", "done", ["n0", "n1"])


async def test_cancel_ends_the_pods_and_leaves_nothing(api: FakeApi, tmp_path: Path) -> None:
    api.is_running = True
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path, epochs=500)
    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 1437))
    log = api.volume / "nodes" / "n0" / "runs" / "r1" / "ranks" / "0.jsonl"
    await until(lambda: running.done() or (log.exists() and "StepsTaken" in log.read_text()))

    document = await Centre(api, tmp_path / "other").cluster.cancel("r1")

    assert document["state"] == "cancelled"
    assert left_of_run(api) == []
    assert (await asyncio.wait_for(running, 60))["state"] == "cancelled"


async def test_a_pod_that_ends_without_a_word_fails_the_run_with_its_reason(api: FakeApi, tmp_path: Path) -> None:
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)
    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 100))
    await until(lambda: running.done() or api.names("jobsets") or api.names("trainjobs"))
    play_node(api.volume, plan, "n0")
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    api.set_pod("p0", {"phase": "Succeeded"}, {RUN_LABEL: "r1"})
    api.set_pod("p1", {"phase": "Failed", "containerStatuses": [{"name": "ranks", "state": killed}]}, {RUN_LABEL: "r1"})
    api.set_job("Failed", "a pod failed")

    document = await asyncio.wait_for(running, 60)

    assert document["state"] == "failed"
    assert "pod p1: OOMKilled" in document["reason"]


async def test_a_run_that_waits_for_machines_is_queued_with_the_reason(api: FakeApi, tmp_path: Path) -> None:
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)
    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 100))
    await until(lambda: running.done() or api.names("jobsets") or api.names("trainjobs"))
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
    api.set_pod("p0", {"phase": "Pending", "conditions": [scheduled]}, {RUN_LABEL: "r1"})

    await until(lambda: any("0/3 nodes have a GPU" in event.reason for event in centre.of(RunQueued)))
    await centre.cluster.cancel("r1")

    assert (await asyncio.wait_for(running, 60))["state"] == "cancelled"


async def test_an_image_that_is_missing_ends_the_launch_and_leaves_nothing(api: FakeApi, tmp_path: Path) -> None:
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)
    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 100))
    await until(lambda: running.done() or api.names("jobsets") or api.names("trainjobs"))
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "ranks", "image": "paceline:cpu", "state": waiting}]}
    api.set_pod("p0", status, {RUN_LABEL: "r1"})

    with pytest.raises(WorkFailed, match="cannot get its image paceline:cpu: not found") as refused:
        await asyncio.wait_for(running, 60)

    assert "--image" in str(refused.value)
    assert left_of_run(api) == []


REFUSALS = (
    (("POST", "/trainjobs|/jobsets"), {"status": 403, "message": "User may not create jobsets"}, NodeRefused, 4, "may not do that"),
    (("POST", "/configmaps"), {"status": 403, "message": "exceeded quota: gpus"}, PlanImpossible, 5, "quota of the namespace"),
    (("POST", "/trainjobs|/jobsets"), {"status": 404, "message": "404 page not found"}, UsageError, 2, "the cluster has no"),
    (("POST", "/trainjobs|/jobsets"), {"status": 422, "message": "spec.x"}, UsageError, 2, "refuses the object: spec.x"),
    (("POST", "/trainjobs|/jobsets"), {"status": 400, "message": "no runtime torch"}, UsageError, 2, "runtime is refused"),
    (("POST", "/configmaps"), {"status": 401, "message": "Unauthorized"}, NodeRefused, 4, "does not know this user"),
)


@pytest.mark.parametrize(("request_of", "answer", "error", "status", "text"), REFUSALS)
async def test_a_refused_launch_names_the_reason_and_leaves_nothing(
    api: FakeApi,
    tmp_path: Path,
    request_of: tuple[str, str],
    answer: dict[str, Any],
    error: type[PacelineError],
    status: int,
    text: str,
) -> None:
    api.fail(*request_of, **answer, count=99)
    spec, plan, sources = job(tmp_path)

    with pytest.raises(error, match=text) as refused:
        await Centre(api, tmp_path).cluster.launch(spec, plan, sources, 100)

    assert refused.value.exit_status == status
    assert refused.value.hint
    assert left_of_run(api) == []
    assert not (tmp_path / "runs" / "r1").exists()


async def test_a_claim_that_is_there_is_used_as_it_is_and_so_is_a_namespace_that_nobody_may_look_at(
    api: FakeApi, tmp_path: Path
) -> None:
    path = "/api/v1/namespaces/paceline/persistentvolumeclaims/paceline"
    api.objects[path] = {"kind": "PersistentVolumeClaim", "metadata": {"name": "paceline"}, "spec": {"storageClassName": "own"}}
    api.fail("GET", "/namespaces/paceline$", status=403, count=99)
    centre = Centre(api, tmp_path)
    spec, plan, sources = job(tmp_path)

    running = asyncio.create_task(centre.cluster.launch(spec, plan, sources, 100))
    await until(lambda: running.done() or api.names("jobsets") or api.names("trainjobs"))
    await centre.cluster.cancel("r1")

    assert (await asyncio.wait_for(running, 60))["state"] == "cancelled"
    assert api.objects[path]["spec"] == {"storageClassName": "own"}


async def test_a_server_that_stays_away_is_unreachable_after_patience(api: FakeApi, tmp_path: Path) -> None:
    api.close()
    spec, plan, sources = job(tmp_path)

    with pytest.raises(PacelineError, match="API server does not answer") as refused:
        await Centre(api, tmp_path, patience=0.5).cluster.launch(spec, plan, sources, 100)

    assert refused.value.exit_status == 3


def test_a_missing_kubeconfig_and_an_unknown_context_are_named(api: FakeApi, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no way to the cluster"):
        open_client("k8s", str(tmp_path / "none"), None)
    with pytest.raises(ConfigurationError, match="k8s: no way to the cluster"):
        open_client("k8s", str(api.kubeconfig()), "other")


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_verbs_of_the_lab_work_on_a_cluster(api: FakeApi, tmp_path: Path) -> None:
    from paceline.engine.control import Control
    from paceline.engine.inventory.nodes_file import read_inventory
    from paceline.engine.jobs.logs.read import LogQuery

    api.is_running = True
    nodes = tmp_path / "nodes.toml"
    nodes.write_text(
        f'[[node]]\nname = "k8s"\nkind = "kubernetes"\nkubeconfig = "{api.kubeconfig()}"\n'
        'class = [{ name = "RTX 3060", speed = 40.0, memory = "12GiB" }, { name = "GTX 1650", speed = 14.0, memory = "4GiB" }]\n'
    )
    control = Control(read_inventory(nodes))
    await control.open()
    try:
        status = await control.status()
        result = await control.run(TrainSpec(epochs=1))
        jobs = await control.jobs()
        logs = await control.logs(result["run_id"], LogQuery(None, None, None, 100, "info", None))
        again = await control.attach(result["run_id"])
    finally:
        await control.close()

    assert [(node["name"], node["state"]) for node in status["nodes"]] == [
        ("k8s", "ok"),
        ("k8s-rtx3060-1", "ok"),
        ("k8s-gtx1650-1", "ok"),
    ]
    assert (result["state"], again["state"]) == ("done", "done")
    assert [device["node"] for device in result["devices"]] == ["k8s-rtx3060-1", "k8s-gtx1650-1"]
    assert [(row["run_id"], row["state"]) for row in jobs["runs"]] == [(result["run_id"], "done")]
    assert logs["nodes"][0]["state"] == "ok"
    assert left_of_run(api) == []
