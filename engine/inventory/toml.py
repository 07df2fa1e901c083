"""nodes.toml, read into frozen specs; whatever is wrong in it is refused with file, line, key and what was expected.

Every key is in one table with the function that reads its value, so nothing unknown passes and nothing is read twice.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigurationError
from ..specs import DeviceSpec, FaultSpec, Inventory, LinkSpec, NodeSpec
from .lines import line_of
from .values import DEVICE, FAULT, LINK, OWN, SHARED, Readers, Wrong

SIZE_LIMIT = 1 << 20
"""Bytes; a file with a thousand nodes has a tenth of it."""

Key = tuple[str | int, ...]
"""Where a value stands, such as ("node", 1, "port")."""


def read_inventory(path: Path) -> Inventory:
    """Read a nodes.toml. Raises ConfigurationError, one line that names file, line, key and what was expected."""
    return _Reader(path, _load(path)).read()


def _load(path: Path) -> str:
    hint = "write one, or name it with --nodes FILE"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", hint=hint) from None
    _check_owner(path, status)
    if len(data) > SIZE_LIMIT:
        raise ConfigurationError(f"{path}: larger than {SIZE_LIMIT >> 20} MiB: not a nodes.toml")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: expected UTF-8 text, got byte 0x{data[error.start]:02x}") from None


def _check_owner(path: Path, status: os.stat_result) -> None:
    """The file says which programs run where: what a stranger can write is not read.

    A group may write it, as git checks it out under umask 002. Root reads everybody's, as in containers.
    """
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
        raise ConfigurationError(f"{path}: every user of this machine can change it", hint=f"chmod o-w {path}")
    if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise ConfigurationError(f"{path}: belongs to another user", hint="copy it, and name the copy with --nodes FILE")


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def read(self) -> Inventory:
        try:
            whole = tomllib.loads(self._text)
        except (ValueError, RecursionError, OverflowError) as error:
            self._refuse_syntax(error)
        self._check_keys((), whole, ("defaults", "node", "link"))
        defaults = self._values(("defaults",), self._table(("defaults",), whole.get("defaults", {})), SHARED, "[defaults]")
        nodes = whole.get("node", [])
        if not isinstance(nodes, list):
            self._refuse(("node",), "expected tables written as [[node]]")
        if not nodes:
            raise ConfigurationError(f"{self._path}: no node: expected at least one [[node]] table")
        specs: list[NodeSpec] = []
        for index, node in enumerate(nodes):
            spec = self._node(("node", index), self._table(("node", index), node), defaults)
            if any(spec.name == other.name for other in specs):
                self._refuse(("node", index, "name"), f"expected a name of its own, {spec.name!r} is taken")
            specs.append(spec)
        link = self._link(whole["link"]) if "link" in whole else None
        return Inventory(path=str(self._path.absolute()), nodes=tuple(specs), link=link)

    def _node(self, key: Key, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeSpec:
        own = self._values(key, table, {**SHARED, **OWN}, "a node", nested=("devices", "fault"))
        if "name" not in own:
            self._refuse((*key, "name"), "expected a name, for every node needs one")
        devices = tuple(
            self._device((*key, "devices", number), device)
            for number, device in enumerate(self._list((*key, "devices"), table.get("devices", [])))
        )
        faults = tuple(
            self._fault((*key, "fault", number), fault, len(devices))
            for number, fault in enumerate(self._list((*key, "fault"), table.get("fault", [])))
        )
        values = {**defaults, **own}
        if "env" in own and "env" in defaults:
            values["env"] = {**defaults["env"], **own["env"]}
        if values.get("kind") == "embedded":
            if not devices:
                self._refuse((*key, "devices"), "an embedded node emulates devices: expected [{ name, speed, memory }]")
            for name in ("host", "port", "user", "key", "jump", "host_key", "state_dir", "address", "interface"):
                if name in own:
                    self._refuse((*key, name), "an embedded node lives on loopback beside its nodes.toml: expected no such key")
        if values.get("key") is not None and not values["key"].startswith("~"):
            values["key"] = str(self._path.absolute().parent / values["key"])
        inherited = tuple(sorted(name for name in defaults if name not in own))
        return NodeSpec(**values, devices=devices, faults=faults, inherited=inherited)

    def _link(self, value: Any) -> LinkSpec:
        values = self._values(("link",), self._table(("link",), value), LINK, "[link]")
        for name in ("latency", "bandwidth"):
            if name not in values:
                self._refuse(("link", name), "a played network has latency and bandwidth")
        return LinkSpec(**values)

    def _device(self, key: Key, value: Any) -> DeviceSpec:
        table = self._table(key, value)
        values = self._values(key, table, DEVICE, "a device")
        for name in ("name", "speed", "memory"):
            if name not in values:
                self._refuse((*key, name), "every device has name, speed and memory")
        return DeviceSpec(**values)

    def _fault(self, key: Key, value: Any, devices: int) -> FaultSpec:
        values = self._values(key, self._table(key, value), FAULT, "a fault")
        for name in ("at_step", "slowdown"):
            if name not in values:
                self._refuse((*key, name), "every fault has at_step and slowdown")
        fault = FaultSpec(**values)
        if fault.until_step is not None and fault.until_step <= fault.at_step:
            self._refuse((*key, "until_step"), f"expected a step after at_step = {fault.at_step}")
        if fault.device >= devices:
            self._refuse((*key, "device"), f"expected the index of a declared device of this node, which has {devices}")
        return fault

    def _values(
        self,
        key: Key,
        table: Mapping[str, Any],
        readers: Readers,
        what: str,
        nested: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        self._check_keys(key, table, (*readers, *nested), what)
        values = {}
        for name, value in table.items():
            if name not in readers:
                continue
            try:
                values[name] = readers[name](value)
            except Wrong as wrong:
                self._refuse((*key, name), f"{wrong}, got {_show(value)}")
        return values

    def _check_keys(self, key: Key, table: Mapping[str, Any], known: tuple[str, ...], what: str = "nodes.toml") -> None:
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
                self._refuse((*key, name), f"unknown key of {what}: {meant}")

    def _table(self, key: Key, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._refuse(key, f"expected a table, got {_show(value)}")
        return value

    def _list(self, key: Key, value: Any) -> list[Any]:
        if not isinstance(value, list):
            self._refuse(key, f"expected a list of tables, got {_show(value)}")
        return value

    def _refuse(self, key: Key, expected: str) -> NoReturn:
        name = next((str(part) for part in reversed(key) if isinstance(part, str)), "")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            name = repr(name)
        raise ConfigurationError(f"{self._path}:{line_of(self._text, key)}: {name}: {expected}")

    def _refuse_syntax(self, error: Exception) -> NoReturn:
        if isinstance(error, RecursionError):
            lines = self._text.split("\n")
            line = max(range(len(lines)), key=lambda number: lines[number].count("[") + lines[number].count("{")) + 1
            raise ConfigurationError(f"{self._path}:{line}: not TOML: nested too deeply") from None
        said = re.sub(r"\s+", " ", str(error))
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said)
        if found is None:
            raise ConfigurationError(f"{self._path}: not TOML: {said}") from None
        line = int(found[2]) if found[2] else self._text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{self._path}:{line}: not TOML: {found[1]}") from None


def _show(value: Any) -> str:
    """A value as a person wrote it, in one short printable piece."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
