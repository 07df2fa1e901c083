"""What a run wrote: the output of every node and the events of its ranks, merged for a person who reads.

From the copies where a run is followed here or came home, else straight from its nodes. The order within a file never changes.
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

from ...protocol.frames import FrameRefused, FileChunk, StreamFailed, read_frame
from ...protocol.run_files import is_taken
from ...protocol.json_files import read_json
from ...errors import NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...plan import Plan
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ...wire import from_plain
from ..mirror.frame_queue import WINDOW, FrameQueue
from .merge import Clock, MergedLine, LineReader, merge
from ..gather import gather_all
from .event_text import wall_time

Document = dict[str, Any]
USUAL = 512
"""Bytes of a line of output, generously: how far from the end of a file its last lines are looked for."""
LOOK = 0.2
"""Seconds between two looks at a growing copy."""


CLOCK_ANSWER = 2.0
"""Seconds for a node to tell its time three times."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What a person wants to read."""

    rank: int | None = None
    nodes: tuple[str, ...] | None = None
    grep: re.Pattern[str] | None = None
    lines: int = 0
    """The last so many; 0: all."""

    def takes(self, line: MergedLine) -> bool:
        """Whether this line is asked for."""
        return (self.rank is None or line.rank == self.rank) and (self.grep is None or self.grep.search(line.text) is not None)


class _Source:
    """The files of one node, wherever they are read."""

    def __init__(
        self, node: str, ranks: tuple[int, ...], clock: Clock, link: Link | None, path: Path, fleet: Fleet, patience: float
    ) -> None:
        self.node, self.clock = node, clock
        self._ranks, self._link, self._path, self._fleet, self._patience = ranks, link, path, fleet, patience
        self._copies, self._run_id = path / "nodes" / node, path.name
        self._open: dict[str, LineReader] = {}
        self._offsets: dict[str, int] = {}

    async def past(self, wish: LogQuery) -> list[list[MergedLine]]:
        """What is there now, a list a file: of each the last lines that are wanted."""
        sizes = await self._sizes()
        found: dict[str, collections.deque[MergedLine]] = {}
        for name, size in sizes.items():
            is_near = wish.lines and wish.grep is None and wish.rank is None and not name.endswith(".jsonl")
            start = max(0, size - USUAL * wish.lines) if is_near else 0
            self._offsets[name] = start
            self._open[name] = LineReader(self.node, name, self._ranks, self.clock, is_cut=start > 0)
            found[name] = collections.deque(maxlen=wish.lines or None)
        async for name, data in self._bytes(sizes):
            if name in found:
                found[name].extend(line for line in self._open[name].feed(data) if wish.takes(line))
        return [list(lines) for lines in found.values()]

    def last(self, wish: LogQuery) -> list[MergedLine]:
        """Lines that have no end yet."""
        return [line for lines in self._open.values() for line in lines.end() if wish.takes(line)]

    async def growth(self, wish: LogQuery, show: Callable[[MergedLine], None]) -> None:
        """Show what is written from now on, until the run has ended on this node."""
        async for name, data in self._bytes(None):
            lines = self._open.setdefault(name, LineReader(self.node, name, self._ranks, self.clock))
            for line in lines.feed(data):
                if wish.takes(line):
                    show(line)

    async def _sizes(self) -> dict[str, int]:
        if self._link is None:
            files = [path for path in sorted(self._copies.rglob("*")) if path.is_file()]
            known: dict[str, Any] = {path.relative_to(self._copies).as_posix(): path.stat().st_size for path in files}
        else:
            answer = (await self._link.ask("files", run_id=self._run_id)).get("files")
            known = answer if isinstance(answer, dict) else {}
        return {name: size for name, size in known.items() if is_read(name) and isinstance(size, int)}

    def _bytes(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        """Pieces of the files: up to these sizes; None: until the run has ended."""
        return self._copied(sizes) if self._link is None else self._sent(sizes)

    async def _copied(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            has_ended = (self._copies / "exit.json").exists()
            for name in sizes if sizes is not None else await self._sizes():
                with (self._copies / name).open("rb") as file:
                    file.seek(self._offsets.get(name, 0))
                    while data := file.read(1 << 20):
                        self._offsets[name] = file.tell()
                        yield name, data
                        await asyncio.sleep(0)
            if sizes is not None or has_ended:
                return
            if not is_taken(self._path):  # nobody brings the rest here: the node itself has to tell it
                async for piece in self._sent(None):
                    yield piece
                return
            await asyncio.sleep(LOOK)

    async def _sent(self, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        """Over as many links as it takes: what was read is not asked for again. Raises NodeUnreachable when none comes back."""
        while True:
            link = await self._fleet.link(self.node, patience=self._patience)
            try:
                async for piece in self._asked(link, sizes):
                    yield piece
                return
            except NodeUnreachable:
                await asyncio.sleep(LOOK)  # the fleet learns of the loss in its own time

    async def _asked(self, link: Link, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        left = {name for name, size in (sizes or {}).items() if size > self._offsets.get(name, 0)}
        if sizes is not None and not left:
            return
        inbox = FrameQueue()
        with inbox.open(link):
            try:
                names = None if sizes is None else sorted(sizes)
                asked = {"run_id": self._run_id, "gen": inbox.gen, "window": WINDOW, "files": names}
                await link.ask("follow", **asked, offsets=self._offsets)
                taken = told = 0
                while (frame := await inbox.next()) is not None:
                    told_now = read_frame(frame)
                    if isinstance(told_now, StreamFailed):
                        raise FrameRefused(told_now.reason)
                    if not isinstance(told_now, FileChunk):
                        return
                    name, data = told_now.file, told_now.data
                    if is_read(name):
                        if told_now.offset != (here := self._offsets.get(name, 0)):
                            raise FrameRefused(f"{name} continues at byte {told_now.offset}, but {here} were read")
                        self._offsets[name] = here + len(data)
                        yield name, data
                    taken += len(data)
                    left = {one for one in left if self._offsets.get(one, 0) < (sizes or {})[one]}
                    if sizes is not None and not left:
                        return
                    if taken - told >= WINDOW // 4:
                        told = taken
                        await link.ask("acknowledge", gen=inbox.gen, taken=taken)
                raise NodeUnreachable("the link was lost", node=self.node)
            except FrameRefused as error:
                raise WorkFailed(f"its log does not fit: {error}", node=self.node) from None
            finally:
                with suppress(PacelineError):
                    await link.ask("unfollow", gen=inbox.gen)


def is_read(name: str) -> bool:
    """Whether a file of a run holds lines for a reader."""
    return name in ("out.log", "events.jsonl") or bool(re.fullmatch(r"ranks/[0-9]{1,5}\.jsonl", name))


async def read_logs(
    row: Document,
    wish: LogQuery,
    fleet: Fleet,
    reached: Collection[str],
    runs: Path,
    show: Callable[[MergedLine], None] | None = None,
    patience: float = math.inf,
) -> Document:
    """The lines of a run (a row of the roster). ``show``: hand them out one by one instead, and go on until the run has ended.

    ``patience``: seconds a lost node is waited for. Raises UsageError for a node that is not of the run, NodeUnreachable where
    neither the node nor a copy tells.
    """
    path = runs / row["run_id"]
    if strangers := [name for name in wish.nodes or () if name not in row["nodes"]]:
        raise UsageError(f"run {row['run_id']} is not on {', '.join(strangers)}", hint=f"it is on {', '.join(row['nodes'])}")
    wanted = [name for name in row["nodes"] if wish.nodes is None or name in wish.nodes]
    sources = await gather_all(_source(name, fleet, name in reached, path, patience) for name in wanted)
    found = await gather_all(source.past(wish) for source in sources)
    lines = list(merge([file for files in found for file in files]))
    if show is None:
        lines += [line for source in sources for line in source.last(wish)]
    lines = lines[-wish.lines :] if wish.lines else lines
    if show is not None:
        for line in lines:
            show(line)
        await gather_all(source.growth(wish, show) for source in sources)
    return {
        "type": "logs",
        "run_id": row["run_id"],
        "lines": [] if show else [{"node": one.node, "rank": one.rank, "at": one.at, "text": one.text} for one in lines],
        "clocks": [{"node": one.node, "offset": one.clock.offset, "uncertainty": one.clock.uncertainty} for one in sources],
    }


async def _source(node: str, fleet: Fleet, is_reached: bool, path: Path, patience: float) -> _Source:
    """Where the node's part is read: here if it has come home or is coming, else there."""
    copies = path / "nodes" / node
    link = await fleet.link(node, patience=5.0) if is_reached else None
    clock = await _clock(link) if link is not None else Clock()
    is_here = copies.exists() and (link is None or (copies / "exit.json").exists())
    plain = read_json(copies / "plan.json")
    if plain is None and link is not None:
        plain = (await link.ask("plan", run_id=path.name)).get("plan")
    try:
        ranks = next((found.ranks for found in from_plain(Plan, plain).nodes if found.name == node), ())
    except ValueError:
        ranks = ()
    if link is None and not copies.exists():
        await fleet.link(node, patience=0.0)  # raises why it is out of reach
    return _Source(node, ranks, clock, None if is_here else link, path, fleet, patience)


async def clocks(nodes: Collection[str], fleet: Fleet) -> dict[str, Clock]:
    """How the clocks of these nodes differ from ours; those that do not answer at once are left out."""

    async def measured(name: str) -> Clock:
        with suppress(PacelineError, TimeoutError):
            async with asyncio.timeout(CLOCK_ANSWER):  # wait_for of 3.11 may swallow a cancellation
                return await _clock(await fleet.link(name, patience=0.0))
        return Clock()

    found = zip(nodes, await gather_all(measured(name) for name in nodes), strict=True)
    return {name: clock for name, clock in found if clock.uncertainty is not None}


async def _clock(link: Link) -> Clock:
    """The node's clock against ours: of three questions the one that was answered fastest."""
    best = Clock(uncertainty=float("inf"))
    for _ in range(3):
        before = time.time()
        there = wall_time((await link.ask("clock")).get("time"))
        after = time.time()
        if there is not None and (after - before) / 2 < (best.uncertainty or 0.0):
            best = Clock(there - (before + after) / 2, (after - before) / 2)
    return best if best.uncertainty != float("inf") else Clock()
