"""Node sets such as ``lab[1-3],atlas``, and the nodes of an inventory that they name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection

from ..errors import UsageError
from ..specs import Inventory

MAX_NODES_PER_SET = 10_000
"""Limit of names per set: a typing error such as lab[1-1000000000] must not exhaust the memory."""


def select_nodes(inventory: Inventory, text: str) -> Inventory:
    """The inventory with the named nodes only, in its own order. Raises UsageError for an unknown name."""
    known = [node.name for node in inventory.nodes]
    selected = expand_node_set(text)
    for name in selected:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"its nodes are {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
            raise UsageError(f"--only: no node {name!r} in {inventory.path}", hint=hint)
    return keep_nodes(inventory, selected)


def keep_nodes(inventory: Inventory, names: Collection[str]) -> Inventory:
    """The inventory with these nodes only. A slot keeps its login node, and a login node named without slots has all of them."""
    slots = {node.name: node.slot.login for node in inventory.nodes if node.slot is not None}
    named = {login for name, login in slots.items() if name in names}
    kept = {*names, *named, *(name for name, login in slots.items() if login in names and login not in named)}
    return dataclasses.replace(inventory, nodes=tuple(node for node in inventory.nodes if node.name in kept))


def parse_device_set(text: str) -> list[tuple[set[str], str | None]]:
    """Parse a device set such as ``lab[1-3],atlas:0``: per word, node names and the device index as written; None: all devices.

    Raises UsageError for an invalid set.
    """
    words: list[tuple[set[str], str | None]] = []
    for word in re.findall(r"(?:\[[^\]]*\]|[^,])+", text):
        names, colon, index = word.strip().rpartition(":")
        words.append((expand_node_set(names if colon else word), index if colon else None))
    return words


def expand_node_set(text: str) -> set[str]:
    """The names in a node set: ``lab[1-3,7],atlas`` is lab1, lab2, lab3, lab7, atlas. Leading zeros are kept. Raises UsageError."""
    names: set[str] = set()
    for pattern in re.findall(r"(?:\[[^\]]*\]|[^,\[])+|,|\[", text.strip()):
        if pattern == ",":
            continue
        names |= _expand_pattern(pattern.strip(), text)
        if len(names) > MAX_NODES_PER_SET:
            raise _refused(text, f"more than {MAX_NODES_PER_SET} nodes")
    if not names:
        raise _refused(text, "it is empty")
    return names


def _expand_pattern(pattern: str, text: str) -> set[str]:
    match = re.fullmatch(r"([^\[\]\s]*)(?:\[([0-9,\s-]+)\]([^\[\]\s]*))?", pattern)
    if match is None or not pattern:
        raise _refused(text, f"{pattern!r} is not a name")
    prefix, ranges, suffix = match.groups()
    if ranges is None:
        return {prefix}
    names = set()
    for part in ranges.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if ends is None:
            raise _refused(text, f"{part.strip()!r} is not a number or range")
        first, last = ends[1], ends[2] or ends[1]
        if not 0 <= int(last) - int(first) < MAX_NODES_PER_SET:
            raise _refused(text, f"{part.strip()} does not ascend, or is too long")
        names |= {f"{prefix}{number:0{len(first)}d}{suffix}" for number in range(int(first), int(last) + 1)}
    return names


def _refused(text: str, reason: str) -> UsageError:
    return UsageError(f"{text!r} is not a node set: {reason}", hint="expected names such as lab[1-3],atlas")
