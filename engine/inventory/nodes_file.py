"""Reads nodes.toml into frozen specs. An error names file, line, key and the expected value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..specs import ClusterSpec, DeviceSpec, FaultSpec, Inventory, LinkSpec, NodeSpec, SlotSpec
from .link_presets import LINK_PRESETS
from .toml_file import TomlFile
from .toml_positions import KeyPath
from .values import CLASS_KEYS, CLUSTER_KEYS, DEVICE_KEYS, FAULT_KEYS, KUBERNETES_KEYS, LINK_KEYS, NODE_KEYS, SHARED_KEYS


def read_inventory(path: Path) -> Inventory:
    """Read a nodes.toml. Raises ConfigurationError with file, line, key and expected value."""
    return _NodesFile(path).read()


class _NodesFile(TomlFile):
    """One nodes.toml and the tables in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "a nodes.toml", "create one, name it with --nodes FILE, or type: paceline --welcome")

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
            table = self.table(("node", index), node)
            spec = self._node(("node", index), table, defaults)
            for one in (spec, *self._slots(("node", index), table, spec)):
                if any(one.name == other.name for other in specs):
                    self.refuse(("node", index, "name"), f"expected a unique name, {one.name!r} is taken")
                specs.append(one)
        link = self._link(document["link"]) if "link" in document else None
        return Inventory(path=str(self.path.absolute()), nodes=tuple(specs), link=link)

    def _node(self, key: KeyPath, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeSpec:
        kind = table.get("kind", defaults.get("kind"))
        is_cluster = kind in ("slurm", "kubernetes")
        own_keys = KUBERNETES_KEYS if kind == "kubernetes" else CLUSTER_KEYS
        nested = ("class", *own_keys) if is_cluster else ("devices", "fault")
        own = self.read_values(key, table, {**SHARED_KEYS, **NODE_KEYS}, "a node", nested)
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
        if kind == "kubernetes":  # its pods are its slots
            cluster = self.read_values(key, {name: table[name] for name in own_keys if name in table}, own_keys, "a node")
            if "kubeconfig" in cluster:
                cluster["kubeconfig"] = str(self.path.absolute().parent / Path(cluster["kubeconfig"]).expanduser())
            return NodeSpec(**values | {"read_only": True}, cluster=ClusterSpec(**cluster), inherited=inherited)
        if is_cluster:  # nothing is started at a login node itself
            shown = {name: table[name] for name in ("partitions",) if name in table}
            values |= {"read_only": True, **self.read_values(key, shown, CLUSTER_KEYS, "a node")}
            return NodeSpec(**values, inherited=inherited)
        return NodeSpec(**values, devices=devices, faults=faults, inherited=inherited)

    def _slots(self, key: KeyPath, table: Mapping[str, Any], login: NodeSpec) -> list[NodeSpec]:
        """The slots of a login node: one for each machine that a job may ask for, by class."""
        if login.kind not in ("slurm", "kubernetes"):
            return []
        cluster: dict[str, Any] = (
            {}
            if login.kind == "kubernetes"
            else self.read_values(key, {name: table[name] for name in CLUSTER_KEYS if name in table}, CLUSTER_KEYS, "a node")
        )
        slots = []
        for number, value in enumerate(self.tables((*key, "class"), table.get("class", []))):
            where = (*key, "class", number)
            values = self.read_values(where, self.table(where, value), CLASS_KEYS, "a class")
            if "name" not in values:
                self.refuse((*where, "name"), "expected a name: every class needs that of its devices")
            word = re.sub(r"[^a-z0-9]+", "", values["name"].lower())
            if not word:
                self.refuse((*where, "name"), "expected a name with a letter or a digit")
            is_emulated = "speed" in values
            if is_emulated and "memory" not in values:
                self.refuse((*where, "memory"), "expected speed and memory for emulated devices")
            gpus = values.get("gpus", 1)
            slot = SlotSpec(
                login=login.name,
                device=values["name"],
                gpus=gpus,
                memory=values.get("memory"),
                partition=values.get("partition") or next(iter(cluster.get("partitions", ())), ""),
                account=cluster.get("account", ""),
                qos=cluster.get("qos", ""),
                time_limit=values.get("time_limit") or cluster.get("time_limit", ""),
                constraint=values.get("constraint", ""),
                gres=values.get("gres") or (f"gpu:{gpus}" if gpus and not is_emulated else ""),
                cpus=values.get("cpus", 0),
            )
            device = DeviceSpec(**{name: values[name] for name in DEVICE_KEYS if name in values}) if is_emulated else None
            slots += [
                replace(
                    login,
                    name=f"{login.name}-{word}-{place + 1}",
                    slot=slot,
                    read_only=bool(table.get("read_only", False)),
                    devices=(device,) * max(1, gpus) if device is not None else (),
                )
                for place in range(values.get("nodes", 1))
            ]
        return slots

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
