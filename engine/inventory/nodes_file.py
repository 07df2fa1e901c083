"""Reads nodes.toml into frozen specs. An error names file, line, key and the expected value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..specs import DeviceSpec, FaultSpec, Inventory, LinkSpec, NodeSpec
from .link_presets import LINK_PRESETS
from .toml_file import TomlFile
from .toml_positions import KeyPath
from .values import DEVICE_KEYS, FAULT_KEYS, LINK_KEYS, NODE_KEYS, SHARED_KEYS


def read_inventory(path: Path) -> Inventory:
    """Read a nodes.toml. Raises ConfigurationError with file, line, key and expected value."""
    return _NodesFile(path).read()


class _NodesFile(TomlFile):
    """One nodes.toml and the tables in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "a nodes.toml", "create one, or name it with --nodes FILE")

    def read(self) -> Inventory:
        document = self.load()
        self.check_keys((), document, ("defaults", "node", "link"), "nodes.toml")
        defaults = self.read_values(
            ("defaults",), self.table(("defaults",), document.get("defaults", {})), SHARED_KEYS, "[defaults]"
        )
        nodes = document.get("node", [])
        if not isinstance(nodes, list):
            self.refuse(("node",), "expected tables written as [[node]]")
        if not nodes:
            raise ConfigurationError(f"{self.path}: no node: expected at least one [[node]] table")
        specs: list[NodeSpec] = []
        for index, node in enumerate(nodes):
            spec = self._node(("node", index), self.table(("node", index), node), defaults)
            if any(spec.name == other.name for other in specs):
                self.refuse(("node", index, "name"), f"expected a unique name, {spec.name!r} is taken")
            specs.append(spec)
        link = self._link(document["link"]) if "link" in document else None
        return Inventory(path=str(self.path.absolute()), nodes=tuple(specs), link=link)

    def _node(self, key: KeyPath, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeSpec:
        own = self.read_values(key, table, {**SHARED_KEYS, **NODE_KEYS}, "a node", nested=("devices", "fault"))
        if "name" not in own:
            self.refuse((*key, "name"), "expected a name: every node needs one")
        devices = tuple(
            self._device((*key, "devices", number), device)
            for number, device in enumerate(self.tables((*key, "devices"), table.get("devices", [])))
        )
        faults = tuple(
            self._fault((*key, "fault", number), fault, len(devices))
            for number, fault in enumerate(self.tables((*key, "fault"), table.get("fault", [])))
        )
        values = {**defaults, **own}
        for merged in {"env", "paths"} & own.keys() & defaults.keys():
            values[merged] = {**defaults[merged], **own[merged]}
        if values.get("kind") == "embedded":
            if not devices:
                self.refuse((*key, "devices"), "expected [{ name, speed, memory }]: an embedded node needs emulated devices")
            for name in ("host", "port", "user", "key", "jump", "host_key", "state_dir", "address", "interface"):
                if name in own:
                    self.refuse((*key, name), "expected no such key: an embedded node runs on loopback, beside its nodes.toml")
        if values.get("key") is not None and not values["key"].startswith("~"):
            values["key"] = str(self.path.absolute().parent / values["key"])
        inherited = tuple(sorted(name for name in defaults if name not in own))
        return NodeSpec(**values, devices=devices, faults=faults, inherited=inherited)

    def _link(self, value: Any) -> LinkSpec:
        values = self.read_values(("link",), self.table(("link",), value), LINK_KEYS, "[link]")
        preset = values.pop("preset", None)
        if preset is not None:
            return replace(LINK_PRESETS[preset], **values)
        for name in ("latency", "bandwidth"):
            if name not in values:
                self.refuse(("link", name), "expected latency and bandwidth, or a preset, for an emulated network")
        return LinkSpec(**values)

    def _device(self, key: KeyPath, value: Any) -> DeviceSpec:
        table = self.table(key, value)
        values = self.read_values(key, table, DEVICE_KEYS, "a device")
        for name in ("name", "speed", "memory"):
            if name not in values:
                self.refuse((*key, name), "expected name, speed and memory for every device")
        return DeviceSpec(**values)

    def _fault(self, key: KeyPath, value: Any, devices: int) -> FaultSpec:
        values = self.read_values(key, self.table(key, value), FAULT_KEYS, "a fault")
        for name in ("at_step", "slowdown"):
            if name not in values:
                self.refuse((*key, name), "expected at_step and slowdown for every fault")
        fault = FaultSpec(**values)
        if fault.until_step is not None and fault.until_step <= fault.at_step:
            self.refuse((*key, "until_step"), f"expected a step after at_step = {fault.at_step}")
        if fault.device >= devices:
            self.refuse((*key, "device"), f"expected the index of one of the {devices} devices of this node")
        return fault
