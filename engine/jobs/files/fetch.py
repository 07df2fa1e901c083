"""Fetching: checkpoints and other files of a run from its nodes into a directory each, and nowhere else.

What a file is called and what it holds is the node's word; where it lands is ours. A file has its name once it is whole and its
SHA-256 is the node's; what stands there already is never written over. Broken off at any moment, a fetch goes on where it was.
"""

from __future__ import annotations

import asyncio
import base64
import collections
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, StorageFailed, UsageError, WorkFailed
from ...events import Event, Progress
from ...ssh.fleet import Fleet
from ..gather import gather_all
from ..retry import call_with_retry
from .safe_names import RefusedFile, RemoteFile, check_entries, matching
from .safe_write import DownloadDir, PartialFile

Row = dict[str, Any]
PIECE = 256 << 10
"""Bytes of one answer at most."""
WINDOW = 8
"""Pieces asked for ahead, so that a far node is not waited for once a piece."""
ANSWER = 60.0
"""Seconds until an answer that does not come counts as a dead node; a sum of a large file may take longer, at ``READ_RATE``."""
READ_RATE = 20e6
"""Bytes a second that any disk of a node reads."""


async def fetch(
    row: Row,
    patterns: Sequence[str],
    to: Path,
    fleet: Fleet,
    reached: Sequence[str],
    publish: Callable[[Event], None],
    patience: float = 30.0,
) -> Row:
    """Fetch from every node of a run (a row of the roster) into ``to``/<node>. ``patience``: seconds a lost link is waited for.

    Gives {run_id, directory, state, nodes: [{name, state, reason}], files: [{node, name, size, state, reason}]}; a file is
    ``fetched``, ``present`` (the same bytes were there), ``kept`` (others are), ``refused``, ``skipped`` or ``failed``.
    Raises StorageFailed when there is no space here.
    """
    parts = [_Node(name, row["run_id"], to, fleet, publish, patience) for name in row["nodes"]]
    rows = await gather_all(part.fetch(patterns, part.name in reached) for part in parts)
    nodes, files = [node for node, _ in rows], [file for _, found in rows for file in found]
    is_whole = all(node["state"] == "ok" for node in nodes) and all(
        file["state"] in ("fetched", "present", "skipped") for file in files
    )
    state = "done" if is_whole else "incomplete"
    return {"type": "fetch", "run_id": row["run_id"], "directory": str(to), "state": state, "nodes": nodes, "files": files}


class _Node:
    """One node's part of a fetch."""

    def __init__(self, name: str, run_id: str, to: Path, fleet: Fleet, publish: Callable[[Event], None], patience: float) -> None:
        self.name = name
        self._run_id, self._to, self._fleet, self._publish, self._patience = run_id, to, fleet, publish, patience
        self._files: list[Row] = []

    async def fetch(self, patterns: Sequence[str], is_reached: bool) -> tuple[Row, list[Row]]:
        """The node and its files, as the document has them."""
        state, reason = "ok", None
        try:
            if not is_reached:
                raise NodeUnreachable("out of reach")
            await self._fetch(patterns)
        except (NodeUnreachable, NodeRefused) as error:
            state, reason = "lost" if isinstance(error, NodeUnreachable) else "refused", error.reason
        except UsageError as error:  # the node does not know the run any more
            state, reason = "ok", error.reason
        except WorkFailed as error:
            if error.node is None:  # ours, and so everybody's
                raise
            state, reason = "failed", error.reason
        return {"name": self.name, "state": state, "reason": reason}, self._files

    async def _fetch(self, patterns: Sequence[str]) -> None:
        answer = await self._ask("listing")
        offers, refusals = check_entries(answer.get("entries"))
        chosen = set(matching([offer.name for offer in offers], patterns))
        offers = [offer for offer in offers if offer.name in chosen]
        if answer.get("is_cut"):
            refusals.append(RefusedFile("", "refused", "there is more on this node than one list holds: name a pattern"))
        for refusal in refusals:
            if not patterns or matching([refusal.name], patterns):
                self._tell(refusal.name, None, refusal.state, refusal.reason)
        if not offers:
            return
        landing = DownloadDir(self._to, self.name)
        try:
            landing.keep_only(offers)
            for number, offer in enumerate(offers):
                phase = f"fetching file {number + 1} of {len(offers)} from {self.name}"
                self._publish(Progress(phase=phase, fraction=number / len(offers)))
                await self._fetch_one(landing, offer)
        finally:
            landing.close()

    async def _fetch_one(self, landing: DownloadDir, offer: RemoteFile) -> None:
        try:
            state, reason = await self._bring(landing, offer)
        except WorkFailed as error:
            if isinstance(error, StorageFailed) and error.node is None:  # ours, not the node's: nothing more fits
                raise
            state, reason = "failed", error.reason
        self._tell(offer.name, offer.size, state, reason)

    async def _bring(self, landing: DownloadDir, offer: RemoteFile) -> tuple[str, str | None]:
        """One file: its state, and why it is not here."""
        here = await asyncio.to_thread(landing.checksum, offer.name)
        if here is not None:
            landing.discard(offer)
            if here["length"] == offer.size and here == await self._seal(offer):
                return "present", None
            return "kept", "something else stands under this name here"
        with landing.part(offer) as part:
            if (missing := offer.size - part.length) > (free := landing.free()):
                reason = f"no space for {offer.name!r} of {self.name}: {missing} bytes more, {free} are free"
                raise StorageFailed(reason, hint="what is whole stays; free some space, or name another place with --to")
            await self._fill(part, offer)
            is_whole = await asyncio.to_thread(part.checksum) == await self._seal(offer)
        if not is_whole:
            landing.discard(offer)
            return "failed", "it changed on the node meanwhile: fetch again"
        try:
            landing.finish(offer)
        except FileExistsError:
            return "kept", "something appeared under this name meanwhile"
        return "fetched", None

    async def _fill(self, part: PartialFile, offer: RemoteFile) -> None:
        async for data in self._pieces(offer, part.length):
            if len(data) > offer.size - part.length or not data:
                return  # longer or shorter than was said: the sums will tell
            part.add(data)

    async def _pieces(self, offer: RemoteFile, start: int) -> AsyncIterator[bytes]:
        """The bytes of a file from an offset on, in order, asked for a window ahead."""
        window: collections.deque[tuple[int, asyncio.Task[Row]]] = collections.deque()
        offset = start
        try:
            while offset < offer.size or window:
                while offset < offer.size and len(window) < WINDOW:
                    window.append((offset, asyncio.create_task(self._ask("read", name=offer.name, offset=offset))))
                    offset += PIECE
                at, asked = window.popleft()
                data = _bytes_of(await asked, self.name)
                if len(data) != min(PIECE, offer.size - at):
                    return
                yield data
        finally:
            for _, asked in window:
                asked.cancel()
            await asyncio.gather(*(asked for _, asked in window), return_exceptions=True)

    async def _seal(self, offer: RemoteFile) -> Row:
        found = await self._ask("seal", ANSWER + offer.size / READ_RATE, name=offer.name)
        return {"length": found.get("length"), "sha256": found.get("sha256")}

    async def _ask(self, word: str, limit: float = ANSWER, **body: Any) -> Row:
        """One request. A link that breaks is waited for, and the same is asked again: asking changes nothing on the node."""
        try:
            async with asyncio.timeout(limit + self._patience):  # wait_for of 3.11 may swallow a cancellation
                return await call_with_retry(self._fleet, self.name, word, self._patience, run_id=self._run_id, **body)
        except TimeoutError:
            raise NodeUnreachable(f"no answer for {limit:.0f} s", node=self.name) from None

    def _tell(self, name: str, size: int | None, state: str, reason: str | None) -> None:
        self._files.append({"node": self.name, "name": name, "size": size, "state": state, "reason": reason})


def _bytes_of(answer: Row, node: str) -> bytes:
    data = answer.get("data")
    try:
        if not isinstance(data, str) or len(data) > 4 * PIECE:
            raise ValueError
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise WorkFailed("sent something that is no piece of a file", node=node) from None
