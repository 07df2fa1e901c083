"""What a verb would do, as a question to a person: made from what it told without ``--yes``. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from paceline.engine.store.state import NodeState

from .command_line.commands import VERBS
from .sessions.session import Answer
from .terminal.format import count, pad, pad_left, size, untrusted

SHOWN = 10
"""Nodes that are named in a question; the others are counted."""
REASONS = 3
"""Reasons to keep something that are named."""
WORDS = {"runs": ("run", "runs"), "data": ("data set", "data sets"), "bundles": ("bundle of ours", "bundles of ours")}


class Confirmation(NamedTuple):
    """A question, and what a yes adds to the line that was typed."""

    title: str
    text: str
    arguments: str


def confirmation_for(answer: Answer) -> Confirmation | None:
    """What to ask before the verb does what it told; None: it has done it, or there is nothing to do."""
    if not VERBS[answer.verb].asks:
        return None
    return _clean(answer.document) if answer.verb == "clean" else _kill(answer.document)


def pids_of(node: NodeState) -> list[int]:
    """Processes that are seen on the devices of a node."""
    return sorted({process.pid for device in node.devices for process in device.reading.processes or ()})


def _clean(document: dict[str, Any]) -> Confirmation | None:
    going: dict[str, list[dict[str, Any]]] = {}
    for thing in document["things"]:
        if thing["state"] == "removable":
            going.setdefault(thing["node"], []).append(thing)
    if not going:
        return None
    rows = []
    for node, things in list(going.items())[:SHOWN]:
        amounts = Counter(thing["kind"] for thing in things)
        what = ", ".join(count(amounts[kind], *words) for kind, words in WORDS.items() if amounts[kind])
        rows.append(f"{pad(untrusted(node), 15)} {pad(what, 38)}{pad_left(size(sum(thing['size'] for thing in things)), 10)}")
    rows += [f"+{count(len(going) - SHOWN, 'node')} hidden"] if len(going) > SHOWN else []
    kept = Counter(str(thing["reason"]) for thing in document["things"] if thing["state"] == "kept")
    silent = [untrusted(node["name"]) for node in document["nodes"] if node["state"] != "ok"]
    said = [f"{size(document['bytes'])} of {count(len(going), 'node')} would be removed for good."]
    said += [f"{count(amount, 'thing')} would stay: {untrusted(reason, 45)}." for reason, amount in kept.most_common(REASONS)]
    said += [f"+{count(len(kept) - REASONS, 'reason')} hidden"] if len(kept) > REASONS else []
    said += [f"Nothing was heard of {', '.join(silent[:SHOWN])}{' …' if len(silent) > SHOWN else ''}."] if silent else []
    return Confirmation("remove this?", "\n".join([*rows, "", *said]), "--yes")


def _kill(document: dict[str, Any]) -> Confirmation | None:
    if document["state"] != "running":
        return None
    name, user = untrusted(document["name"] or "without a name", 20), untrusted(document["user"] or "—", 20)
    said = [f"{untrusted(document['node'], 40)}: process {document['pid']}, {name}, of {user}", ""]
    if document["run_id"]:
        said += [f"It belongs to run {untrusted(document['run_id'], 40)}:", "C on the run ends all of that.", ""]
    said += ["It is asked to end (TERM), and killed after five seconds."]
    return Confirmation("end this process?", "\n".join(said), f"--started {document['started']} --yes")
