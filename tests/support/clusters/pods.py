"""Plays the part of a cluster for the pods of a manifest: their environment by operator, and their mounted files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pod:
    """What a kubelet is told to start."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]


def pods_of(job: dict[str, Any]) -> list[Pod]:
    """The pods that the operator of a job creates."""
    return list(_READERS[job["kind"]](job))


def mount(objects: list[dict[str, Any]], place: Path, plan_path: str, keys_path: str) -> dict[str, Path]:
    """Write the files of config map and secret as a kubelet mounts them; returns the directory of each path."""
    paths = {}
    for kind, path in (("ConfigMap", plan_path), ("Secret", keys_path)):
        directory = place / kind
        (directory / "..data").mkdir(parents=True)
        for one in objects:
            if one["kind"] == kind:
                for name, text in one["data"].items():
                    content = base64.b64decode(text) if kind == "Secret" else text.encode()
                    (directory / "..data" / name).write_bytes(content)
                    (directory / name).symlink_to(Path("..data") / name)
        paths[path] = directory
    return paths


def _container(template: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = template["spec"]["containers"][0]
    return container


def _pod(name: str, container: dict[str, Any], extra: dict[str, str]) -> Pod:
    texts = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    return Pod(name, (*container["command"], *container.get("args", ())), texts | extra)


def _of_indexed(job: dict[str, Any]) -> Iterator[Pod]:
    for index in range(job["spec"]["completions"]):
        yield _pod(f"{index}", _container(job["spec"]["template"]), {"JOB_COMPLETION_INDEX": str(index)})


def _of_job_set(job: dict[str, Any]) -> Iterator[Pod]:
    for one in job["spec"]["replicatedJobs"]:
        for _ in range(one["replicas"]):
            yield from _of_indexed(one["template"])


def _of_train_job(job: dict[str, Any]) -> Iterator[Pod]:
    trainer = job["spec"]["trainer"]
    nodes = trainer["numNodes"]
    for index in range(nodes):
        torch = {"PET_NNODES": str(nodes), "PET_NODE_RANK": str(index), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"])}
        yield _pod(f"{index}", trainer, {**torch, "PET_MASTER_PORT": "29400", "JOB_COMPLETION_INDEX": str(index)})


def _of_pytorch_job(job: dict[str, Any]) -> Iterator[Pod]:
    replicas = job["spec"]["pytorchReplicaSpecs"]
    world = sum(one["replicas"] for one in replicas.values())
    rank = 0
    for kind in ("Master", "Worker"):
        for _ in range(replicas[kind]["replicas"]):
            torch = {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost", "MASTER_PORT": "23456"}
            yield _pod(f"{kind}-{rank}", _container(replicas[kind]["template"]), {**torch, "PET_NODE_RANK": str(rank)})
            rank += 1


_READERS = {"JobSet": _of_job_set, "TrainJob": _of_train_job, "PyTorchJob": _of_pytorch_job, "Job": _of_indexed}
