"""What ``export`` writes for Kubernetes: valid, equal when read back, and the plan that runs over SSH."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import yaml
from paceline.engine.errors import PlanImpossible, UsageError
from paceline.engine.kubernetes.job_objects import default_kind, indexed_job, job_set, pytorch_job, train_job
from paceline.engine.kubernetes.manifest import kustomize_files, objects_of
from paceline.engine.kubernetes.names import object_name
from paceline.engine.kubernetes.pod_groups import pod_groups
from paceline.engine.kubernetes.pod_template import ClusterSettings
from paceline.engine.kubernetes.yaml_text import yaml_document
from paceline.engine.plan import Plan, ScriptPlan
from paceline.engine.specs import TrainSpec, TrialSpec
from paceline.engine.states import DeviceKind
from paceline.engine.wire import to_plain

from tests.support.clusters.pods import pods_of
from tests.support.clusters.round_trip import check_jobs, check_mutants
from tests.support.runs.training_lab import make_plan

SETTINGS = ClusterSettings()


def lab(*names: str, kind: DeviceKind = "emulated") -> Plan:
    """A plan with one device a node, called so."""
    plan = make_plan("digits-cnn", [[4.0]] * len(names), ["hybrid"], epochs=1, batch=64)
    ranks = tuple(replace(rank, device_name=name, device_kind=kind) for rank, name in zip(plan.ranks, names, strict=True))
    return replace(plan, run_id="20260101-0000-abcdef", ranks=ranks)


def search(trials: int) -> Plan:
    script = ScriptPlan("train.py", (), "0", trials=tuple(TrialSpec(number, ("--lr", str(number))) for number in range(trials)))
    return replace(lab("RTX 3060", "GTX 1650"), program="script", script=script)


@pytest.mark.slow
def test_drawn_jobs_are_valid_and_come_back_and_their_mutants_are_refused(seed: int) -> None:
    pytest.importorskip("kubernetes_validate", reason="pip install 'paceline[manifests]' brings the schemas")
    assert check_jobs(random.Random(seed), 60) == []
    assert len(check_mutants(random.Random(seed), 40)) <= 1


def test_unlike_devices_become_one_jobset_with_a_job_a_class_in_the_order_of_the_plan() -> None:
    plan = lab("RTX 3060", "GTX 1650", "RTX 3050", "GTX 1650")

    jobs = job_set(plan, SETTINGS)["spec"]["replicatedJobs"]

    assert [(job["name"], job["template"]["spec"]["completions"]) for job in jobs] == [
        ("rtx-3060", 1),
        ("gtx-1650", 2),
        ("rtx-3050", 1),
    ]
    nodes = [pod.command[pod.command.index("--nodes") + 1] for pod in pods_of(job_set(plan, SETTINGS))]
    assert nodes == ["n0", "n1,n3", "n1,n3", "n2"]


def test_the_default_is_a_trainjob_for_alike_a_jobset_for_unlike_devices_and_a_job_for_a_search() -> None:
    assert default_kind(lab("T4", "T4")) == "trainjob"
    assert default_kind(lab("T4", "A100")) == "jobset"
    assert default_kind(search(3)) == "job"


@pytest.mark.parametrize("workers", [3, 5])
def test_a_pytorchjob_has_one_master_and_the_workers_of_the_reference(workers: int) -> None:
    plan = lab("RTX 3060", *["GTX 1650"] * workers)

    replicas = pytorch_job(plan, SETTINGS)["spec"]["pytorchReplicaSpecs"]

    assert {name: one["replicas"] for name, one in replicas.items()} == {"Master": 1, "Worker": workers}
    assert [pod.environment["RANK"] for pod in pods_of(pytorch_job(plan, SETTINGS))] == [str(rank) for rank in range(workers + 1)]


def test_what_does_not_suit_is_refused_with_what_does() -> None:
    with pytest.raises(PlanImpossible, match="TrainJob has alike devices") as refused:
        train_job(lab("T4", "A100", kind="cuda"), SETTINGS)
    assert "--as jobset" in str(refused.value)
    with pytest.raises(PlanImpossible, match="workers of a PyTorchJob"):
        pytorch_job(lab("T4", "T4", "A100", kind="cuda"), SETTINGS)
    with pytest.raises(PlanImpossible, match="GPUs of 2 kinds"):
        pod_groups(replace(lab("T4", "A100", kind="cuda"), nodes=(replace(lab("T4").nodes[0], ranks=(0, 1)),)))
    with pytest.raises(UsageError, match="trials of a search"):
        indexed_job(lab("T4"), SETTINGS)
    with pytest.raises(UsageError, match="each trial is alone"):
        objects_of(search(2), TrainSpec(), {}, SETTINGS, "jobset")


def test_a_search_is_an_indexed_job_with_a_pod_a_trial_and_no_second_try() -> None:
    spec = indexed_job(search(5), SETTINGS)["spec"]

    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (5, 2, 0)
    assert [one["kind"] for one in objects_of(search(5), TrainSpec(), {}, SETTINGS)] == [
        "Namespace",
        "PersistentVolumeClaim",
        "ConfigMap",
        "Job",
    ]


def test_gpus_are_asked_for_by_count_and_class_and_emulated_devices_are_labelled_processors() -> None:
    (real,) = job_set(lab("NVIDIA A100-SXM4-80GB", kind="cuda"), SETTINGS)["spec"]["replicatedJobs"]
    (emulated,) = job_set(lab("RTX 3060"), SETTINGS)["spec"]["replicatedJobs"]

    pod = real["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    template = emulated["template"]["spec"]["template"]
    assert "nvidia.com/gpu" not in template["spec"]["containers"][0]["resources"]["limits"]
    assert template["metadata"]["labels"]["paceline-emulated"] == "true"


def test_the_plan_in_the_config_map_is_the_plan_of_the_lab_but_for_its_places() -> None:
    plan = lab("RTX 3060", "GTX 1650")

    config = next(one for one in objects_of(plan, TrainSpec(seed=7), {}, SETTINGS) if one["kind"] == "ConfigMap")["data"]

    written, made = json.loads(config["plan.json"]), to_plain(plan)
    for node in made["nodes"]:
        assert node["address"] == "127.0.0.1"
        node |= {"address": "", "interface": "", "python": "", "paths": {}}
    assert written == made
    assert json.loads(config["spec.json"])["seed"] == 7


def test_names_are_made_from_the_run_id_alone() -> None:
    assert object_name("20260101-0000-abcdef") == "paceline-20260101-0000-abcdef"
    first, second = (objects_of(lab("T4", "A100"), TrainSpec(), {}, SETTINGS) for _ in range(2))
    assert first == second


def test_texts_that_yaml_would_take_for_something_else_come_back_as_texts() -> None:
    words = [
        "yes",
        "NO",
        "1e3",
        "0x10",
        "~",
        "",
        " a",
        "a: b",
        "- a",
        "#",
        "2026-01-01",
        "1_000",
        "null",
        "é\n",
        "12:30:45",
        "=",
        "a",
        "*x",
    ]
    value = {
        "texts": words,
        "numbers": [1, 1.5, True, None],
        "empty": [{}, [], {"a": {}}],
        "nested": [[1, [2]], {"b": [{"c": "on"}]}],
    }

    assert yaml.safe_load(yaml_document(value)) == value


def test_overlays_patch_what_is_in_the_base() -> None:
    files = kustomize_files(objects_of(lab("T4", "A100"), TrainSpec(), {}, SETTINGS))

    for name in ("queued", "single-machine"):
        overlay = yaml.safe_load(files[f"overlays/{name}/kustomization.yaml"])
        assert overlay["resources"] == ["../../base"]
        assert all(yaml.safe_load(patch["patch"]) for patch in overlay["patches"])
    assert {"base/job.yaml", "base/keys.yaml", "base/plan.yaml", "base/kustomization.yaml"} <= files.keys()
