"""Which machines this session is about: a file, narrowed to a set of nodes, to those of some devices or to the embedded lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import ConfigurationError
from ..specs import Inventory
from .nodes_file import read_inventory
from .nodeset import device_words, select


def inventory_for(path: Path, only: str | None, is_embedded_only: bool = False, devices: str = "all") -> Inventory:
    """Read nodes.toml and keep what was asked for. Raises ConfigurationError or UsageError, each with the place.

    ``devices``: of a job; where that is a set, its nodes are all that have to be reached.
    """
    inventory = read_inventory(path)
    if is_embedded_only:
        embedded = tuple(node for node in inventory.nodes if node.kind == "embedded")
        if not embedded:
            raise ConfigurationError(f"{path}: no embedded node", hint="leave out --nodes to use the reference lab")
        inventory = replace(inventory, nodes=embedded)
    if only is not None:
        inventory = select(inventory, only)
    if devices not in ("all", "auto"):
        named = set().union(*(names for names, _ in device_words(devices)))
        if named <= {node.name for node in inventory.nodes}:  # else the job is refused in its own words
            inventory = replace(inventory, nodes=tuple(node for node in inventory.nodes if node.name in named))
    return inventory
