"""Bringing a run home while it goes: bytes of every node into the copies, lines of them as events, until all nodes have ended.

A broken link changes nothing but the view: following goes on from the byte where it stopped, however long that takes.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from ...errors import NodeRefused, NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...events import Event, RunEnded, RunUnreachable
from ...protocol.frames import EndOfRun, FrameRefused, StreamFailed, read_frame
from ...protocol.json_files import read_json
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ..gather import gather_all
from ..runs.lifecycle import Verdict, combine, node_verdict
from .event_log import CopyReader, events_of
from .frame_queue import WINDOW, FrameQueue
from .run_mirror import RunMirror

Publish = Callable[[Event], None]
RETRY = 0.5
"""Seconds between two tries to reach a node again; the fleet itself backs off."""
KEEP = 1.0
"""Seconds between two times that what came is forced onto the disk."""
REFUSALS = 5
"""Askings in a row that may end with a frame that does not fit, until the node is no longer believed."""


class Follower:
    """Follows one run on all its nodes. One writer: it holds the run directory."""

    def __init__(self, directory: RunMirror, nodes: tuple[str, ...], fleet: Fleet, publish: Publish, is_late: bool = False) -> None:
        """``is_late``: the run has a past, which is brought home first and then told in the order of its happening."""
        self._behind = set(nodes) if is_late else set()
        """Nodes whose past is not here yet."""
        self._is_telling = False
        """Whether that past is being told: events in between are read and not told yet."""
        self._directory, self._nodes, self._fleet, self._publish = directory, nodes, fleet, publish
        self._verdicts: dict[str, Verdict | None] = dict.fromkeys(nodes)
        self._lost: set[str] = set()
        self._refusals: dict[str, int] = dict.fromkeys(nodes, 0)

    async def run(self, patience: float = math.inf) -> Verdict:
        """Follow until every node has ended; then publish RunEnded. Raises NodeUnreachable when nodes are left that were silent
        for ``patience`` seconds, and none of the others tells how the run ended; StorageFailed when there is no space here."""
        is_over = asyncio.Event()

        async def follow_all() -> None:
            try:
                await gather_all(self._follow(node, patience) for node in self._nodes)
            finally:
                is_over.set()

        if not self._behind:
            await self._catch_up()
        await gather_all([follow_all(), self._keep(is_over)])
        verdict = combine(self._verdicts)
        if verdict.state == "unreachable":
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))
            silent = ", ".join(sorted(self._lost))
            time = f"silent for {patience:.0f} s" if math.isfinite(patience) else "out of reach from here"
            hint = f"the run is not touched; paceline attach {self._directory.run_id} follows it again"
            raise NodeUnreachable(f"{silent} {time}", hint=hint)
        self._emit(RunEnded(state=verdict.state, reason=verdict.reason, rank=verdict.rank, failed_node=verdict.node))
        await self._directory.keep()
        return verdict

    async def _keep(self, is_over: asyncio.Event) -> None:
        """Force what came onto the disk, again and again."""
        while not is_over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(KEEP):  # wait_for of 3.11 may swallow a cancellation
                    await is_over.wait()
            await self._directory.keep(is_told=not self._is_telling)

    async def _catch_up(self) -> None:
        """Derive what earlier followers had copied and not yet derived, as far as clocks tell in the order of its happening."""
        self._is_telling = True
        for count, event in enumerate(in_order(self._directory.reader)):
            self._emit(event)
            if count % 1000 == 0:
                await asyncio.sleep(0)
        self._is_telling = False
        for event in in_order(self._directory.reader):  # what came meanwhile, in one go
            self._emit(event)
        self._directory.show_events()

    async def _follow(self, node: str, patience: float) -> None:
        """One node, over as many connections as it takes."""
        while self._verdicts[node] is None:
            others = [verdict for name, verdict in self._verdicts.items() if name != node]
            is_decided = any(verdict is not None and verdict.state != "done" for verdict in others)
            try:
                is_home = self._copied_verdict(node) is not None
                link = await self._link(node, 5.0 if is_decided or is_home else patience)
            except (NodeUnreachable, NodeRefused):
                if (verdict := self._copied_verdict(node)) is not None:
                    self._verdicts[node] = verdict
                    await self._caught_up(node)
                    return
                self._reach(node, False)
                await self._caught_up(node)  # nobody waits for it
                if is_decided or math.isfinite(patience):
                    return
                await asyncio.sleep(RETRY)
                continue
            if link is None:
                self._verdicts[node] = self._copied_verdict(node)
                return
            try:
                self._reach(node, True)
                await self._listen(node, link)
            except (NodeUnreachable, NodeRefused):  # the link broke under a question: patience begins now
                self._reach(node, False)
            except UsageError:
                gone = Verdict("failed", "the node does not know the run any more", node=node)
                self._verdicts[node] = self._copied_verdict(node) or gone
            except FrameRefused as error:
                self._refusals[node] += 1
                if self._refusals[node] >= REFUSALS:
                    hint = "what runs there is not touched; paceline attach tries again"
                    raise WorkFailed(
                        f"its bytes of run {self._directory.run_id} do not fit: {error}", node=node, hint=hint
                    ) from None
            else:
                if self._verdicts[node] is None:  # the link broke in between
                    self._reach(node, False)
            await asyncio.sleep(0 if self._verdicts[node] else RETRY)

    def _copied_verdict(self, node: str) -> Verdict | None:
        """How the run ended there, where that has come home: its last file comes last, so everything else has."""
        ended = read_json(self._directory.copy_of(node, "exit.json"))
        return node_verdict({"exit": ended}) if ended is not None else None

    async def _link(self, node: str, patience: float) -> Link | None:
        """The link of a node; None when this nodes.toml does not name it, so that it stays out of reach."""
        try:
            return await self._fleet.link(node, patience=patience)
        except UsageError:
            self._reach(node, False)
            await self._caught_up(node)
            return None

    async def _listen(self, node: str, link: Link) -> None:
        """Take the node's frames until it has ended, or the link is lost. Raises FrameRefused when they do not fit."""
        offsets = await self._directory.resume(node)
        missing = await self._missing(node, link, offsets)
        inbox = FrameQueue()
        with inbox.open(link):
            try:
                await self._take(node, link, inbox, offsets, missing)
            except FrameRefused:
                with suppress(PacelineError):
                    await link.ask("unfollow", gen=inbox.gen)
                raise

    async def _take(self, node: str, link: Link, inbox: FrameQueue, offsets: dict[str, int], missing: int) -> None:
        """Ask for what is not here, and write down and acknowledge what comes."""
        await link.ask("follow", run_id=self._directory.run_id, gen=inbox.gen, offsets=offsets, window=WINDOW)
        taken = told = 0
        while self._verdicts[node] is None and (frame := await inbox.next()) is not None:
            said = read_frame(frame)
            if isinstance(said, StreamFailed):
                raise FrameRefused(said.reason)
            if isinstance(said, EndOfRun):
                await self._end(node, said)
                continue
            self._directory.append(node, said.file, said.offset, said.data)
            self._derive(node, said.file)
            taken += len(said.data)
            self._refusals[node] = 0
            if node in self._behind and taken >= missing:
                await self._caught_up(node)
            if taken - told >= WINDOW // 4:
                told = taken
                await link.ask("acknowledge", gen=inbox.gen, taken=taken)

    async def _missing(self, node: str, link: Link, offsets: dict[str, int]) -> int:
        """Bytes that were written before we came, and are not here; 0 where nobody asks."""
        if node not in self._behind:
            return 0
        sizes = (await link.ask("files", run_id=self._directory.run_id)).get("files")
        known = sizes if isinstance(sizes, dict) else {}
        return sum(max(0, size - offsets.get(name, 0)) for name, size in known.items() if isinstance(size, int))

    async def _caught_up(self, node: str) -> None:
        """The past of this node is here; when that of all is, it is told."""
        if node in self._behind:
            self._behind.discard(node)
            if not self._behind:
                await self._catch_up()

    async def _end(self, node: str, end: EndOfRun) -> None:
        """All is here: compare it, keep it, and say how it ended."""
        self._directory.check(node, end.seals)
        await self._caught_up(node)
        await self._directory.keep(is_told=not self._is_telling)
        ended = read_json(self._directory.copy_of(node, "exit.json"))
        self._verdicts[node] = node_verdict({"exit": ended, "is_alive": not end.is_gone})

    def _reach(self, node: str, is_reached: bool) -> None:
        before = set(self._lost)
        (self._lost.discard if is_reached else self._lost.add)(node)
        if self._lost != before:
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))

    def _derive(self, node: str, name: str) -> None:
        """Tell what the copy says beyond what was told."""
        if name.endswith(".jsonl") and not (self._behind or self._is_telling):
            for events in self._directory.reader.read(node, name):
                for event in events:
                    self._emit(event)
            self._directory.show_events()

    def _emit(self, event: Event) -> None:
        event = replace(event, run_id=self._directory.run_id)
        self._directory.add_event(event)
        self._publish(event)


def in_order(reader: CopyReader) -> Iterator[Event]:
    """Events that a reader has not read yet. Each file keeps its order; files are merged by the clocks of their nodes, and that is
    only as good as these clocks."""

    def timed(node: str, name: str) -> Iterator[tuple[float, Event]]:
        at = 0.0
        for events in reader.read(node, name):
            for event in events:
                at = max(at, event.node_time or 0.0)
                yield at, event

    for _, event in heapq.merge(*(timed(node, name) for node, name in reader.files()), key=lambda pair: pair[0]):
        yield event


def copied_events(directory: RunMirror) -> list[Event]:
    """All events of a run from the copies: what results are derived from. Each file is in order; files are not merged by time."""
    found: list[Event] = []
    for path in sorted(directory.path.glob("nodes/*/**/*.jsonl")):
        node = path.relative_to(directory.path / "nodes").parts[0]
        found += events_of(path.read_bytes().split(b"\n"), node, directory.run_id)
    return found
