"""nodes.toml, read into frozen specs; whatever is wrong in it is refused with file, line, key and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..specs import DeviceSpec, FaultSpec, Inventory, LinkSpec, NodeSpec
from .toml_file import TomlFile
from .toml_positions import Key
from .values import DEVICE, FAULT, LINK, OWN, SHARED


def read_inventory(path: Path) -> Inventory:
    """Read a nodes.toml. Raises ConfigurationError, one line that names file, line, key and what was expected."""
    return _Reader(path).read()


class _Reader(TomlFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "a nodes.toml", "write one, or name it with --nodes FILE")

    def read(self) -> Inventory:
        whole = self.load()
        self.check_keys((), whole, ("defaults", "node", "link"), "nodes.toml")
        defaults = self.values(("defaults",), self.table(("defaults",), whole.get("defaults", {})), SHARED, "[defaults]")
        nodes = whole.get("node", [])
        if not isinstance(nodes, list):
            self.refuse(("node",), "expected tables written as [[node]]")
        if not nodes:
            raise ConfigurationError(f"{self.path}: no node: expected at least one [[node]] table")
        specs: list[NodeSpec] = []
        for index, node in enumerate(nodes):
            spec = self._node(("node", index), self.table(("node", index), node), defaults)
            if any(spec.name == other.name for other in specs):
                self.refuse(("node", index, "name"), f"expected a name of its own, {spec.name!r} is taken")
            specs.append(spec)
        link = self._link(whole["link"]) if "link" in whole else None
        return Inventory(path=str(self.path.absolute()), nodes=tuple(specs), link=link)

    def _node(self, key: Key, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeSpec:
        own = self.values(key, table, {**SHARED, **OWN}, "a node", nested=("devices", "fault"))
        if "name" not in own:
            self.refuse((*key, "name"), "expected a name, for every node needs one")
        devices = tuple(
            self._device((*key, "devices", number), device)
            for number, device in enumerate(self.tables((*key, "devices"), table.get("devices", [])))
        )
        faults = tuple(
            self._fault((*key, "fault", number), fault, len(devices))
            for number, fault in enumerate(self.tables((*key, "fault"), table.get("fault", [])))
        )
        values = {**defaults, **own}
        if "env" in own and "env" in defaults:
            values["env"] = {**defaults["env"], **own["env"]}
        if values.get("kind") == "embedded":
            if not devices:
                self.refuse((*key, "devices"), "an embedded node emulates devices: expected [{ name, speed, memory }]")
            for name in ("host", "port", "user", "key", "jump", "host_key", "state_dir", "address", "interface"):
                if name in own:
                    self.refuse((*key, name), "an embedded node lives on loopback beside its nodes.toml: expected no such key")
        if values.get("key") is not None and not values["key"].startswith("~"):
            values["key"] = str(self.path.absolute().parent / values["key"])
        inherited = tuple(sorted(name for name in defaults if name not in own))
        return NodeSpec(**values, devices=devices, faults=faults, inherited=inherited)

    def _link(self, value: Any) -> LinkSpec:
        values = self.values(("link",), self.table(("link",), value), LINK, "[link]")
        for name in ("latency", "bandwidth"):
            if name not in values:
                self.refuse(("link", name), "a played network has latency and bandwidth")
        return LinkSpec(**values)

    def _device(self, key: Key, value: Any) -> DeviceSpec:
        table = self.table(key, value)
        values = self.values(key, table, DEVICE, "a device")
        for name in ("name", "speed", "memory"):
            if name not in values:
                self.refuse((*key, name), "every device has name, speed and memory")
        return DeviceSpec(**values)

    def _fault(self, key: Key, value: Any, devices: int) -> FaultSpec:
        values = self.values(key, self.table(key, value), FAULT, "a fault")
        for name in ("at_step", "slowdown"):
            if name not in values:
                self.refuse((*key, name), "every fault has at_step and slowdown")
        fault = FaultSpec(**values)
        if fault.until_step is not None and fault.until_step <= fault.at_step:
            self.refuse((*key, "until_step"), f"expected a step after at_step = {fault.at_step}")
        if fault.device >= devices:
            self.refuse((*key, "device"), f"expected the index of a declared device of this node, which has {devices}")
        return fault
