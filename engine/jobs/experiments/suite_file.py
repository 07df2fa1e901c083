"""A suite as a TOML file: what is compared, on what, how often. The command line takes precedence over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...inventory.toml_file import TomlFile
from ...inventory.values import InvalidValue, flag, integer, text
from ...states import POLICIES
from ...workloads import WORKLOADS


def read_suite_file(path: Path) -> dict[str, Any]:
    """The values of a suite by name. Raises ConfigurationError with file, line, key and what was expected."""
    file = TomlFile(path, "a suite", "a suite is a TOML file with workloads, policies, repeats")
    return file.read_values((), file.load(), _READERS, "a suite")


def _several(known: tuple[str, ...]) -> Any:
    def read(value: Any) -> list[str]:
        words = value if isinstance(value, list) else [value]
        wrong = [word for word in words if word not in known]
        if wrong or not words or len(set(words)) < len(words):
            raise InvalidValue(f"expected some of {', '.join(known)}, each once")
        return list(words)

    return read


def _positive(value: Any) -> int:
    return integer(value, 1, 10**9 - 1, "a whole number of at least 1")


def _seed(value: Any) -> int:
    return integer(value, 0, 2**63 - 1, "a whole number, 0 or more")


_READERS = {
    "workloads": _several(tuple(WORKLOADS)),
    "policies": _several(POLICIES),
    "repeats": _positive,
    "epochs": _positive,
    "devices": text,
    "seed": _seed,
    "quick": flag,
    "share": flag,
    "name": text,
}
