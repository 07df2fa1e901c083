"""Cleaning nodes: what they keep of ours, what of it may go, and its removal after a person said so.

A run goes when it has ended and all of it is here; data and bundles when nothing on the node uses them. Each node checks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import NodeRefused, NodeUnreachable, UsageError, WorkFailed
from ...ssh.fleet import Fleet
from ...ssh.link import Link
from ..files.safe_names import check_entries, is_copied, is_run_id
from ..gather import gather_all

Row = dict[str, Any]
KINDS = ("runs", "data", "bundles")
DAY = 86400.0
ANSWER = 600.0
"""Seconds for a node to look at all it keeps, or to remove it; network file systems are slow."""


@dataclass(frozen=True, slots=True)
class CleanRequest:
    """What a person wants to be rid of."""

    runs: tuple[str, ...] = ()
    """Only these; none: every run that ended."""
    older_than: float = 0.0
    """Days since it last changed, by the clock of its node."""
    kinds: tuple[str, ...] = KINDS
    is_all: bool = False
    """Runs also whose copies here are missing or not whole."""


async def clean(
    wish: CleanRequest, is_agreed: bool, fleet: Fleet, nodes: Sequence[str], runs: Path, read_only: Sequence[str] = ()
) -> Row:
    """Survey these nodes, and remove what may go when ``is_agreed``.

    Gives {removed, bytes, nodes: [{name, state, reason}], things: [{node, kind, name, size, state, reason}]}; a thing is
    ``removable`` or ``removed``, which ``bytes`` sums up, or ``kept`` and why. Raises UsageError for a run that no node has.
    """
    rows = await gather_all(_one_node(name, wish, is_agreed and name not in read_only, fleet, runs) for name in nodes)
    things = [thing for _, found in rows for thing in found]
    reports = [node for node, _ in rows]
    for report in reports:
        if report["name"] in read_only and report["state"] == "ok":
            report["reason"] = "read_only in nodes.toml: nothing is removed here"
    missing = [run_id for run_id in wish.runs if all(thing["name"] != run_id for thing in things)]
    if missing and all(report["state"] == "ok" for report in reports):
        raise UsageError(f"no run {missing[0]!r} on any node", hint="paceline jobs lists all runs")
    for thing in things:
        if thing["node"] in read_only and thing["state"] == "removable":
            thing |= {"state": "kept", "reason": "its node is read_only in nodes.toml"}
    gone = sum(thing["size"] for thing in things if thing["state"] in ("removable", "removed"))
    return {"type": "clean", "removed": is_agreed, "bytes": gone, "nodes": reports, "things": things}


def choose(wish: CleanRequest, things: Sequence[Row], what_is_missing: Callable[[str], str]) -> list[Row]:
    """Things of one node with ``state`` and ``reason``; those that were not asked about are left out. Pure but for what it calls.

    ``what_is_missing(run_id)`` tells what of a run is not here, empty if all of it is.
    """
    chosen = []
    for thing in things:
        kind, name, age = thing["kind"], thing["name"], thing["age"]
        is_named = kind == "runs" and name in wish.runs
        if not is_named and (kind not in wish.kinds or (kind == "runs" and wish.runs) or age < wish.older_than * DAY):
            continue
        reason = thing["use"]
        if kind == "runs" and not reason and not wish.is_all:
            reason = what_is_missing(name)
        state = "kept" if reason else "removable"
        chosen.append({"kind": kind, "name": name, "size": thing["size"], "state": state, "reason": reason or None})
    return chosen


def missing_here(runs: Path, run_id: str, node: str, listing: Mapping[str, Any]) -> str:
    """What of a run's files on a node is not in its directory here, in words; empty: nothing. ``listing`` is the node's answer."""
    here = runs / run_id
    if not (here / "result.json").exists():
        return f"not brought home: paceline attach {run_id}, or --all"
    if listing.get("is_cut"):
        return "too many files to compare: --all removes it"
    offers, refusals = check_entries(listing.get("entries"))
    if any(refusal.state == "refused" for refusal in refusals):
        return "holds files that cannot be fetched: --all removes it"
    for offer in offers:
        if offer.name == "lease.json":
            continue
        copied = is_copied(offer.name)
        place = here / "nodes" / node / offer.name if copied else here / "files" / node / offer.name
        if not place.is_file() or place.stat().st_size != offer.size:
            hint = f"paceline attach {run_id}" if copied else f"paceline fetch {run_id}"
            return f"{offer.name} is not here: {hint}, or --all"
    return ""


async def _one_node(name: str, wish: CleanRequest, is_agreed: bool, fleet: Fleet, runs: Path) -> tuple[Row, list[Row]]:
    """One node as the document has it, and its things."""
    try:
        link = await fleet.link(name, patience=5.0)
        things = _checked((await _asked(link, "stored")).get("things"))
        listings = {}
        for thing in things:
            if thing["kind"] == "runs" and not thing["use"] and not wish.is_all and (runs / thing["name"] / "result.json").exists():
                listings[thing["name"]] = await _asked(link, "listing", run_id=thing["name"])
        rows = choose(wish, things, lambda run_id: missing_here(runs, run_id, name, listings.get(run_id, {})))
        going = [{"kind": row["kind"], "name": row["name"]} for row in rows if row["state"] == "removable"]
        if is_agreed and going:
            answer = (await _asked(link, "remove", things=going)).get("things")
            told = [one for one in answer if isinstance(one, dict)] if isinstance(answer, list) else []
            reasons = {(str(one.get("kind")), str(one.get("name"))): str(one.get("reason", "")) for one in told}
            for row in rows:
                if row["state"] == "removable":
                    reason = reasons.get((row["kind"], row["name"]), "the node did not say that it is gone")
                    row |= {"state": "kept" if reason else "removed", "reason": reason or None}
    except (NodeUnreachable, NodeRefused) as error:
        state = "lost" if isinstance(error, NodeUnreachable) else "refused"
        return {"name": name, "state": state, "reason": error.reason}, []
    except WorkFailed as error:
        return {"name": name, "state": "failed", "reason": error.reason}, []
    return {"name": name, "state": "ok", "reason": None}, [{"node": name, **row} for row in rows]


async def _asked(link: Link, word: str, **body: Any) -> Row:
    try:
        async with asyncio.timeout(ANSWER):  # wait_for of 3.11 may swallow a cancellation
            return await link.ask(word, **body)
    except TimeoutError:
        raise NodeUnreachable(f"no answer for {ANSWER:.0f} s", node=link.node) from None


def _checked(things: Any) -> list[Row]:
    """What a node says it keeps, as far as it can be true."""
    found = []
    for thing in things if isinstance(things, list) else ():
        if not isinstance(thing, dict):
            continue
        kind, name, size, age = (thing.get(key) for key in ("kind", "name", "size", "age"))
        if kind not in KINDS or not isinstance(name, str) or (kind == "runs" and not is_run_id(name)):
            continue
        is_known = isinstance(size, int) and isinstance(age, int | float) and size >= 0
        use = str(thing.get("use") or "") if is_known else "its node does not say what it is"
        found.append({"kind": kind, "name": name, "size": size if is_known else 0, "age": age if is_known else 0.0, "use": use})
    return found
