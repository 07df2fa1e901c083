"""All clusters of a session: whether each answers, what its pods may have, and which runs are its."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import NodeRefused, PacelineError
from ...events import NodeConnected, NodeDenied, NodeLost, NodeReported
from ...kubernetes.pod_template import ClusterSettings
from ...reports.document_type import Document
from ...specs import NodeSpec
from ...ssh.slot_link import slot_reading
from ...telemetry.bus import Publish
from .run import Cluster, ClusterAccess

CLUSTER_REPORT_S = 2.0
"""Seconds between two reports of the declared devices, which never change: they keep a node from looking silent."""
LOOK_EVERY = 15
"""Reports between two looks at whether the API answers."""


class Clusters:
    """The clusters of nodes.toml."""

    def __init__(self, nodes: Sequence[NodeSpec], runs: Path, publish: Publish) -> None:
        self._publish = publish
        self._slots = {node.name: [one for one in nodes if one.slot is not None and one.slot.login == node.name] for node in nodes}
        self.by_name = {
            node.name: Cluster(_access(node), runs, publish) for node in nodes if node.cluster is not None and node.slot is None
        }
        self.nodes = frozenset(node.name for node in nodes if node.kind == "kubernetes")
        """The clusters and their slots, to which no link leads."""
        self._owners: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Look at each cluster from now on."""
        self._tasks = [asyncio.create_task(self._watch(name), name=f"cluster {name}") for name in self.by_name]

    async def close(self) -> None:
        """Leave the clusters; runs go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for cluster in self.by_name.values():
            await cluster.close()

    def of_run(self, run_id: str) -> Cluster | None:
        """The cluster that has a run, as it was listed or launched last; None: none has."""
        owner = self._owners.get(run_id)
        return None if owner is None else self.by_name[owner]

    async def with_runs(self, rows: list[Document], on_failure: Callable[[str, PacelineError], None]) -> list[Document]:
        """The rows of ``jobs`` with those of all clusters, newest first. A cluster that does not answer is told."""
        found: dict[str, Document] = {}
        for name, cluster in self.by_name.items():
            try:
                for row in await cluster.rows():
                    found[row["run_id"]] = row
                    self._owners[row["run_id"]] = name
            except PacelineError as error:
                on_failure(name, error)
        both = [row for row in rows if row["run_id"] not in found] + list(found.values())
        return sorted(both, key=lambda row: (row["run_id"].rpartition("-")[0], row["started"] or 0.0, row["run_id"]), reverse=True)

    async def _watch(self, name: str) -> None:
        """Tell that a cluster and its slots are there, or why not."""
        is_told = False
        while True:
            try:
                api = await self.by_name[name].api()
                version = await asyncio.to_thread(api.get, "/version") or {}
            except PacelineError as error:
                is_told = False
                kind = NodeDenied if isinstance(error, NodeRefused) else NodeLost
                for node in (name, *(slot.name for slot in self._slots[name])):
                    self._publish(kind(node=node, reason=error.reason, hint=error.hint or ""))
                await asyncio.sleep(CLUSTER_REPORT_S * LOOK_EVERY)
                continue
            for _ in range(LOOK_EVERY):
                self._report(name, f"Kubernetes {version.get('gitVersion', '')}".strip(), is_told)
                is_told = True
                await asyncio.sleep(CLUSTER_REPORT_S)

    def _report(self, name: str, system: str, is_told: bool) -> None:
        if not is_told:
            for node in (name, *(slot.name for slot in self._slots[name])):
                self._publish(NodeConnected(node=node, system=system))
        self._publish(NodeReported(node=name))
        for slot in self._slots[name]:
            self._publish(slot_reading(slot))


def _access(node: NodeSpec) -> ClusterAccess:
    spec = node.cluster
    assert spec is not None
    settings = ClusterSettings(spec.namespace, spec.claim, spec.image, spec.storage, spec.runtime)
    return ClusterAccess(node.name, settings, spec.context, spec.kubeconfig)
