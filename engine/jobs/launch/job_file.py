"""A job as a TOML file: every option of a job is a key, and a wrong one is refused with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...inventory.toml_file import TomlFile
from ...inventory.values import InvalidValue, flag, integer, text
from .job_options import JobOption, OptionKind, exclusive_groups, job_file_options

MAX_COUNT = 10**9 - 1
"""Largest accepted count, as on the command line."""
MAX_SEED = 2**63 - 1


def read_job_file(path: Path) -> dict[str, Any]:
    """The options in a job file by name, each with the value that the command line would give it.

    One file serves ``train``, ``plan`` and ``bench``; each verb takes the keys it knows. A relative path is relative to the file.
    Raises ConfigurationError with file, line, key and expected value.
    """
    file = TomlFile(path, "a job", "a job is a TOML file, such as job.toml; options need no file")
    options = job_file_options()
    values = file.read_values((), file.load(), {name: _reader(option) for name, option in options.items()}, "a job")
    for names in exclusive_groups(options):
        given = [name for name in names if values.get(name)]
        if len(given) > 1:
            file.refuse((given[-1],), f"expected one of {' and '.join(names)}, or none")
    if "script" in values and "module" in values:
        file.refuse(("module",), "expected one of script and module, or none")
    if "args" in values and not values.keys() & {"script", "module"}:
        file.refuse(("args",), "expected a script or a module beside it")
    for name in values:
        if options[name].kind is OptionKind.PATH:
            values[name] = str(path.absolute().parent / Path(values[name]).expanduser())
        elif options[name].kind is OptionKind.DATA_SETS:
            values[name] = [_below(path.absolute().parent, text) for text in values[name]]
    return values


def _below(directory: Path, text: str) -> str:
    """A folder of data below the directory of the file; the name of a data set stays."""
    name, equals, folder = text.rpartition("=")
    if not equals and "/" not in text and not (directory / text).is_dir():
        return text
    return f"{name}{equals}{directory / Path(folder).expanduser()}"


def _reader(option: JobOption) -> Callable[[Any], Any]:
    """The function that reads the TOML value of an option."""
    match option.kind:
        case OptionKind.CHOICE | OptionKind.STRICT_CHOICE:
            return _one_of(option.choices)
        case OptionKind.CHOICES:
            return _several_of(option.choices, option.name)
        case kind:
            return _READERS[kind]


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise InvalidValue(f"expected one of {', '.join(choices)}")
        return str(value)

    return read


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts, each of which becomes one argument."""
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise InvalidValue('expected a list of texts, such as ["--lr", "0.1"]')
    return tuple(value)


def _data_sets(value: Any) -> list[str]:
    """One or several data sets and folders."""
    items = value if isinstance(value, list) and value else [value]
    if not all(isinstance(item, str) and item.strip() and item.isprintable() for item in items):
        raise InvalidValue('expected a data set such as "digits", a folder such as "images=./images", or a list of them')
    return list(items)


def _count(value: Any) -> int:
    return integer(value, 1, MAX_COUNT, f"a whole number from 1 to {MAX_COUNT}")


def _seed(value: Any) -> int:
    return integer(value, 0, MAX_SEED, f"a whole number from 0 to {MAX_SEED}")


def _value(value: Any) -> str:
    """A number or a word."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidValue("expected a number or a word")
    return str(value)


def _devices(value: Any) -> str:
    """A set, or a list of sets."""
    sets = value if isinstance(value, list) and value else [value]
    if not all(isinstance(item, str) and item.isprintable() and item.strip(", ") for item in sets):
        raise InvalidValue('expected "all", "auto", a set such as "lab[1-3],atlas:0", or a list of sets')
    return ",".join(sets)


def _several_of(choices: tuple[str, ...], noun: str) -> Callable[[Any], str]:
    """A list of choices, each at most once, or one of them; joined by commas as on the command line."""

    def read(value: Any) -> str:
        items = value if isinstance(value, list) else [value]
        if not items or any(item not in choices for item in items) or len(set(items)) < len(items):
            raise InvalidValue(f"expected a list of different {noun}: {', '.join(choices)}")
        return ",".join(items)

    return read


_READERS: dict[OptionKind, Callable[[Any], Any]] = {
    OptionKind.FLAG: flag,
    OptionKind.COUNT: _count,
    OptionKind.SEED: _seed,
    OptionKind.TEXT: text,
    OptionKind.TEXTS: _texts,
    OptionKind.PATH: text,
    OptionKind.DATA_SETS: _data_sets,
    OptionKind.DEVICES: _devices,
    OptionKind.VALUE: _value,
}
