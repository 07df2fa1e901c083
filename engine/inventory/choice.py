"""The inventory of a session: nodes.toml, narrowed to a node set, to the nodes of a device set or to the embedded lab."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigurationError
from ..specs import Inventory
from .allocation import allocation_inventory
from .nodes_file import read_inventory
from .nodeset import keep_nodes, parse_device_set, select_nodes


def load_inventory(
    path: Path, only: str | None, is_embedded_only: bool = False, devices: str = "all", is_named: bool = False
) -> Inventory:
    """Read nodes.toml and keep the selected nodes; inside an allocation of Slurm its machines are the lab, unless a person has
    named the file (``is_named``). Raises ConfigurationError or UsageError.

    ``only``: a node set. ``devices``: the devices of a job; a device set restricts the inventory to its nodes.
    """
    allocated = None if is_named or is_embedded_only else allocation_inventory(os.environ, path, sys.executable)
    inventory = allocated or read_inventory(path)
    if is_embedded_only:
        embedded = tuple(node for node in inventory.nodes if node.kind == "embedded")
        if not embedded:
            raise ConfigurationError(f"{path}: no embedded node", hint="omit --nodes to use the reference lab")
        inventory = replace(inventory, nodes=embedded)
    if only is not None:
        inventory = select_nodes(inventory, only)
    if devices not in ("all", "auto"):
        named = set().union(*(names for names, _ in parse_device_set(devices)))
        if named <= {node.name for node in inventory.nodes}:  # else the job refuses the device set with its own message
            inventory = keep_nodes(inventory, named)
    return inventory
