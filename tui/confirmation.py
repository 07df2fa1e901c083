"""The question before a destructive verb, made from the document that it returns without ``--yes``. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from paceline.engine.reports.document_type import Document
from paceline.engine.store.state import NodeState

from .command_line.commands import VERBS
from .sessions.session import Answer
from .terminal.format import count, pad, pad_left, sanitize, size

MAX_NAMED_NODES = 10
"""Nodes that a question names; the others are counted."""
MAX_NAMED_REASONS = 3
"""Reasons to keep something that a question names."""
KIND_NAMES = {"runs": ("run", "runs"), "data": ("data set", "data sets"), "bundles": ("bundle", "bundles")}


class Confirmation(NamedTuple):
    """A question, and the arguments that a yes appends to the typed line."""

    title: str
    text: str
    arguments: str


def confirmation_for(answer: Answer) -> Confirmation | None:
    """The question before a verb acts; None where it has acted or there is nothing to do."""
    if not VERBS[answer.verb].needs_consent:
        return None
    return _clean(answer.document) if answer.verb == "clean" else _kill(answer.document)


def pids_of(node: NodeState) -> list[int]:
    """Ids of the processes on the devices of a node, ascending."""
    return sorted({process.pid for device in node.devices for process in device.reading.processes or ()})


def _clean(document: Document) -> Confirmation | None:
    removable: dict[str, list[Document]] = {}
    for item in document["things"]:
        if item["state"] == "removable":
            removable.setdefault(item["node"], []).append(item)
    if not removable:
        return None
    rows = []
    for node, items in list(removable.items())[:MAX_NAMED_NODES]:
        amounts = Counter(item["kind"] for item in items)
        what = ", ".join(count(amounts[kind], *words) for kind, words in KIND_NAMES.items() if amounts[kind])
        rows.append(f"{pad(sanitize(node), 15)} {pad(what, 38)}{pad_left(size(sum(item['size'] for item in items)), 10)}")
    rows += [f"+{count(len(removable) - MAX_NAMED_NODES, 'node')} hidden"] if len(removable) > MAX_NAMED_NODES else []
    kept = Counter(str(item["reason"]) for item in document["things"] if item["state"] == "kept")
    silent = [sanitize(node["name"]) for node in document["nodes"] if node["state"] != "ok"]
    text = [f"{size(document['bytes'])} of {count(len(removable), 'node')} would be removed for good."]
    reasons = kept.most_common(MAX_NAMED_REASONS)
    text += [f"{count(amount, 'item')} would stay: {sanitize(reason, 45)}." for reason, amount in reasons]
    text += [f"+{count(len(kept) - MAX_NAMED_REASONS, 'reason')} hidden"] if len(kept) > MAX_NAMED_REASONS else []
    if silent:
        text += [f"No answer from {', '.join(silent[:MAX_NAMED_NODES])}{' …' if len(silent) > MAX_NAMED_NODES else ''}."]
    return Confirmation("remove this?", "\n".join([*rows, "", *text]), "--yes")


def _kill(document: Document) -> Confirmation | None:
    if document["state"] != "running":
        return None
    name, user = sanitize(document["name"] or "without a name", 20), sanitize(document["user"] or "—", 20)
    text = [f"{sanitize(document['node'], 40)}: process {document['pid']}, {name}, of {user}", ""]
    if document["run_id"]:
        text += [f"It belongs to run {sanitize(document['run_id'], 40)}:", "C on the run ends all of its processes.", ""]
    text += ["It receives SIGTERM, and SIGKILL after five seconds."]
    return Confirmation("end this process?", "\n".join(text), f"--started {document['started']} --yes")
