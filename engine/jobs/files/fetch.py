"""The verb ``fetch``: copy checkpoints and other files of a run from its nodes, one directory per node.

A node chooses the name and bytes of a file, never its directory. A file gets its name when it is complete and its SHA-256 equals
the node's; an existing file is never overwritten. An interrupted fetch continues where it stopped.
"""

from __future__ import annotations

import asyncio
import base64
import collections
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, StorageFailed, UsageError, WorkFailed
from ...events import Progress
from ...protocol.messages import Body
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...states import FileStatus, NodeFetchStatus
from ...telemetry.bus import Publish
from ..gather import gather_all
from ..retry import call_with_retry
from .safe_names import RefusedFile, RemoteFile, check_entries, match_names
from .safe_write import DownloadDir, PartialFile

MAX_OFFERED = 8
"""Files and directories that are named where a pattern matches none."""
CHUNK_BYTES = 256 << 10
"""Maximum bytes of one answer."""
READ_AHEAD_CHUNKS = 8
"""Chunks requested ahead, so that a transfer does not wait one round trip per chunk."""
READ_TIMEOUT_S = 60.0
"""Seconds until an answer that does not come counts as a dead node; a sum of a large file may take longer, at ``READ_RATE``."""
MIN_READ_BYTES_PER_S = 20e6
"""Bytes per second that the slowest expected disk reads."""


async def fetch(
    row: Document,
    patterns: Sequence[str],
    directory: Path,
    fleet: Fleet,
    *,
    connected: Sequence[str],
    publish: Publish,
    patience: float = 30.0,
) -> Document:
    """Fetch from every node of a run (a row of ``list_runs``) into ``directory``/<node>.

    ``patience``: seconds to wait for a lost link. Returns {run_id, directory, state, nodes: [{name, state, reason}],
    files: [{node, name, size, state, reason}]}. A file is ``fetched``, ``present`` (the same bytes were here), ``kept`` (other
    bytes were here), ``refused``, ``skipped`` or ``failed``.

    Raises StorageFailed when the disk here is full.
    """
    context = _FetchContext(row["run_id"], directory, fleet, publish, patience)
    fetches = [_NodeFetch(name, context) for name in row["nodes"]]
    rows = await gather_all(node_fetch.fetch(patterns, node_fetch.name in connected) for node_fetch in fetches)
    nodes, files = [node for node, _ in rows], [file for _, node_files in rows for file in node_files]
    is_complete = all(node["state"] == "ok" for node in nodes) and all(
        file["state"] in ("fetched", "present", "skipped") for file in files
    )
    is_complete = is_complete and (bool(files) or not patterns)
    return {
        "type": "fetch",
        "run_id": row["run_id"],
        "directory": str(directory),
        "state": "done" if is_complete else "incomplete",
        "nodes": nodes,
        "files": files,
    }


@dataclass(frozen=True, slots=True)
class _FetchContext:
    """What the nodes of one fetch share."""

    run_id: str
    directory: Path
    fleet: Fleet
    publish: Publish
    patience: float
    """Seconds to wait for a lost link."""


class _NodeFetch:
    """The fetch from one node."""

    def __init__(self, name: str, context: _FetchContext) -> None:
        self.name = name
        self._context = context
        self._files: list[Document] = []

    async def fetch(self, patterns: Sequence[str], is_connected: bool) -> tuple[Document, list[Document]]:
        """The node and its files, as the document lists them."""
        state: NodeFetchStatus = "ok"
        reason: str | None = None
        try:
            if not is_connected:
                raise NodeUnreachable("out of reach")
            reason = await self._fetch(patterns)
        except (NodeUnreachable, NodeRefused) as error:
            state, reason = "lost" if isinstance(error, NodeUnreachable) else "refused", error.reason
        except UsageError as error:  # the run was removed from the node
            state, reason = "ok", error.reason
        except WorkFailed as error:
            if error.node is None:  # the disk here, which all nodes share
                raise
            state, reason = "failed", error.reason
        return {"name": self.name, "state": state, "reason": reason}, self._files

    async def _fetch(self, patterns: Sequence[str]) -> str | None:
        """Fetch the chosen files; where there is none, returns what there is."""
        answer = await self._ask("list_files")
        entries, refusals = check_entries(answer.get("entries"))
        names = [file.name for file in entries]
        chosen = set(match_names(names, patterns))
        entries = [file for file in entries if file.name in chosen]
        if answer.get("is_cut"):
            refusals.append(RefusedFile("", "refused", "the node has more files than one list holds: give a pattern"))
        for refusal in refusals:
            if not patterns or match_names([refusal.name], patterns):
                self._add_row(refusal.name, None, refusal.state, refusal.reason)
        if not entries:
            return _nothing_reason(names, patterns)
        target = DownloadDir(self._context.directory, self.name)
        try:
            target.discard_stale_parts(entries)
            for number, file in enumerate(entries):
                phase = f"fetching file {number + 1} of {len(entries)} from {self.name}"
                self._context.publish(Progress(phase=phase, fraction=number / len(entries)))
                await self._fetch_one(target, file)
        finally:
            target.close()
        return None

    async def _fetch_one(self, target: DownloadDir, file: RemoteFile) -> None:
        state: FileStatus
        reason: str | None
        try:
            state, reason = await self._transfer(target, file)
        except WorkFailed as error:
            if isinstance(error, StorageFailed) and error.node is None:  # the disk here is full
                raise
            state, reason = "failed", error.reason
        self._add_row(file.name, file.size, state, reason)

    async def _transfer(self, target: DownloadDir, file: RemoteFile) -> tuple[FileStatus, str | None]:
        """Transfer one file; returns its state, and the reason where it is not here."""
        existing = await asyncio.to_thread(target.checksum, file.name)
        if existing is not None:
            target.discard(file)
            if existing["length"] == file.size and existing == await self._remote_checksum(file):
                return "present", None
            return "kept", "a different file with this name exists here"
        with target.open_part(file) as part:
            if (missing := file.size - part.length) > (free := target.free_bytes()):
                reason = f"no space for {file.name!r} of {self.name}: {missing} bytes more, {free} are free"
                raise StorageFailed(reason, hint="complete files stay; free some space, or give another directory with --to")
            await self._fill(part, file)
            is_complete = await asyncio.to_thread(part.checksum) == await self._remote_checksum(file)
        if not is_complete:
            target.discard(file)
            return "failed", "it changed on the node during the transfer: fetch again"
        try:
            target.finish(file)
        except FileExistsError:
            return "kept", "a file with this name appeared here during the transfer"
        return "fetched", None

    async def _fill(self, part: PartialFile, file: RemoteFile) -> None:
        async for data in self._chunks(file, part.length):
            if len(data) > file.size - part.length or not data:
                return  # not the announced length: the checksums will differ
            part.add(data)

    async def _chunks(self, file: RemoteFile, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a file from an offset on, in order, requested ahead."""
        pending: collections.deque[tuple[int, asyncio.Task[Body]]] = collections.deque()
        try:
            while offset < file.size or pending:
                while offset < file.size and len(pending) < READ_AHEAD_CHUNKS:
                    pending.append((offset, asyncio.create_task(self._ask("read_file", name=file.name, offset=offset))))
                    offset += CHUNK_BYTES
                start, request = pending.popleft()
                data = _decode_chunk(await request, self.name)
                if len(data) != min(CHUNK_BYTES, file.size - start):
                    return
                yield data
        finally:
            for _, request in pending:
                request.cancel()
            await asyncio.gather(*(request for _, request in pending), return_exceptions=True)

    async def _remote_checksum(self, file: RemoteFile) -> Body:
        answer = await self._ask("checksum", READ_TIMEOUT_S + file.size / MIN_READ_BYTES_PER_S, name=file.name)
        return {"length": answer.get("length"), "sha256": answer.get("sha256")}

    async def _ask(self, request: str, limit: float = READ_TIMEOUT_S, **body: Any) -> Body:
        """The answer to one request, sent again after a lost link: every request here is idempotent."""
        try:
            async with asyncio.timeout(limit + self._context.patience):  # wait_for of 3.11 may swallow a cancellation
                context = self._context
                return await call_with_retry(context.fleet, self.name, request, context.patience, run_id=context.run_id, **body)
        except TimeoutError:
            raise NodeUnreachable(f"no answer for {limit:.0f} s", node=self.name) from None

    def _add_row(self, name: str, size: int | None, state: FileStatus, reason: str | None) -> None:
        self._files.append({"node": self.name, "name": name, "size": size, "state": state, "reason": reason})


def _nothing_reason(names: Sequence[str], patterns: Sequence[str]) -> str:
    """Why nothing was chosen of these files, and what there is."""
    offered = list(dict.fromkeys(name.partition("/")[0] for name in match_names(names, ())))
    there = f"there are {', '.join(offered[:MAX_OFFERED])}" if offered else "it has no files beside its logs"
    there += " ..." if len(offered) > MAX_OFFERED else ""
    return f"nothing matches {' '.join(patterns)}; {there}" if patterns else there


def _decode_chunk(answer: Body, node: str) -> bytes:
    data = answer.get("data")
    try:
        if not isinstance(data, str) or len(data) > 4 * CHUNK_BYTES:
            raise ValueError
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise WorkFailed("sent an invalid chunk of a file", node=node) from None
