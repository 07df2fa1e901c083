"""Follow a run: append the bytes of every node to the copies and publish their lines as events, until all nodes have ended.

A lost link changes nothing but the view: following continues at the byte where it stopped, however long that takes.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...errors import NodeRefused, NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...events import Event, OutputSeen, RunEnded, RunUnreachable
from ...protocol.frames import EndOfRun, FrameRefused, StreamFailed, read_frame
from ...protocol.json_files import read_json
from ...protocol.regular_files import open_regular
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ...telemetry.bus import Publish
from ..gather import gather_all
from ..lifecycle import RunVerdict, combine_verdicts, node_verdict
from .event_log import CopyReader, parse_events
from .frame_queue import FLOW_WINDOW_BYTES, FrameQueue
from .notable_lines import NotableLines
from .run_mirror import RunMirror

RECONNECT_INTERVAL_S = 0.5
"""Seconds between two attempts to follow a node again; the fleet itself backs off."""
SYNC_INTERVAL_S = 1.0
"""Seconds between two syncs of new data to disk."""
MAX_REFUSED_STREAMS = 5
"""Consecutive streams that may end with an invalid frame before the node counts as failed."""
DECIDED_PATIENCE_S = 5.0
"""Seconds to wait for a silent node once the outcome of the run is known without it."""
EVENTS_PER_YIELD = 1000
"""Events to publish before other tasks of the event loop run."""

logger = logging.getLogger(__name__)


class Follower:
    """Follows one run on all its nodes. It is the one writer of the run's directory here."""

    def __init__(self, mirror: RunMirror, nodes: tuple[str, ...], fleet: Fleet, publish: Publish, is_late: bool = False) -> None:
        """``is_late``: the run began earlier; its past is copied from all nodes first, and then published in the order of time."""
        self._behind = set(nodes) if is_late else set()
        """Nodes whose past is not copied yet."""
        self._is_replaying = False
        """Whether the past is being published: meanwhile new lines are copied and not published yet."""
        self._mirror, self._nodes, self._fleet, self._publish = mirror, nodes, fleet, publish
        self._verdicts: dict[str, RunVerdict | None] = dict.fromkeys(nodes)
        self._lost: set[str] = set()
        self._refusals: dict[str, int] = dict.fromkeys(nodes, 0)
        self._output = {node: NotableLines(node, mirror.run_id) for node in nodes}
        self._mute_since: dict[str, float] = {}
        """Loop time of the first loss after which a node has answered nothing: links that open and break again are silence."""

        self.may_return = False
        """Whether a node whose runner is gone may get another one while the others go on."""
        self._at_rest: set[str] = set()
        """Nodes that are not followed now: they have ended, their runner is gone, or patience is over."""
        self._rested = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    def follow_again(self, node: str) -> None:
        """The runner of a node is alive, whether or not it was gone before."""
        if node in self._at_rest and self._copied_verdict(node) is None and self._verdicts[node] is not None:
            self._log(logging.INFO, node, "it has returned")
            self._verdicts[node] = None
            self._at_rest.discard(node)
            task = asyncio.ensure_future(self._tell_rested())
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def run(self, patience: float = math.inf) -> RunVerdict:
        """Follow until every node has ended; then publish RunEnded.

        Raises NodeUnreachable when a node was silent for ``patience`` seconds and the others do not decide how the run ended,
        StorageFailed when the disk here is full.
        """
        is_over = asyncio.Event()

        async def follow_all() -> None:
            try:
                await gather_all(self._follow_lives(node, patience) for node in self._nodes)
            finally:
                is_over.set()

        if not self._behind:
            await self._catch_up()
        await gather_all([follow_all(), self._sync_regularly(is_over)])
        verdict = combine_verdicts(self._verdicts)
        if verdict.state == "unreachable":
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))
            lost = ", ".join(sorted(self._lost))
            duration = f"silent for {patience:.0f} s" if math.isfinite(patience) else "out of reach from here"
            hint = f"the run is not touched; paceline attach {self._mirror.run_id} follows it again"
            raise NodeUnreachable(f"{lost} {duration}", hint=hint)
        self._emit(RunEnded(state=verdict.state, reason=verdict.reason, rank=verdict.rank, failed_node=verdict.node))
        await self._mirror.sync()
        return verdict

    async def _sync_regularly(self, is_over: asyncio.Event) -> None:
        """Sync new data to disk until the run is over."""
        while not is_over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_INTERVAL_S):  # wait_for of 3.11 may swallow a cancellation
                    await is_over.wait()
            await self._mirror.sync(is_complete=not self._is_replaying)

    async def _catch_up(self) -> None:
        """Publish the lines that are copied and not derived yet, in the order of the nodes' clocks."""
        self._is_replaying = True
        for count, event in enumerate(events_by_time(self._mirror.reader)):
            self._emit(event)
            if count % EVENTS_PER_YIELD == 0:
                await asyncio.sleep(0)
        self._is_replaying = False
        for event in events_by_time(self._mirror.reader):  # lines copied meanwhile, without yielding
            self._emit(event)
        self._mirror.flush_events()

    async def _follow_lives(self, node: str, patience: float) -> None:
        """Follow one node until it has ended; where its runner is gone, until all others have ended or it has another one."""
        while True:
            await self._follow(node, patience)
            self._at_rest.add(node)
            await self._tell_rested()
            if not self.may_return or self._verdicts[node] is None or self._copied_verdict(node) is not None:
                return
            async with self._rested:
                await self._rested.wait_for(lambda: node not in self._at_rest or len(self._at_rest) == len(self._nodes))
            if node in self._at_rest:
                return

    async def _tell_rested(self) -> None:
        async with self._rested:
            self._rested.notify_all()

    async def _follow(self, node: str, patience: float) -> None:
        """Follow one node until it has ended or its runner is gone, over as many connections as it takes."""
        while self._verdicts[node] is None:
            others = [verdict for name, verdict in self._verdicts.items() if name != node]
            is_decided = any(verdict is not None and verdict.state != "done" for verdict in others)
            try:
                is_copied = self._copied_verdict(node) is not None
                left = DECIDED_PATIENCE_S if is_decided or is_copied else patience
                if node in self._mute_since:
                    left -= asyncio.get_running_loop().time() - self._mute_since[node]
                    if left <= 0.0:
                        raise NodeUnreachable("its agent answers nothing", node=node)
                link = await self._link(node, left)
            except (NodeUnreachable, NodeRefused) as error:
                if node not in self._lost:
                    self._log(logging.INFO, node, "out of reach: %r", error.reason)
                if (verdict := self._copied_verdict(node)) is not None:
                    self._verdicts[node] = verdict
                    await self._on_backlog_copied(node)
                    return
                self._set_reached(node, False)
                await self._on_backlog_copied(node)  # the past of the other nodes does not wait for it
                if is_decided or math.isfinite(patience):
                    return
                await asyncio.sleep(RECONNECT_INTERVAL_S)
                continue
            if link is None:
                self._verdicts[node] = self._copied_verdict(node)
                return
            await self._follow_link(node, link)
            await asyncio.sleep(0 if self._verdicts[node] else RECONNECT_INTERVAL_S)

    async def _follow_link(self, node: str, link: Link) -> None:
        """Follow one node until it has ended or this link is lost. Raises WorkFailed after too many invalid streams."""
        try:
            self._set_reached(node, True)
            await self._stream(node, link)
        except (NodeUnreachable, NodeRefused) as error:  # the link was lost during a request: patience begins now
            self._log(logging.INFO, node, "link lost: %r", error.reason)
            self._mute_since.setdefault(node, asyncio.get_running_loop().time())
            self._set_reached(node, False)
        except UsageError:
            self._log(logging.WARNING, node, "the node does not know the run any more")
            unknown = RunVerdict("failed", "the node does not know the run any more", node=node)
            self._verdicts[node] = self._copied_verdict(node) or unknown
        except FrameRefused as error:
            self._refusals[node] += 1
            self._log(logging.WARNING, node, "stream refused, %d in a row: %r", self._refusals[node], str(error))
            if self._refusals[node] >= MAX_REFUSED_STREAMS:
                hint = "the run is not touched there; paceline attach tries again"
                raise WorkFailed(f"corrupt log stream of run {self._mirror.run_id}: {error}", node=node, hint=hint) from None
        else:
            if self._verdicts[node] is None:
                self._log(logging.INFO, node, "link lost")
                self._set_reached(node, False)

    def _copied_verdict(self, node: str) -> RunVerdict | None:
        """How the run ended on the node; None: its exit.json is not copied. It is copied last, after all other files."""
        ended = read_json(self._mirror.copy_path(node, "exit.json"))
        return node_verdict({"exit": ended}) if ended is not None else None

    async def _link(self, node: str, patience: float) -> Link | None:
        """The link of a node; None where nodes.toml does not name it, so that it stays out of reach."""
        try:
            return await self._fleet.link(node, patience=patience)
        except UsageError:
            self._set_reached(node, False)
            await self._on_backlog_copied(node)
            return None

    async def _stream(self, node: str, link: Link) -> None:
        """Copy the node's frames until it has ended or the link is lost. Raises FrameRefused for an invalid frame."""
        offsets = await self._mirror.copied_lengths(node)
        missing = await self._missing_bytes(node, link, offsets)
        frames = FrameQueue()
        with frames.listen(link):
            try:
                await self._copy_frames(node, link, frames, offsets, missing)
            except FrameRefused:
                with suppress(PacelineError):
                    await link.ask("unfollow", gen=frames.gen)
                raise

    async def _copy_frames(self, node: str, link: Link, frames: FrameQueue, offsets: dict[str, int], missing: int) -> None:
        """Request the bytes after ``offsets``; append and acknowledge them. ``missing``: bytes of the backlog that are not here."""
        await link.ask("follow", run_id=self._mirror.run_id, gen=frames.gen, offsets=offsets, window=FLOW_WINDOW_BYTES)
        self._mute_since.pop(node, None)
        received = acknowledged = 0
        while self._verdicts[node] is None and (frame := await frames.next_frame()) is not None:
            message = read_frame(frame)
            if isinstance(message, StreamFailed):
                raise FrameRefused(message.reason)
            if isinstance(message, EndOfRun):
                await self._end(node, message)
                continue
            self._mirror.append(node, message.file, message.offset, message.data)
            self._derive(node, message.file)
            if message.file == "out.log":
                self._tell_output(self._output[node].feed(message.data))
            received += len(message.data)
            self._refusals[node] = 0
            if node in self._behind and received >= missing:
                await self._on_backlog_copied(node)
            if received - acknowledged >= FLOW_WINDOW_BYTES // 4:
                acknowledged = received
                await link.ask("acknowledge", gen=frames.gen, taken=received)

    async def _missing_bytes(self, node: str, link: Link, offsets: dict[str, int]) -> int:
        """Bytes of the node's backlog that are not copied; 0 where the backlog is not waited for."""
        if node not in self._behind:
            return 0
        sizes = (await link.ask("stat_files", run_id=self._mirror.run_id)).get("files")
        known = sizes if isinstance(sizes, dict) else {}
        return sum(max(0, size - offsets.get(name, 0)) for name, size in known.items() if isinstance(size, int))

    async def _on_backlog_copied(self, node: str) -> None:
        """Backlog of this node is complete; publish once all nodes' are."""
        if node in self._behind:
            self._behind.discard(node)
            if not self._behind:
                await self._catch_up()

    async def _end(self, node: str, end: EndOfRun) -> None:
        """All bytes of a node are here: verify them, sync them to disk, and set its verdict."""
        self._mirror.verify(node, end.checksums)
        await self._on_backlog_copied(node)
        await self._mirror.sync(is_complete=not self._is_replaying)
        ended = read_json(self._mirror.copy_path(node, "exit.json"))
        verdict = self._verdicts[node] = node_verdict({"exit": ended, "is_alive": not end.is_gone})
        self._tell_output(self._output[node].end(is_done=verdict.state == "done"))
        self._log(logging.INFO, node, "ended: %s", verdict.state)

    def _set_reached(self, node: str, is_reached: bool) -> None:
        before = set(self._lost)
        (self._lost.discard if is_reached else self._lost.add)(node)
        if self._lost != before:
            self._emit(RunUnreachable(nodes=tuple(sorted(self._lost))))

    def _derive(self, node: str, name: str) -> None:
        """Publish the new lines of a copy, unless a backlog comes first."""
        if name.endswith(".jsonl") and not (self._behind or self._is_replaying):
            for events in self._mirror.reader.read(node, name):
                for event in events:
                    self._emit(event)
            self._mirror.flush_events()

    def _tell_output(self, event: OutputSeen | None) -> None:
        """Publish lines of output that matter. They are no event of the run's own log, which has every line already."""
        if event is not None:
            self._publish(event)

    def _log(self, level: int, node: str, message: str, *args: object) -> None:
        """Log to ``logs/control.log``. Reasons may quote a node, so they are logged with ``%r``: without control characters."""
        logger.log(level, f"run %s, node %s: {message}", self._mirror.run_id, node, *args)

    def _emit(self, event: Event) -> None:
        event = replace(event, run_id=self._mirror.run_id)
        self._mirror.add_event(event)
        self._publish(event)


def events_by_time(reader: CopyReader) -> Iterator[Event]:
    """The events that a reader has not read yet. Within a file their order stays; files are merged by the clocks of their nodes,
    which may differ."""

    def timed(node: str, name: str) -> Iterator[tuple[float, Event]]:
        at = 0.0
        for events in reader.read(node, name):
            for event in events:
                at = max(at, event.node_time or 0.0)
                yield at, event

    for _, event in heapq.merge(*(timed(node, name) for node, name in reader.files()), key=lambda pair: pair[0]):
        yield event


def copied_events(path: Path, run_id: str) -> list[Event]:
    """All events of the copies of a run, from which results are derived. Each file is in order; files are not merged by time."""
    events: list[Event] = []
    for file_path in sorted(path.glob("nodes/*/**/*.jsonl")):
        node = file_path.relative_to(path / "nodes").parts[0]
        with suppress(OSError), open_regular(file_path) as file:  # OSError: no regular file, put there by a person
            events += parse_events(file.read().split(b"\n"), node, run_id)
    return events
