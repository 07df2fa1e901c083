"""The verb ``setup --kubernetes``: namespace, claim, operator, our modules and a job's data, each made where it is missing.

What a person may not make is asked of an administrator by name; what is there stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from ...errors import PacelineError
from ...kubernetes.shared_objects import claim, namespace
from ...reports.document_type import Document
from .client import ClusterApi
from .paths import place
from .refusals import OPERATORS
from .run import Cluster

GROUPS: Mapping[str, str] = {
    "jobsets": "/apis/jobset.x-k8s.io/v1alpha2",
    "trainjobs": "/apis/trainer.kubeflow.org/v1alpha1",
    "pytorchjobs": "/apis/kubeflow.org/v1",
}
"""Path by which an API server tells whether it knows the jobs of an operator."""
NEEDED = ("jobsets",)
"""Without these no run of unlike devices starts; Trainer v2 brings JobSet along."""


async def set_up(cluster: Cluster, sources: Mapping[str, Path]) -> Document:
    """Prepare a cluster. ``sources``: directory here of the data to bring, by digest. Raises what the namespace is refused for."""
    api = await cluster.api()
    steps = await asyncio.to_thread(_prepare_objects, api, cluster)
    operators = await asyncio.to_thread(find_operators, api)
    for word in GROUPS:
        name, hint = OPERATORS[word]
        is_there = operators[word]
        state = "present" if is_there else "missing" if word in NEEDED else "absent"
        steps.append(_step(f"operator {name}", state, None if is_there else hint))
    try:
        files = await cluster.files()
        steps.append(_step("our modules on the volume", "present"))
        for digest, source in sources.items():
            known = (await asyncio.to_thread(files.ask, "has", paths=[f"data/{digest}"]))["present"]
            await cluster.bring({digest: source})
            steps.append(_step(f"data {digest[:16]}", "present" if known else "made"))
    except PacelineError as error:
        steps.append(_step("the volume", "failed", f"{error.reason}" + (f" ({error.hint})" if error.hint else "")))
    finally:
        await cluster.leave()
    is_ready = all(step["state"] in ("present", "made", "absent") for step in steps)
    where = {"cluster": cluster.access.name, "namespace": api.namespace}
    return {"type": "setup", "state": "done" if is_ready else "incomplete", **where, "steps": steps}


def find_operators(api: ClusterApi) -> dict[str, bool]:
    """Which operators' jobs the API server knows."""
    found = {}
    for word, path in GROUPS.items():
        listed = api.get(path) or {}
        found[word] = any(one.get("name") == word for one in listed.get("resources") or ())
    return found


def _prepare_objects(api: ClusterApi, cluster: Cluster) -> list[Document]:
    """Namespace and claim, made where they are missing."""
    steps = []
    for what, make in (("namespace", namespace), ("claim", claim)):
        one = make(cluster.settings)
        is_made = api.get(place(one)) is None and api.create(one)
        steps.append(_step(f"{what} {one['metadata']['name']}", "made" if is_made else "present"))
    return steps


def _step(what: str, state: str, hint: str | None = None) -> Document:
    return {"what": what, "state": state, "hint": hint}
