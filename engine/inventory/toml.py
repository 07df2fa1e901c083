"""nodes.toml, read into frozen specs; whatever is wrong in it is refused with file, line, key and what was expected.

Every key is in one table with the function that reads its value, so nothing unknown passes and nothing is read twice.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigurationError
from ..specs import DeviceSpec, FaultSpec, Inventory, NodeSpec
from .lines import line_of

SIZE_LIMIT = 1 << 20
"""Bytes; a file with a thousand nodes has a tenth of it."""
KINDS = ("ssh", "embedded")
UNITS = {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

Key = tuple[str | int, ...]
"""Where a value stands, such as ("node", 1, "port")."""


class _Wrong(Exception):
    """What was expected of a value."""


def read_inventory(path: Path) -> Inventory:
    """Read a nodes.toml. Raises ConfigurationError, one line that names file, line, key and what was expected."""
    return _Reader(path, _load(path)).read()


def _load(path: Path) -> str:
    hint = "write one, or name it with --nodes FILE"
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", hint=hint) from None
    if len(data) > SIZE_LIMIT:
        raise ConfigurationError(f"{path}: larger than {SIZE_LIMIT >> 20} MiB: not a nodes.toml")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path}:{line}: expected UTF-8 text, got byte 0x{data[error.start]:02x}") from None


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def read(self) -> Inventory:
        try:
            whole = tomllib.loads(self._text)
        except (ValueError, RecursionError, OverflowError) as error:
            self._refuse_syntax(error)
        self._check_keys((), whole, ("defaults", "node"))
        defaults = self._values(("defaults",), self._table(("defaults",), whole.get("defaults", {})), _SHARED, "[defaults]")
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
        return Inventory(path=str(self._path.absolute()), nodes=tuple(specs))

    def _node(self, key: Key, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeSpec:
        own = self._values(key, table, {**_SHARED, **_OWN}, "a node", nested=("devices", "fault"))
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

    def _device(self, key: Key, value: Any) -> DeviceSpec:
        table = self._table(key, value)
        values = self._values(key, table, {"name": _text, "speed": _speed, "memory": _memory}, "a device")
        for name in ("name", "speed", "memory"):
            if name not in values:
                self._refuse((*key, name), "every device has name, speed and memory")
        return DeviceSpec(**values)

    def _fault(self, key: Key, value: Any, devices: int) -> FaultSpec:
        readers = {"at_step": _step, "slowdown": _slowdown, "until_step": _step, "cause": _text, "device": _step}
        values = self._values(key, self._table(key, value), readers, "a fault")
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
        readers: Mapping[str, Callable[[Any], Any]],
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
            except _Wrong as wrong:
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
        said = re.sub(r"\s+", " ", str(error)) or "nested too deeply"
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said)
        if found is None:
            raise ConfigurationError(f"{self._path}: not TOML: {said}") from None
        line = int(found[2]) if found[2] else self._text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{self._path}:{line}: not TOML: {found[1]}") from None


def _show(value: Any) -> str:
    """A value as a person wrote it, in one short printable piece."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _Wrong("expected text in one line")
    return value


def _argument(value: Any) -> str:
    """Text that must not be taken for an option."""
    if not isinstance(value, str) or not value.isprintable() or not value or value.startswith("-") or any(map(str.isspace, value)):
        raise _Wrong("expected one word that does not begin with a dash")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise _Wrong("expected a letter or digit, then up to 63 letters, digits, dots, underscores or dashes")
    return value


def _kind(value: Any) -> str:
    if value == "kubernetes":
        raise _Wrong("this kind is not supported yet, expected one of ssh, embedded")
    if value not in KINDS:
        raise _Wrong(f"expected one of {', '.join(KINDS)}")
    return str(value)


def _integer(value: Any, least: int, most: int, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Wrong(f"expected {what}")
    return value


def _port(value: Any) -> int:
    return _integer(value, 1, 65535, "a whole number from 1 to 65535")


def _step(value: Any) -> int:
    return _integer(value, 0, 2**53, "a whole number, 0 or more")


def _jump(value: Any) -> str:
    for step in str(value).split(","):
        _argument(step if isinstance(value, str) else value)
        place = step.rpartition("@")[2]
        if (
            place.startswith("-")
            or not place
            or not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+|[0-9A-Fa-f:.]*)(:\d{1,5})?", place)
        ):
            raise _Wrong("expected jump hosts as user@host:port, separated by commas")
    return str(value)


def _host_key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", value):
        raise _Wrong("expected a fingerprint as ssh-keygen -l shows it: SHA256: and 43 characters")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or value.startswith("-"):
        raise _Wrong("expected a path")
    return value


def _remote_path(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not (value.startswith(("/", "~/")) or value == "~"):
        raise _Wrong("expected a path on the node that begins with / or ~/")
    return value


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise _Wrong("expected an IP address") from None


def _interface(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}", value):
        raise _Wrong("expected the name of a network interface, such as eth0")
    return value


def _env(value: Any) -> dict[str, str]:
    is_table = isinstance(value, dict) and all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in value)
    if not is_table or not all(isinstance(item, str) and "\0" not in item for item in value.values()):
        raise _Wrong("expected a table of texts, such as { OMP_NUM_THREADS = '4' }")
    return dict(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("expected true or false")
    return value


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag and tag.isprintable() for tag in value):
        raise _Wrong("expected a list of texts")
    return tuple(value)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or abs(value) > 1e9:
        raise _Wrong("expected a number")
    return float(value)


def _speed(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise _Wrong("expected a number above 0, relative to the other devices")
    return number


def _slowdown(value: Any) -> float:
    if (number := _number(value)) <= 1:
        raise _Wrong("expected a factor above 1")
    return number


def _memory(value: Any) -> int:
    """``"12GiB"`` as bytes."""
    found = (
        re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([KMGT]I?B|B)", value.upper())
        if isinstance(value, str) and value.isascii()
        else None
    )
    size = 0 if found is None else round(float(found[1]) * UNITS[found[2]])
    if not 0 < size < 2**50:
        raise _Wrong('expected a size such as "12GiB"')
    return size


_SHARED: dict[str, Callable[[Any], Any]] = {
    "kind": _kind,
    "port": _port,
    "user": _argument,
    "key": _path,
    "jump": _jump,
    "python": _path,
    "state_dir": _remote_path,
    "env": _env,
    "interface": _interface,
    "read_only": _flag,
    "tags": _tags,
}
"""Keys that [defaults] may hold too."""
_OWN: dict[str, Callable[[Any], Any]] = {"name": _name, "host": _argument, "host_key": _host_key, "address": _address}
"""Keys that are one node's own."""
