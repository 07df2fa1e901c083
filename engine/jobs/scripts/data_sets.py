"""The data that a script is given by name: built-in sets, and folders of the centre. Parsing is pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from ...protocol.data_names import is_known, known_names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class NamedData:
    """Data that stand below ``PACELINE_DATA`` under a name."""

    name: str
    folder: Path | None = None
    """At the centre; None: a built-in set of that name."""


def named_data(given: Sequence[str], asked: Sequence[str], here: Path) -> tuple[NamedData, ...]:
    """All data of a script: those ``given`` at the launch, and those that its source ``asked`` for, each name once.

    A given word is the name of a built-in set, else a folder (``DIR`` or ``NAME=DIR``, below ``here``), which stands under its last
    part. Raises UsageError for a name that means nothing, or that means two things.
    """
    found: dict[str, NamedData] = {}
    for text in given:
        one = _given(text, here)
        if one.name in found and found[one.name] != one:
            raise UsageError(f"--data {text}: the name {one.name} is given twice", hint="name one of them NAME=DIR")
        found[one.name] = one
    for name in asked:
        if name not in found:
            if not is_known(name):
                hint = f"known: {known_names()}; a folder of yours is given with --data {name[:40]}=DIR"
                raise UsageError(f"the script asks for the data set {name[:60]!r}, which there is not", hint=hint)
            found[name] = NamedData(name)
    return tuple(found.values())


def _given(text: str, here: Path) -> NamedData:
    name, equals, place = text.partition("=")
    if not equals:
        if is_known(text):
            return NamedData(text)
        place = text
        name = (here / Path(text).expanduser()).resolve().name
    if not _NAME.fullmatch(name):
        raise UsageError(f"--data {text}: {name!r} is no name for data", hint="letters, digits, dots and dashes: --data NAME=DIR")
    folder = (here / Path(place).expanduser()).resolve()
    if not folder.exists() and not equals and "/" not in text:
        hint = f"known: {known_names()}; or a folder, --data NAME=DIR"
        raise UsageError(f"--data {text}: neither a data set nor a folder", hint=hint)
    return NamedData(name, folder)
