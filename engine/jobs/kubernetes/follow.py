"""Follow a run on a cluster: its pods by a watch, its files byte for byte from the volume, until every node has ended.

The centre may end at any moment: what is copied stays, and whoever attaches goes on at that byte.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ...errors import NodeUnreachable, WorkFailed
from ...events import Event, RunEnded, RunQueued, RunUnreachable
from ...kubernetes.names import RUN_LABEL, label_value, object_name
from ...kubernetes.pod_template import Object
from ...plan import Plan
from ...protocol.frames import FileChecksum
from ...protocol.json_files import read_json
from ...telemetry.bus import Publish
from ...wire import to_plain
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from ..mirror.follow import events_by_time
from ..mirror.run_mirror import RunMirror
from .client import ClusterApi
from .paths import JOB_KINDS, collection
from .pod_states import ClusterView, view
from .pod_watch import watch_pods
from .volume import VolumeFiles

VOLUME_POLL_S = 1.0
"""Seconds between two reads of the files."""
LAST_LOOKS = 3
"""Reads of the files after the last pod has ended that may bring an exit.json: a network file system is a little behind."""


class ClusterFollower:
    """One run on a cluster. It is the one writer of the run's directory here."""

    def __init__(
        self,
        api: ClusterApi,
        files: VolumeFiles,
        mirror: RunMirror,
        plan: Plan,
        publish: Publish,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._api, self._files, self._mirror, self._plan, self._publish = api, files, mirror, plan, publish
        self._pause = pause
        self._nodes = [node.name for node in plan.nodes]
        self._pods: list[Object] = []
        self._told: ClusterView | None = None
        self._is_wanted = True
        self._is_lost = False

    async def run(self) -> RunVerdict:
        """Follow to the end, and publish RunEnded. Raises WorkFailed where pods never start, and refusals of the cluster."""
        for event in events_by_time(self._mirror.reader):
            self._emit(event)
        self._mirror.flush_events()
        loop = asyncio.get_running_loop()
        watch = asyncio.create_task(asyncio.to_thread(self._watch, loop), name="pods of a run")
        try:
            await self._follow(watch)
        finally:
            self._is_wanted = False
            await asyncio.gather(watch, return_exceptions=True)
        verdict = combine_verdicts({node: self._verdict(node) for node in self._nodes})
        self._emit(RunEnded(state=verdict.state, reason=verdict.reason, rank=verdict.rank, failed_node=verdict.node))
        self._mirror.flush_events()
        await self._mirror.sync()
        return verdict

    async def settle(self, state: str, reason: str) -> None:
        """Write how the run ended for nodes that did not do so themselves, and copy what is left."""
        body = {"run_id": self._plan.run_id, "nodes": self._nodes, "plan": to_plain(self._plan)}
        await asyncio.to_thread(self._files.ask, "settle", **body, exit={"kind": "RunnerEnded", "state": state, "reason": reason})
        await self.copy()

    async def _follow(self, watch: asyncio.Task[None]) -> None:
        looks = 0
        while not await self.copy():
            if watch.done() and (error := watch.exception()) is not None:
                raise error
            seen = await self._look()
            if seen is not None and seen.is_over:
                looks += 1
                if looks >= LAST_LOOKS:
                    await self.settle(
                        "cancelled" if seen.state == "cancelled" else "failed", seen.reason or "its pod ended without a word"
                    )
                    continue
            elif seen is not None and seen.state == "failed" and not self._has_begun():
                raise WorkFailed(seen.reason, node=self._api.cluster, hint=seen.hint or None)
            await self._pause(VOLUME_POLL_S)

    async def _look(self) -> ClusterView | None:
        """How the cluster shows the run; None: it does not answer."""
        try:
            job = await asyncio.to_thread(find_job, self._api, self._plan.run_id)
        except NodeUnreachable as error:
            self._set_lost(True)
            self._publish(RunQueued(run_id=self._plan.run_id, node=self._api.cluster, state="waiting", reason=error.reason))
            return None
        self._set_lost(False)
        seen = view(job, self._pods, len(self._nodes))
        if seen != self._told and seen.state == "queued":
            self._emit(RunQueued(node=self._api.cluster, reason=seen.reason))
            self._mirror.flush_events()
        self._told = seen
        return seen

    async def copy(self) -> bool:
        """Copy what the files have grown by, and publish it; whether all nodes have ended."""
        while True:
            offsets = {f"{node}/{name}": length for node in self._nodes for name, length in (await self._lengths(node)).items()}
            body = {"run_id": self._plan.run_id, "nodes": self._nodes, "offsets": offsets}
            try:
                answer = await asyncio.to_thread(self._files.ask, "changes", **body)
            except NodeUnreachable:
                self._set_lost(True)
                return False
            for chunk in answer["chunks"]:
                self._mirror.append(chunk["node"], chunk["file"], chunk["offset"], base64.b64decode(chunk["data"]))
                self._derive(chunk["node"], chunk["file"])
            if answer["chunks"]:
                await self._mirror.sync()
                continue
            for node, sums in answer["ended"].items():
                self._mirror.verify(node, {name: FileChecksum(one["length"], one["sha256"]) for name, one in sums.items()})
            return set(answer["ended"]) >= set(self._nodes)

    async def _lengths(self, node: str) -> dict[str, int]:
        return await self._mirror.copied_lengths(node)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: note the pods at each change."""
        selector = f"{RUN_LABEL}={label_value(self._plan.run_id)}"
        for pods in watch_pods(self._api, selector, lambda: self._is_wanted):
            with contextlib.suppress(RuntimeError):  # the loop is closed: the centre ends
                loop.call_soon_threadsafe(setattr, self, "_pods", pods)

    def _has_begun(self) -> bool:
        return any(self._mirror.copy_path(node, "plan.json").exists() for node in self._nodes)

    def _verdict(self, node: str) -> RunVerdict | None:
        ended = read_json(self._mirror.copy_path(node, "exit.json"))
        return None if ended is None else node_verdict({"exit": ended})

    def _set_lost(self, is_lost: bool) -> None:
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            self._emit(RunUnreachable(nodes=(self._api.cluster,) if is_lost else ()))
            self._mirror.flush_events()

    def _derive(self, node: str, name: str) -> None:
        if name.endswith(".jsonl"):
            for events in self._mirror.reader.read(node, name):
                for event in events:
                    self._emit(event)
            self._mirror.flush_events()

    def _emit(self, event: Event) -> None:
        event = replace(event, run_id=self._plan.run_id)
        self._mirror.add_event(event)
        self._publish(event)


def find_job(api: ClusterApi, run_id: str) -> Object | None:
    """The job of a run, of whichever kind; None: it is not there."""
    for kind in JOB_KINDS:
        found = api.get(f"{collection(kind, api.namespace)}/{object_name(run_id)}")
        if found is not None:
            return found
    return None
