"""What a run wrote: the output of every node and the events of its ranks, merged for a person who reads.

From the copies where a run is followed here or came home, else straight from its nodes. The order within a file never changes.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agent.frames import FrameRefused, Piece, read_frame
from ..agent.rundir import read_json
from ..errors import PacelineError, UsageError, WorkFailed
from ..plan import Plan
from ..ssh.fleet import Fleet
from ..ssh.link import Link
from ..wire import from_plain
from .inbox import WINDOW, Inbox
from .together import together

Document = dict[str, Any]
LONGEST = 16 << 10
"""Bytes of a line that are shown as one."""
USUAL = 512
"""Bytes of a line of output, generously: how far from the end of a file its last lines are looked for."""
LOOK = 0.2
"""Seconds between two looks at a growing copy."""
_RANK = re.compile(r"\[(?:rank ?)?(\d{1,5})\]:? ?")
_QUIET = frozenset({"StepsTaken", "RankEpochEnded", "ReadingsKept"})
"""Events that are figures for a chart, not words for a reader."""
_KNOWN = ("kind", "node_time", "rank", "node", "run_id", "at")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants to read."""

    rank: int | None = None
    nodes: tuple[str, ...] | None = None
    grep: re.Pattern[str] | None = None
    lines: int = 0
    """The last so many; 0: all."""

    def takes(self, line: Line) -> bool:
        """Whether this line is asked for."""
        return (self.rank is None or line.rank == self.rank) and (self.grep is None or self.grep.search(line.text) is not None)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a node's file."""

    node: str
    rank: int | None
    at: float | None
    """Clock of this machine, seconds since 1970; None: the line carries no time."""
    text: str
    """As the node wrote it: hostile until it has passed the gate."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How a node's clock differs from ours, in seconds."""

    offset: float = 0.0
    uncertainty: float | None = None


class Lines:
    """Bytes of one file in, whole lines out."""

    def __init__(self, node: str, name: str, ranks: tuple[int, ...], clock: Clock, is_cut: bool = False) -> None:
        """``ranks``: those of the node, ``is_cut``: the first bytes are the rest of a line that is not wanted."""
        self._node, self._ranks, self._clock = node, ranks, clock
        self._is_events = name.endswith(".jsonl")
        self._rest, self._is_cut = b"", is_cut

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that these bytes end."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            yield from self._lines(line)
        while len(self._rest) > LONGEST and not self._is_events:
            head, self._rest = self._rest[:LONGEST], self._rest[LONGEST:]
            yield from self._lines(head)

    def end(self) -> Iterator[Line]:
        """A last line without its end."""
        if self._rest:
            yield from self._lines(self._rest)

    def _lines(self, line: bytes) -> Iterator[Line]:
        if self._is_cut:
            self._is_cut = False
        elif self._is_events:
            yield from self._event(line)
        else:
            text = line.decode(errors="backslashreplace").rstrip("\r")
            named = _RANK.match(text)
            rank = int(named[1]) if named else self._ranks[0] if len(self._ranks) == 1 else None
            yield Line(self._node, rank, None, text)

    def _event(self, line: bytes) -> Iterator[Line]:
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if not isinstance(event, dict) or event.get("kind") in _QUIET:
                return
            at, rank = event.get("node_time"), event.get("rank", 0 if self._is_rank(event) else None)
            words = " ".join(f"{key}={_word(value)}" for key, value in event.items() if key not in _KNOWN)
            at = at - self._clock.offset if isinstance(at, (int, float)) and not isinstance(at, bool) else None
            is_rank = isinstance(rank, int) and not isinstance(rank, bool)
            yield Line(self._node, rank if is_rank else None, at, f"{event.get('kind')} {words}".strip()[:LONGEST])

    def _is_rank(self, event: dict[str, Any]) -> bool:
        return "case" in event


def _word(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def merged(files: Sequence[Sequence[Line]]) -> Iterator[Line]:
    """Lines of many files in one order. Within a file it never changes; between files it is by time, where lines carry one.

    A line without goes where the one before it went; a file that knows no times, as the output of a program, stands in one piece
    before the last event of its node: there a person looks for what went wrong.
    """
    last: dict[str, float] = {}
    for lines in files:
        for line in lines:
            last[line.node] = max(last.get(line.node, 0.0), line.at or 0.0)

    def placed(lines: Sequence[Line]) -> Iterator[tuple[tuple[float, int], Line]]:
        if all(line.at is None for line in lines):
            yield from (((last[line.node], 0), line) for line in lines)
            return
        at = 0.0
        for line in lines:
            at = max(at, line.at or 0.0)
            yield (at, 1), line

    return (line for _, line in heapq.merge(*(placed(lines) for lines in files), key=lambda pair: pair[0]))


class _Source:
    """The files of one node, wherever they are read."""

    def __init__(self, node: str, ranks: tuple[int, ...], clock: Clock, link: Link | None, copies: Path, run_id: str) -> None:
        self.node, self.clock = node, clock
        self._ranks, self._link, self._copies, self._run_id = ranks, link, copies, run_id
        self._open: dict[str, Lines] = {}
        self._offsets: dict[str, int] = {}

    async def past(self, wish: Wish) -> list[list[Line]]:
        """What is there now, a list a file: of each the last lines that are wanted."""
        sizes = await self._sizes()
        found: dict[str, collections.deque[Line]] = {}
        for name, size in sizes.items():
            is_near = wish.lines and wish.grep is None and wish.rank is None and not name.endswith(".jsonl")
            start = max(0, size - USUAL * wish.lines) if is_near else 0
            self._offsets[name] = start
            self._open[name] = Lines(self.node, name, self._ranks, self.clock, is_cut=start > 0)
            found[name] = collections.deque(maxlen=wish.lines or None)
        async for name, data in self._bytes(sizes):
            if name in found:
                found[name].extend(line for line in self._open[name].feed(data) if wish.takes(line))
        return [list(lines) for lines in found.values()]

    def last(self, wish: Wish) -> list[Line]:
        """Lines that have no end yet."""
        return [line for lines in self._open.values() for line in lines.end() if wish.takes(line)]

    async def growth(self, wish: Wish, show: Callable[[Line], None]) -> None:
        """Show what is written from now on, until the run has ended on this node."""
        async for name, data in self._bytes(None):
            lines = self._open.setdefault(name, Lines(self.node, name, self._ranks, self.clock))
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
        return self._copied(sizes) if self._link is None else self._sent(self._link, sizes)

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
            await asyncio.sleep(LOOK)

    async def _sent(self, link: Link, sizes: dict[str, int] | None) -> AsyncIterator[tuple[str, bytes]]:
        left = {name for name, size in (sizes or {}).items() if size > self._offsets.get(name, 0)}
        if sizes is not None and not left:
            return
        inbox = Inbox()
        stop = link.on_frame(inbox.hear)
        link.lost.add_done_callback(lambda _: inbox.close())
        try:
            names = None if sizes is None else sorted(sizes)
            asked = {"run_id": self._run_id, "gen": inbox.gen, "window": WINDOW, "files": names}
            await link.ask("follow", **asked, offsets=self._offsets)
            taken = told = 0
            while (frame := await inbox.next()) is not None and isinstance(said := read_frame(frame), Piece):
                if is_read(said.file) and said.offset == self._offsets.get(said.file, 0):
                    self._offsets[said.file] = said.offset + len(said.data)
                    yield said.file, said.data
                taken += len(said.data)
                left.discard(said.file if sizes and self._offsets.get(said.file, 0) >= sizes.get(said.file, 0) else "")
                if sizes is not None and not left:
                    return
                if taken - told >= WINDOW // 4:
                    told = taken
                    await link.ask("acknowledge", gen=inbox.gen, taken=taken)
        except FrameRefused as error:
            raise WorkFailed(f"its log does not fit: {error}", node=self.node) from None
        finally:
            stop()
            with suppress(PacelineError):
                await link.ask("unfollow", gen=inbox.gen)


def is_read(name: str) -> bool:
    """Whether a file of a run holds lines for a reader."""
    return name in ("out.log", "events.jsonl") or bool(re.fullmatch(r"ranks/[0-9]{1,5}\.jsonl", name))


async def logs(
    row: Document, wish: Wish, fleet: Fleet, reached: Collection[str], runs: Path, show: Callable[[Line], None] | None = None
) -> Document:
    """The lines of a run (a row of the roster). ``show``: hand them out one by one instead, and go on until the run has ended.

    Raises UsageError for a node that is not of the run, NodeUnreachable where neither the node nor a copy tells.
    """
    path = runs / row["run_id"]
    if strangers := [name for name in wish.nodes or () if name not in row["nodes"]]:
        raise UsageError(f"run {row['run_id']} is not on {', '.join(strangers)}", hint=f"it is on {', '.join(row['nodes'])}")
    wanted = [name for name in row["nodes"] if wish.nodes is None or name in wish.nodes]
    sources = await together(_source(name, fleet, name in reached, path) for name in wanted)
    found = await together(source.past(wish) for source in sources)
    lines = list(merged([file for files in found for file in files]))
    if show is None:
        lines += [line for source in sources for line in source.last(wish)]
    lines = lines[-wish.lines :] if wish.lines else lines
    if show is not None:
        for line in lines:
            show(line)
        await together(source.growth(wish, show) for source in sources)
    return {
        "run_id": row["run_id"],
        "lines": [] if show else [{"node": one.node, "rank": one.rank, "at": one.at, "text": one.text} for one in lines],
        "clocks": [{"node": one.node, "offset": one.clock.offset, "uncertainty": one.clock.uncertainty} for one in sources],
    }


async def _source(node: str, fleet: Fleet, is_reached: bool, path: Path) -> _Source:
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
    return _Source(node, ranks, clock, None if is_here else link, copies, path.name)


async def _clock(link: Link) -> Clock:
    """The node's clock against ours: of three questions the one that was answered fastest."""
    best = Clock(uncertainty=float("inf"))
    for _ in range(3):
        before = time.time()
        there = (await link.ask("clock")).get("time")
        after = time.time()
        if isinstance(there, (int, float)) and (after - before) / 2 < (best.uncertainty or 0.0):
            best = Clock(there - (before + after) / 2, (after - before) / 2)
    return best if best.uncertainty != float("inf") else Clock()
