"""Bringing a run home while it goes: bytes of every node into the copies, lines of them as events, until all nodes have ended.

A broken link changes nothing but the view: following goes on from the byte where it stopped, however long that takes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..agent.rundir import read_json
from ..errors import NodeRefused, NodeUnreachable, UsageError
from ..events import Event, RunEnded, RunUnreachable
from ..ssh.fleet import Fleet
from ..ssh.link import Link
from ..wire import decode, encode
from .directory import RunDirectory
from .lifecycle import Verdict, fold, node_verdict
from .together import together

Publish = Callable[[Event], None]
RETRY = 0.5
"""Seconds between two tries to reach a node again; the fleet itself backs off."""


class Follower:
    """Follows one run on all its nodes. One writer: it holds the run directory."""

    def __init__(self, directory: RunDirectory, nodes: tuple[str, ...], fleet: Fleet, publish: Publish) -> None:
        self._directory, self._nodes, self._fleet, self._publish = directory, nodes, fleet, publish
        self._tails: dict[tuple[str, str], bytes] = {}
        self._verdicts: dict[str, Verdict | None] = dict.fromkeys(nodes)
        self._lost: set[str] = set()

    async def to_the_end(self, patience: float = math.inf) -> Verdict:
        """Follow until every node has ended; then publish RunEnded. Raises NodeUnreachable when nodes are left that were silent
        for ``patience`` seconds, and none of the others tells how the run ended."""
        await together(self._follow(node, patience) for node in self._nodes)
        verdict = fold(self._verdicts)
        if verdict.state == "unreachable":
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))
            silent = ", ".join(sorted(self._lost))
            hint = f"the run is not touched; paceline jobs tells about it, paceline cancel {self._directory.run_id} stops it"
            raise NodeUnreachable(f"{silent} silent for {patience:.0f} s", hint=hint)
        ended = RunEnded(state=verdict.state, reason=verdict.reason, rank=verdict.rank, failed_node=verdict.node)
        self._emit(ended)
        return verdict

    async def _follow(self, node: str, patience: float) -> None:
        """One node, over as many connections as it takes."""
        while self._verdicts[node] is None:
            others = [verdict for name, verdict in self._verdicts.items() if name != node]
            is_decided = any(verdict is not None and verdict.state != "done" for verdict in others)
            try:
                link = await self._fleet.link(node, patience=5.0 if is_decided else patience)
                self._reach(node, True)
                await self._listen(node, link)
            except (NodeUnreachable, NodeRefused):
                self._reach(node, False)
                if is_decided or math.isfinite(patience):
                    return
            except UsageError:
                self._verdicts[node] = Verdict("failed", "the node does not know the run any more", node=node)
            else:
                if self._verdicts[node] is None:  # the link broke in between
                    self._reach(node, False)
            await asyncio.sleep(0 if self._verdicts[node] else RETRY)

    async def _listen(self, node: str, link: Link) -> None:
        """Take the node's frames until it has ended, or the link is lost."""
        frames: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stop = link.on_frame(frames.put_nowait)
        link.lost.add_done_callback(lambda _: frames.put_nowait(None))
        try:
            await link.ask("follow", run_id=self._directory.run_id, offsets=self._directory.offsets(node))
            while self._verdicts[node] is None and (frame := await frames.get()) is not None:
                if frame["run_id"] == self._directory.run_id:
                    self._take(node, frame)
        finally:
            stop()

    def _reach(self, node: str, is_reached: bool) -> None:
        before = set(self._lost)
        (self._lost.discard if is_reached else self._lost.add)(node)
        if self._lost != before:
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))

    def _take(self, node: str, frame: dict[str, Any]) -> None:
        """Keep the bytes first, then tell what they say."""
        if "end" in frame:
            self._directory.check(node, frame["end"])
            exit_path = self._directory.copy_of(node, "exit.json")
            self._verdicts[node] = node_verdict({"exit": read_json(exit_path)})
            return
        name, data = str(frame["file"]), base64.b64decode(frame["data"])
        self._directory.append(node, name, int(frame["offset"]), data)
        if name.endswith(".jsonl"):
            *lines, rest = (self._tails.get((node, name), b"") + data).split(b"\n")
            self._tails[node, name] = rest
            for event in events_of(lines, node, self._directory.run_id):
                self._emit(event)

    def _emit(self, event: Event) -> None:
        event = replace(event, run_id=self._directory.run_id)
        self._directory.add_event(encode(event))
        self._publish(event)


def events_of(lines: list[bytes], node: str, run_id: str) -> Iterator[Event]:
    """Lines of a node's file as events that know where they come from; what cannot be read is passed over, the copy keeps it."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = decode(line) if line else None
            if event is not None:
                yield replace(event, node=node, run_id=run_id)


def copied_events(directory: RunDirectory) -> list[Event]:
    """All events of a run from the copies: what results are derived from. Each file is in order; files are not merged by time."""
    found: list[Event] = []
    for path in sorted(directory.path.glob("nodes/*/**/*.jsonl")):
        node = path.relative_to(directory.path / "nodes").parts[0]
        found += events_of(path.read_bytes().split(b"\n"), node, directory.run_id)
    return found
