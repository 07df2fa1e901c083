"""The verb ``clean``: list what Paceline stores on the nodes, and remove what is no longer needed once a person confirms.

A run is removable when it has ended and all its files are here; data and bundles when nothing on the node uses them. Each node
checks again before it removes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, UsageError, WorkFailed
from ...protocol.messages import Body
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ..files.safe_names import check_entries, is_mirrored, is_run_id
from ..gather import gather_all

CLEAN_KINDS = ("runs", "data", "bundles")
SECONDS_PER_DAY = 86400.0
CLEAN_TIMEOUT_S = 600.0
"""Seconds for a node to list what it stores, or to remove it; network file systems are slow."""


@dataclass(frozen=True, slots=True)
class CleanRequest:
    """What to remove."""

    runs: tuple[str, ...] = ()
    """Run ids; empty: every run that has ended."""
    older_than: float = 0.0
    """Minimum age in days since the last change, by the clock of the node."""
    kinds: tuple[str, ...] = CLEAN_KINDS
    is_all: bool = False
    """Also runs whose copies here are missing or incomplete."""


async def clean(
    request: CleanRequest,
    fleet: Fleet,
    *,
    nodes: Sequence[str],
    runs: Path,
    is_agreed: bool = False,
    read_only: Sequence[str] = (),
) -> Document:
    """List the stored items of these nodes, and remove the removable ones when ``is_agreed``.

    Returns {removed, bytes, nodes: [{name, state, reason}], things: [{node, kind, name, size, state, reason}]}. An item is
    ``removable`` or ``removed``, which ``bytes`` sums up, or ``kept`` with a reason. Raises UsageError for a run that no node has.
    """
    rows = await gather_all(_clean_node(name, request, is_agreed and name not in read_only, fleet, runs) for name in nodes)
    things = [thing for _, node_things in rows for thing in node_things]
    reports = [node for node, _ in rows]
    for report in reports:
        if report["name"] in read_only and report["state"] == "ok":
            report["reason"] = "read_only in nodes.toml: nothing is removed"
    missing = [run_id for run_id in request.runs if all(thing["name"] != run_id for thing in things)]
    if missing and all(report["state"] == "ok" for report in reports):
        raise UsageError(f"no run {missing[0]!r} on any node", hint="paceline jobs lists all runs")
    for thing in things:
        if thing["node"] in read_only and thing["state"] == "removable":
            thing |= {"state": "kept", "reason": "its node is read_only in nodes.toml"}
    size = sum(thing["size"] for thing in things if thing["state"] in ("removable", "removed"))
    return {"type": "clean", "removed": is_agreed, "bytes": size, "nodes": reports, "things": things}


def classify_items(request: CleanRequest, things: Sequence[Document], missing_reason: Callable[[str], str]) -> list[Document]:
    """The requested items of one node, with ``state`` and ``reason``. Pure but for ``missing_reason``.

    ``missing_reason(run_id)`` says which file of a run is not here; it returns an empty string when all are.
    """
    items = []
    for thing in things:
        kind, name, age = thing["kind"], thing["name"], thing["age"]
        is_named = kind == "runs" and name in request.runs
        if not is_named and (
            kind not in request.kinds or (kind == "runs" and request.runs) or age < request.older_than * SECONDS_PER_DAY
        ):
            continue
        reason = thing["use"]
        if kind == "runs" and not reason and not request.is_all:
            reason = missing_reason(name)
        state = "kept" if reason else "removable"
        items.append({"kind": kind, "name": name, "size": thing["size"], "state": state, "reason": reason or None})
    return items


def missing_copy_reason(runs: Path, run_id: str, node: str, listing: Mapping[str, Any]) -> str:
    """Why the directory of a run here lacks files of a node; empty: it lacks none. ``listing``: the node's list of its files."""
    run_dir = runs / run_id
    if not (run_dir / "result.json").exists():
        return f"not copied: paceline attach {run_id}, or --all"
    if listing.get("is_cut"):
        return "too many files to compare: --all removes it"
    files, refusals = check_entries(listing.get("entries"))
    if any(refusal.state == "refused" for refusal in refusals):
        return "holds files that cannot be fetched: --all removes it"
    for file in files:
        if file.name == "lease.json":
            continue
        is_copied = is_mirrored(file.name)
        path = run_dir / "nodes" / node / file.name if is_copied else run_dir / "files" / node / file.name
        if not path.is_file() or path.stat().st_size != file.size:
            hint = f"paceline attach {run_id}" if is_copied else f"paceline fetch {run_id}"
            return f"{file.name} is not here: {hint}, or --all"
    return ""


async def _clean_node(
    name: str, request: CleanRequest, is_agreed: bool, fleet: Fleet, runs: Path
) -> tuple[Document, list[Document]]:
    """One node and its items, as the document lists them."""
    try:
        link = await fleet.link(name, patience=5.0)
        things = _validate((await _request(link, "list_storage")).get("things"))
        listings = {}
        for thing in things:
            if (
                thing["kind"] == "runs"
                and not thing["use"]
                and not request.is_all
                and (runs / thing["name"] / "result.json").exists()
            ):
                listings[thing["name"]] = await _request(link, "list_files", run_id=thing["name"])
        rows = classify_items(request, things, lambda run_id: missing_copy_reason(runs, run_id, name, listings.get(run_id, {})))
        removable = [{"kind": row["kind"], "name": row["name"]} for row in rows if row["state"] == "removable"]
        if is_agreed and removable:
            answer = (await _request(link, "remove_stored", things=removable)).get("things")
            removals = [item for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []
            reasons = {(str(item.get("kind")), str(item.get("name"))): str(item.get("reason", "")) for item in removals}
            for row in rows:
                if row["state"] == "removable":
                    reason = reasons.get((row["kind"], row["name"]), "the node did not confirm its removal")
                    row |= {"state": "kept" if reason else "removed", "reason": reason or None}
    except (NodeUnreachable, NodeRefused) as error:
        state = "lost" if isinstance(error, NodeUnreachable) else "refused"
        return {"name": name, "state": state, "reason": error.reason}, []
    except WorkFailed as error:
        return {"name": name, "state": "failed", "reason": error.reason}, []
    return {"name": name, "state": "ok", "reason": None}, [{"node": name, **row} for row in rows]


async def _request(link: Link, name: str, **body: Any) -> Body:
    try:
        async with asyncio.timeout(CLEAN_TIMEOUT_S):  # wait_for of 3.11 may swallow a cancellation
            return await link.ask(name, **body)
    except TimeoutError:
        raise NodeUnreachable(f"no answer for {CLEAN_TIMEOUT_S:.0f} s", node=link.node) from None


def _validate(things: Any) -> list[Document]:
    """The valid items of a node's answer."""
    items = []
    for thing in things if isinstance(things, list) else ():
        if not isinstance(thing, dict):
            continue
        kind, name, size, age = (thing.get(key) for key in ("kind", "name", "size", "age"))
        if kind not in CLEAN_KINDS or not isinstance(name, str) or (kind == "runs" and not is_run_id(name)):
            continue
        is_known = isinstance(size, int) and isinstance(age, int | float) and size >= 0
        use = str(thing.get("use") or "") if is_known else "its node does not report its size and age"
        items.append({"kind": kind, "name": name, "size": size if is_known else 0, "age": age if is_known else 0.0, "use": use})
    return items
