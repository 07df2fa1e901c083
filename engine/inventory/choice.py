"""Which machines this session is about: a file, narrowed to a set of nodes or to the embedded lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import ConfigurationError
from ..specs import Inventory
from .nodeset import select
from .toml import read_inventory


def inventory_for(path: Path, only: str | None, is_embedded_only: bool = False) -> Inventory:
    """Read nodes.toml and keep what was asked for. Raises ConfigurationError or UsageError, each with the place."""
    inventory = read_inventory(path)
    if is_embedded_only:
        embedded = tuple(node for node in inventory.nodes if node.kind == "embedded")
        if not embedded:
            raise ConfigurationError(f"{path}: no embedded node", hint="leave out --nodes to use the reference lab")
        inventory = replace(inventory, nodes=embedded)
    return inventory if only is None else select(inventory, only)
