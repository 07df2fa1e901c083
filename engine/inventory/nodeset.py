"""Node sets such as ``lab[1-3],atlas``: which nodes of an inventory a person means."""

from __future__ import annotations

import dataclasses
import difflib
import re

from ..errors import UsageError
from ..specs import Inventory

MAX_NODES = 10_000
"""One set names no more: a slip such as lab[1-1000000000] must not fill the memory."""


def select(inventory: Inventory, text: str) -> Inventory:
    """The inventory with the named nodes only, in its own order. Raises UsageError for a name that it does not have."""
    known = [node.name for node in inventory.nodes]
    wanted = expand(text)
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
            raise UsageError(f"--only: no node {name!r} in {inventory.path}", hint=hint)
    return dataclasses.replace(inventory, nodes=tuple(node for node in inventory.nodes if node.name in wanted))


def device_words(text: str) -> list[tuple[set[str], str | None]]:
    """A set of devices such as ``lab[1-3],atlas:0``, word by word: names of nodes, and the index as written, None: all of theirs.

    Raises UsageError for what is no set.
    """
    found: list[tuple[set[str], str | None]] = []
    for word in re.findall(r"(?:\[[^\]]*\]|[^,])+", text):
        names, colon, index = word.strip().rpartition(":")
        found.append((expand(names if colon else word), index if colon else None))
    return found


def expand(text: str) -> set[str]:
    """All names of a set: ``lab[1-3,7],atlas`` is lab1, lab2, lab3, lab7 and atlas; leading zeros are kept. Raises UsageError."""
    names: set[str] = set()
    for pattern in re.findall(r"(?:\[[^\]]*\]|[^,\[])+|,|\[", text.strip()):
        if pattern == ",":
            continue
        names |= _expand_pattern(pattern.strip(), text)
        if len(names) > MAX_NODES:
            raise _refused(text, f"more than {MAX_NODES} nodes")
    if not names:
        raise _refused(text, "it names no node")
    return names


def _expand_pattern(pattern: str, text: str) -> set[str]:
    found = re.fullmatch(r"([^\[\]\s]*)(?:\[([0-9,\s-]+)\]([^\[\]\s]*))?", pattern)
    if found is None or not pattern:
        raise _refused(text, f"{pattern!r} is no name")
    before, inside, after = found.groups()
    if inside is None:
        return {before}
    names = set()
    for part in inside.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if ends is None:
            raise _refused(text, f"{part.strip()!r} is no number or range")
        first, last = ends[1], ends[2] or ends[1]
        if not 0 <= int(last) - int(first) < MAX_NODES:
            raise _refused(text, f"{part.strip()} does not run upwards, or too far")
        names |= {f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)}
    return names


def _refused(text: str, why: str) -> UsageError:
    return UsageError(f"{text!r} is no set of nodes: {why}", hint="expected names such as lab[1-3],atlas")
