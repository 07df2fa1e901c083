"""A job as a TOML file: every option of ``train`` and ``bench`` as a key, refused with file, line and key where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...experiments.policies import check_policies
from ...inventory.toml_file import TomlFile
from ...inventory.values import InvalidValue, Readers, flag, integer, text
from ...specs import COMPRESSIONS, POLICIES
from ...workloads import WORKLOADS

MOST = 10**9 - 1
"""Of what is counted: as on the command line."""


def read_job(path: Path) -> dict[str, Any]:
    """The options that a file gives, by their names without dashes, each as the command line has it.

    One file serves ``train``, ``plan`` and ``bench``, each of which takes the keys it knows. A relative ``csv`` is beside it.
    Raises ConfigurationError, one line that names file, line, key and what was expected.
    """
    file = TomlFile(path, "a job", "a job is a TOML file, such as job.toml; options need no file")
    found = file.values((), file.load(), JOB, "a job")
    if found.get("wait") and found.get("share"):
        file.refuse(("share",), "expected one of wait and share, or none")
    if "csv" in found:
        found["csv"] = str(path.absolute().parent / Path(found["csv"]).expanduser())
    return found


def _one_of(known: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in known:
            raise InvalidValue(f"expected one of {', '.join(known)}")
        return str(value)

    return read


def _count(value: Any) -> int:
    return integer(value, 1, MOST, f"a whole number from 1 to {MOST}")


def _seed(value: Any) -> int:
    return integer(value, 0, 2**63 - 1, f"a whole number from 0 to {2**63 - 1}")


def _devices(value: Any) -> str:
    """A set, or a list of sets."""
    sets = value if isinstance(value, list) and value else [value]
    if not all(isinstance(one, str) and one.isprintable() and one.strip(", ") for one in sets):
        raise InvalidValue('expected "all", "auto", a set such as "lab[1-3],atlas:0", or a list of sets')
    return ",".join(sets)


def _policies(value: Any) -> str:
    try:
        check_policies(value if isinstance(value, list) else [value])
    except (UsageError, TypeError):
        raise InvalidValue(f"expected a list of different policies: {', '.join(POLICIES)}") from None
    return ",".join(value if isinstance(value, list) else [value])


JOB: Readers = {
    "workload": _one_of(tuple(WORKLOADS)),
    "policy": _one_of(POLICIES),
    "policies": _policies,
    "repeats": _count,
    "epochs": _count,
    "global_batch_size": _count,
    "accumulation": _count,
    "compression": _one_of(COMPRESSIONS),
    "local_steps": _count,
    "seed": _seed,
    "csv": text,
    "devices": _devices,
    "wait": flag,
    "share": flag,
    "on_end": text,
}
"""Every key of a job and what reads its value."""
