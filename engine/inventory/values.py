"""The readers of nodes.toml: for each key a function that checks and converts its value."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from ..protocol.hours import HOURS_EXAMPLE, parse_hours
from ..states import FAULT_CAUSES, FaultCause, NodeKind, member
from .link_presets import LINK_PRESETS

SUPPORTED_KINDS: tuple[NodeKind, ...] = ("ssh", "embedded", "slurm", "kubernetes")
SIZE_UNITS = {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
TIME_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

Readers = dict[str, Callable[[Any], Any]]
"""Per key, the function that reads its value. It raises InvalidValue."""


class InvalidValue(Exception):
    """A value is not valid. The message is the expectation."""


def text(value: Any) -> str:
    """Non-empty text in one line. Raises InvalidValue."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InvalidValue("expected text in one line")
    return value


def _argument(value: Any) -> str:
    """Text that ssh cannot take for an option."""
    if not isinstance(value, str) or not value.isprintable() or not value or value.startswith("-") or any(map(str.isspace, value)):
        raise InvalidValue("expected one word that does not begin with a dash")
    return value


def _host(value: Any) -> str:
    """A name, an address or an alias of ~/.ssh/config alone: user and port have keys of their own, which an error names."""
    host = _argument(value)
    rest = host.removeprefix("ssh://")
    user, _, address = rest.rpartition("@")
    match = re.fullmatch(r"\[([0-9A-Fa-f:.%]+)\](?::(\d+))?/?|([^:/]+)(?::(\d+))?/?", address)
    if match is None:
        return host  # such as an IPv6 address without brackets
    found = {"user": user, "host": match[1] or match[3], "port": match[2] or match[4]}
    if found["host"] == host:
        return host
    keys = [f"{key} = {item}" if key == "port" else f'{key} = "{item}"' for key, item in found.items() if item]
    raise InvalidValue(f"expected the host alone: write {', '.join(keys)}")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise InvalidValue("expected a letter or digit, then up to 63 letters, digits, dots, underscores or dashes")
    return value


def _kind(value: Any) -> NodeKind:
    kind = member(value, SUPPORTED_KINDS)
    if kind is None:
        raise InvalidValue(f"expected one of {', '.join(SUPPORTED_KINDS)}")
    return kind


def _preset(value: Any) -> str:
    if value not in LINK_PRESETS:
        raise InvalidValue(f"expected one of {', '.join(LINK_PRESETS)}")
    return str(value)


def integer(value: Any, minimum: int, maximum: int, expected: str) -> int:
    """A whole number between the limits, inclusive. ``expected``: the limits in words. Raises InvalidValue."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidValue(f"expected {expected}")
    return value


def _port(value: Any) -> int:
    return integer(value, 1, 65535, "a whole number from 1 to 65535")


def _step(value: Any) -> int:
    return integer(value, 0, 2**53, "a whole number, 0 or more")


def _jump(value: Any) -> str:
    for jump_host in str(value).split(","):
        _argument(jump_host if isinstance(value, str) else value)
        address = jump_host.rpartition("@")[2]
        if (
            address.startswith("-")
            or not address
            or not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+|[0-9A-Fa-f:.]*)(:\d{1,5})?", address)
        ):
            raise InvalidValue("expected jump hosts as user@host:port, separated by commas")
    return str(value)


def _host_key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", value):
        raise InvalidValue("expected a fingerprint as ssh-keygen -l shows it: SHA256: and 43 characters")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or value.startswith("-"):
        raise InvalidValue("expected a path")
    return value


def _remote_path(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not (value.startswith(("/", "~/")) or value == "~"):
        raise InvalidValue("expected a path on the node that begins with / or ~/")
    return value


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise InvalidValue("expected an IP address") from None


def _interface(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}", value):
        raise InvalidValue("expected the name of a network interface, such as eth0")
    return value


def _env(value: Any) -> dict[str, str]:
    is_table = isinstance(value, dict) and all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in value)
    if not is_table or not all(isinstance(item, str) and "\0" not in item for item in value.values()):
        raise InvalidValue("expected a table of texts, such as { OMP_NUM_THREADS = '4' }")
    return dict(value)


def _paths(value: Any) -> dict[str, str]:
    is_table = isinstance(value, dict) and all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in value)
    if not is_table or not all(isinstance(item, str) and item and item.isprintable() for item in value.values()):
        raise InvalidValue("expected a table of paths on the node, such as { data = '/srv/images' }")
    return dict(value)


def _partitions(value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(_is_slurm_word(word) for word in words):
        raise InvalidValue('expected names of partitions, such as ["gpu"]')
    return tuple(words)


def _is_slurm_word(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", value) is not None


def _slurm_word(value: Any) -> str:
    if not _is_slurm_word(value):
        raise InvalidValue("expected one name of Slurm, of letters, digits, dots and dashes")
    return str(value)


def _slurm_expression(value: Any) -> str:
    """Features or generic resources: no spaces, no quotes, nothing that begins a comment."""
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:,=&|*()\[\]-]{0,199}", value) is None:
        raise InvalidValue("expected words of Slurm without spaces, such as a100&nvlink or gpu:a100:2")
    return value


def _time_limit(value: Any) -> str:
    """A time limit as sbatch(1) takes it: minutes, ``minutes:seconds``, ``hours:minutes:seconds``, perhaps after ``days-``."""
    pattern = r"(\d{1,4}-\d{1,2}(:\d{1,2}){0,2}|\d{1,6}|\d{1,6}(:\d{1,2}){1,2})"
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise InvalidValue('expected a time limit as Slurm writes it, such as "04:00:00" or "2-12:00:00"')
    return value


def _dns_label(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value) is None:
        raise InvalidValue("expected a name of Kubernetes: small letters, digits and dashes, 63 at most")
    return value


def _quantity(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch(r"[1-9][0-9]{0,6}([kMGTPE]|[KMGTPE]i)", value) is None:
        raise InvalidValue('expected a size as Kubernetes writes it, such as "20Gi"')
    return value


def _machines(value: Any) -> int:
    return integer(value, 1, 1024, "a whole number from 1 to 1024")


def _devices_of_machine(value: Any) -> int:
    return integer(value, 0, 64, "a whole number from 0 to 64")


def flag(value: Any) -> bool:
    """True or false. Raises InvalidValue."""
    if not isinstance(value, bool):
        raise InvalidValue("expected true or false")
    return value


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag and tag.isprintable() for tag in value):
        raise InvalidValue("expected a list of texts")
    return tuple(value)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= 1e9:
        raise InvalidValue("expected a number")
    return float(value)


def _speed(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise InvalidValue("expected a number above 0, relative to the other devices")
    return number


def _slowdown(value: Any) -> float:
    if (number := _number(value)) <= 1:
        raise InvalidValue("expected a factor above 1")
    return number


def _cause(value: Any) -> FaultCause:
    cause = member(value, FAULT_CAUSES)
    if cause is None:
        raise InvalidValue(f"expected one of {', '.join(FAULT_CAUSES)}")
    return cause


def _noise(value: Any) -> float:
    if not 0 <= (number := _number(value)) <= 0.5:
        raise InvalidValue("expected a relative standard deviation from 0 to 0.5")
    return number


def _fraction(value: Any) -> float:
    if not 0 <= (number := _number(value)) <= 1:
        raise InvalidValue("expected a fraction from 0 to 1")
    return number


def _memory(value: Any) -> int:
    """``"12GiB"`` as bytes."""
    match = (
        re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([KMGT]I?B|B)", value.upper())
        if isinstance(value, str) and value.isascii()
        else None
    )
    size = 0 if match is None else round(float(match[1]) * SIZE_UNITS[match[2]])
    if not 0 < size < 2**50:
        raise InvalidValue('expected a size such as "12GiB"')
    return size


def _seconds(value: Any) -> float:
    """``"2 ms"`` as seconds."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*(us|ms|s)", value) if isinstance(value, str) and value.isascii() else None
    if match is None or float(match[1]) * TIME_UNITS[match[2]] > 10:
        raise InvalidValue('expected a time of up to 10 s, such as "2 ms"')
    return float(match[1]) * TIME_UNITS[match[2]]


def _rate(value: Any) -> float:
    """``"430/s"`` as samples per second."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*/\s*s", value) if isinstance(value, str) and value.isascii() else None
    if match is None or float(match[1]) <= 0:
        raise InvalidValue('expected samples per second such as "430/s"')
    return float(match[1])


def _bandwidth(value: Any) -> float:
    """``"1 Gbit/s"`` and ``"25 MB/s"`` as bytes per second."""
    match = (
        re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([KMG])(bit|B)/s", value) if isinstance(value, str) and value.isascii() else None
    )
    number = 0.0 if match is None else float(match[1]) * SIZE_UNITS[match[2] + "B"] / (8 if match[3] == "bit" else 1)
    if not 1e3 <= number <= 1e12:
        raise InvalidValue('expected a bandwidth such as "1 Gbit/s" or "25 MB/s"')
    return number


def _hours(value: Any) -> str:
    if not isinstance(value, str) or parse_hours(value) is None:
        raise InvalidValue(f'expected hours of a day such as "{HOURS_EXAMPLE}"; all day: leave it out')
    return value


SHARED_KEYS: Readers = {
    "kind": _kind,
    "port": _port,
    "user": _argument,
    "key": _path,
    "jump": _jump,
    "python": _path,
    "state_dir": _remote_path,
    "env": _env,
    "paths": _paths,
    "image": _argument,
    "interface": _interface,
    "read_only": flag,
    "hours": _hours,
    "tags": _tags,
}
"""Keys of a node that [defaults] may hold too."""
NODE_KEYS: Readers = {"name": _name, "host": _host, "host_key": _host_key, "address": _address}
"""Keys of a node that [defaults] may not hold."""
DEVICE_KEYS: Readers = {
    "name": text,
    "speed": _speed,
    "memory": _memory,
    "noise": _noise,
    "outliers": _fraction,
    "fixed": _seconds,
    "rate": _rate,
}
CLUSTER_KEYS: Readers = {"partitions": _partitions, "account": _slurm_word, "qos": _slurm_word, "time_limit": _time_limit}
"""Keys of a login node of Slurm only."""
KUBERNETES_KEYS: Readers = {
    "context": text,
    "kubeconfig": _path,
    "namespace": _dns_label,
    "claim": _dns_label,
    "image": _argument,
    "storage": _quantity,
    "runtime": _dns_label,
}
"""Keys of a cluster of Kubernetes only."""
CLASS_KEYS: Readers = {
    **DEVICE_KEYS,
    "nodes": _machines,
    "gpus": _devices_of_machine,
    "constraint": _slurm_expression,
    "gres": _slurm_expression,
    "partition": _slurm_word,
    "time_limit": _time_limit,
    "cpus": _machines,
}
"""Keys of a class of machines of a cluster. With ``speed`` its devices are emulated."""
LINK_KEYS: Readers = {"preset": _preset, "latency": _seconds, "bandwidth": _bandwidth, "jitter": _noise}
FAULT_KEYS: Readers = {"at_step": _step, "slowdown": _slowdown, "until_step": _step, "cause": _cause, "device": _step}
