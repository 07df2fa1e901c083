"""The verb ``logs``: the output and events of a run's nodes, merged by time.

Lines are read from the copies where the run is followed or was copied here, otherwise from the nodes. The order within a file never
changes.
"""

from __future__ import annotations

import asyncio
import collections
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...plan import Plan
from ...protocol.frames import FileChunk, FrameRefused, StreamFailed, read_frame
from ...protocol.json_files import read_json
from ...protocol.regular_files import is_regular, open_regular
from ...protocol.run_files import is_locked
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ...wire import from_plain
from ..gather import gather_all, gather_answers
from ..mirror.frame_queue import FLOW_WINDOW_BYTES, FrameQueue
from ..mirror.levels import Level, is_at_least
from .event_text import valid_time
from .merge import Clock, LineReader, MergedLine, merge

TYPICAL_LINE_BYTES = 512
"""Generous length of a line of output: to find the last N lines, N times as many bytes are read from the end of a file."""
LOG_POLL_INTERVAL_S = 0.2
"""Seconds between two reads of a growing copy."""
LOG_PATIENCE_S = 5.0
"""Seconds to wait for a node that was connected a moment ago."""
BACKLOG_TIMEOUT_S = 120.0
"""Seconds for the lines that a node has written so far; as long as bytes arrive, a log of gigabytes takes no longer."""
CLOCK_TIMEOUT_S = 2.0
"""Seconds for a node to answer three requests for its time."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The lines to show."""

    rank: int | None = None
    nodes: tuple[str, ...] | None = None
    grep: re.Pattern[str] | None = None
    lines: int = 0
    """Number of last lines; 0: all."""
    level: Level = "info"
    """Only lines as serious as this."""
    since: float | None = None
    """Only lines from then on, seconds since 1970; None: all."""

    def matches(self, line: MergedLine) -> bool:
        """Whether this line is to be shown, whatever its time."""
        is_of_rank = self.rank is None or line.rank == self.rank
        return is_of_rank and is_at_least(line.level, self.level) and (self.grep is None or self.grep.search(line.text) is not None)

    @property
    def takes_every_line(self) -> bool:
        """Whether no line is left out, so that the last N lines are found at the end of a file."""
        return self.grep is None and self.rank is None and self.level == "info"


@dataclass(frozen=True, slots=True)
class _ReadContext:
    """What the nodes of one reading share."""

    run_dir: Path
    """The run's directory here; its name is the run id."""
    fleet: Fleet
    patience: float
    """Seconds to wait for a lost node."""


class _NodeLog:
    """The log files of a run on one node, read from the copies here or from the node."""

    def __init__(self, node: str, ranks: tuple[int, ...], clock: Clock, link: Link | None, context: _ReadContext) -> None:
        """``link``: where the node is read; None: its copies are read."""
        self.node, self.clock, self.ranks = node, clock, ranks
        self._link, self._context = link, context
        self._copies = context.run_dir / "nodes" / node
        self.end = 0.0
        """Time of its last event so far, whatever the query leaves out; 0: unknown."""
        self._readers: dict[str, LineReader] = {}
        self._offsets: dict[str, int] = {}

    async def read_backlog(self, query: LogQuery) -> list[list[MergedLine]]:
        """The lines written so far, one list per file; of each file the last ``query.lines`` ones."""
        sizes = await self._sizes()
        lines: dict[str, collections.deque[MergedLine]] = {}
        for name, size in sizes.items():
            is_tail = query.lines and query.takes_every_line and not name.endswith(".jsonl")
            start = max(0, size - TYPICAL_LINE_BYTES * query.lines) if is_tail else 0
            self._offsets[name] = start
            self._readers[name] = LineReader(self.node, name, self.ranks, self.clock, is_cut=start > 0)
            lines[name] = collections.deque(maxlen=query.lines or None)
        async for name, data in self._bytes(sizes):
            for line in self._readers[name].feed(data) if name in lines else ():
                self.end = max(self.end, line.at or 0.0)
                if query.matches(line):
                    lines[name].append(line)
        return [list(file_lines) for file_lines in lines.values()]

    def unterminated_lines(self, query: LogQuery) -> list[MergedLine]:
        """Last lines without a newline yet."""
        return [line for reader in self._readers.values() for line in reader.flush() if query.matches(line)]

    async def follow(self, query: LogQuery, show: Callable[[MergedLine], None]) -> None:
        """Show new lines until the run has ended on this node."""
        async for name, data in self._bytes(None):
            reader = self._readers.setdefault(name, LineReader(self.node, name, self.ranks, self.clock))
            for line in reader.feed(data):
                if query.matches(line):
                    show(line)

    async def _sizes(self) -> dict[str, int]:
        if self._link is None:
            files = [path for path in sorted(self._copies.rglob("*")) if is_regular(path)]
            sizes: dict[str, Any] = {path.relative_to(self._copies).as_posix(): path.stat().st_size for path in files}
        else:
            answer = (await self._link.ask("stat_files", run_id=self._context.run_dir.name)).get("files")
            sizes = answer if isinstance(answer, dict) else {}
        return {name: size for name, size in sizes.items() if is_log_file(name) and isinstance(size, int)}

    def _bytes(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        """Names and bytes of the files, up to these sizes; None: until the run has ended."""
        return self._read_copies(sizes) if self._link is None else self._read_node(sizes)

    async def _read_copies(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            has_ended = (self._copies / "exit.json").exists()
            for name in sizes if sizes is not None else await self._sizes():
                with open_regular(self._copies / name) as file:
                    file.seek(self._offsets.get(name, 0))
                    while data := file.read(1 << 20):
                        self._offsets[name] = file.tell()
                        yield name, data
                        await asyncio.sleep(0)
            if sizes is not None or has_ended:
                return
            if not is_locked(self._context.run_dir):  # no process copies the rest: read the node itself
                async for chunk in self._read_node(None):
                    yield chunk
                return
            await asyncio.sleep(LOG_POLL_INTERVAL_S)

    async def _read_node(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        """Read over a new link whenever one is lost, from where it stopped. Raises NodeUnreachable when no link comes back."""
        while True:
            link = await self._context.fleet.link(self.node, patience=self._context.patience)
            try:
                async for chunk in self._read_link(link, sizes):
                    yield chunk
                return
            except NodeUnreachable:
                await asyncio.sleep(LOG_POLL_INTERVAL_S)  # the fleet notices the loss a little later

    async def _read_link(self, link: Link, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        left = {name for name, size in (sizes or {}).items() if size > self._offsets.get(name, 0)}
        if sizes is not None and not left:
            return
        frames = FrameQueue()
        with frames.listen(link):
            try:
                names = None if sizes is None else sorted(sizes)
                request = {"run_id": self._context.run_dir.name, "gen": frames.gen, "window": FLOW_WINDOW_BYTES, "files": names}
                await link.ask("follow", **request, offsets=self._offsets)
                received = acknowledged = 0
                while (frame := await frames.next_frame()) is not None:
                    message = read_frame(frame)
                    if isinstance(message, StreamFailed):
                        raise FrameRefused(message.reason)
                    if not isinstance(message, FileChunk):
                        return
                    name, data = message.file, message.data
                    if is_log_file(name):
                        if message.offset != (position := self._offsets.get(name, 0)):
                            raise FrameRefused(f"{name} continues at byte {message.offset}, but {position} were read")
                        self._offsets[name] = position + len(data)
                        yield name, data
                    received += len(data)
                    left = {file for file in left if self._offsets.get(file, 0) < (sizes or {})[file]}
                    if sizes is not None and not left:
                        return
                    if received - acknowledged >= FLOW_WINDOW_BYTES // 4:
                        acknowledged = received
                        await link.ask("acknowledge", gen=frames.gen, taken=received)
                raise NodeUnreachable("the link was lost", node=self.node)
            except FrameRefused as error:
                raise WorkFailed(f"corrupt log stream: {error}", node=self.node) from None
            finally:
                with suppress(PacelineError):
                    await link.ask("unfollow", gen=frames.gen)


def is_log_file(name: str) -> bool:
    """Whether a file of a run holds log lines."""
    return name in ("out.log", "events.jsonl") or bool(re.fullmatch(r"ranks/[0-9]{1,5}\.jsonl", name))


async def read_logs(
    row: Document,
    query: LogQuery,
    fleet: Fleet,
    *,
    connected: Collection[str],
    runs: Path,
    show: Callable[[MergedLine], None] | None = None,
    patience: float = math.inf,
) -> Document:
    """The document of the verb, for a run (a row of ``list_runs``).

    ``show``: called with each line instead, until the run has ended. ``patience``: seconds to wait for a lost node.

    A node that cannot be read is named in ``nodes``; the lines of the others are shown. Raises UsageError for a node or a rank that
    is not of the run, and the error of the first node where none can be read.
    """
    context = _ReadContext(runs / row["run_id"], fleet, patience)
    if unknown := [name for name in query.nodes or () if name not in row["nodes"]]:
        raise UsageError(f"run {row['run_id']} is not on {', '.join(unknown)}", hint=f"it is on {', '.join(row['nodes'])}")
    names = [name for name in row["nodes"] if query.nodes is None or name in query.nodes]
    opened, failures = await gather_answers({name: _open_log(name, name in connected, context) for name in names})
    backlogs, unread = await gather_answers({name: log.read_backlog(query) for name, log in opened.items()}, BACKLOG_TIMEOUT_S)
    failures |= unread
    if failures and not backlogs:
        raise next(iter(failures.values()))
    if query.rank is not None and not failures:
        ranks = sorted(rank for log in opened.values() for rank in log.ranks)
        if ranks and query.rank not in ranks:
            where = f"run {row['run_id']}" if query.nodes is None else ", ".join(names)
            raise UsageError(
                f"{where} has no rank {query.rank}",
                hint=f"ranks {', '.join(map(str, ranks[:8]))}" + (" ..." if len(ranks) > 8 else ""),
            )
    logs = [opened[name] for name in backlogs]
    ends = {log.node: log.end for log in logs}
    lines = list(merge([file for files in backlogs.values() for file in files], query.since, ends))
    if show is None:
        lines += [line for log in logs for line in log.unterminated_lines(query)]
    lines = lines[-query.lines :] if query.lines else lines
    if show is not None:
        for line in lines:
            show(line)
        _, lost = await gather_answers({log.node: log.follow(query, show) for log in logs}, math.inf)
        failures |= lost
    return {
        "type": "logs",
        "run_id": row["run_id"],
        "nodes": [_node_state(name, failures.get(name)) for name in names],
        "lines": [] if show else [_line_document(line) for line in lines],
        "clocks": [{"node": log.node, "offset": log.clock.offset, "uncertainty": log.clock.uncertainty} for log in logs],
    }


def _line_document(line: MergedLine) -> Document:
    return {"node": line.node, "rank": line.rank, "at": line.at, "level": line.level, "text": line.text}


def _node_state(name: str, error: PacelineError | None) -> Document:
    """How reading from one node ended: ``ok``, ``lost``, ``refused`` or ``failed``, with the reason."""
    state = "ok" if error is None else {NodeUnreachable: "lost", NodeRefused: "refused"}.get(type(error), "failed")
    return {"name": name, "state": state, "reason": error.reason if error else None}


async def _open_log(node: str, is_connected: bool, context: _ReadContext) -> _NodeLog:
    """The log of one node: its copies where they are complete or the node is out of reach, otherwise the node."""
    copies = context.run_dir / "nodes" / node
    link = await context.fleet.link(node, patience=LOG_PATIENCE_S) if is_connected else None
    clock = await _measure_clock(link) if link is not None else Clock()
    is_copied = copies.exists() and (link is None or (copies / "exit.json").exists())
    plain = read_json(copies / "plan.json")
    if plain is None and link is not None:
        plain = (await link.ask("read_plan", run_id=context.run_dir.name)).get("plan")
    try:
        ranks = next((part.ranks for part in from_plain(Plan, plain).nodes if part.name == node), ())
    except ValueError:
        ranks = ()
    if link is None and not copies.exists():
        await context.fleet.link(node, patience=0.0)  # raises the reason why it is out of reach
    return _NodeLog(node, ranks, clock, None if is_copied else link, context)


async def measure_clocks(nodes: Collection[str], fleet: Fleet) -> dict[str, Clock]:
    """Clock offsets of these nodes; a node that does not answer at once is left out."""

    async def measure(name: str) -> Clock:
        with suppress(PacelineError, TimeoutError):
            async with asyncio.timeout(CLOCK_TIMEOUT_S):  # wait_for of 3.11 may swallow a cancellation
                return await _measure_clock(await fleet.link(name, patience=0.0))
        return Clock()

    clocks = zip(nodes, await gather_all(measure(name) for name in nodes), strict=True)
    return {name: clock for name, clock in clocks if clock.uncertainty is not None}


async def _measure_clock(link: Link) -> Clock:
    """The offset of the node's clock: of three round trips, the shortest one counts."""
    best = Clock(uncertainty=float("inf"))
    for _ in range(3):
        before = time.time()
        node_time = valid_time((await link.ask("read_clock")).get("time"))
        after = time.time()
        if node_time is not None and (after - before) / 2 < (best.uncertainty or 0.0):
            best = Clock(node_time - (before + after) / 2, (after - before) / 2)
    return best if best.uncertainty != float("inf") else Clock()
