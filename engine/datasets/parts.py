"""Finds the parts of a data set, train, validation and test, in local files or on the hub, and gives their rows alike.

A file belongs to the part that its name or that of its folder tells, as on the hub; without such a word it is for training.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataRefused
from .archives import is_archive, unpack
from .catalog import DataSource
from .csvfile import Check
from .directory import DataDirectory, file_sha256
from .hub import hub_parts, hub_rows
from .rows import PlacedRow, read_rows
from .source import Request

DATA_PARTS = ("train", "validation", "test")
_WORDS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_WORDS |= {"dev": "validation", "test": "test", "testing": "test", "t10k": "test"}
_WORD = re.compile(r"[a-z0-9]+")
_IGNORED = ("readme", "license", "licence", "dataset_info", "state", "manifest", "categories", "checksums")
ALL_FORMATS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class FoundData:
    """The parts of a data set and where they are."""

    kind: str
    """``hub`` or ``local``."""
    path: str
    """Its name on the hub, or the names of the files without their folders, which differ between machines."""
    provenance: str
    """For people."""
    parts: dict[str, Callable[[], Iterator[PlacedRow]]]
    """Rows of each part, from the beginning at each call."""
    files: dict[str, list[Path]] = field(default_factory=dict)
    """Local files of each part."""
    sha256: str = ""
    """Of the local files; empty: of the hub, where only what was read can be hashed."""

    def facts(self, rows: int) -> dict[str, Any]:
        """The manifest's entries about the source."""
        return {"source": self.kind, "path": self.path, "provenance": self.provenance, "sha256": self.sha256, "rows": rows}


def part_of(path: Path, root: Path | None = None) -> str | None:
    """The part that the name of a file, or of its folders below ``root``, tells; None: it tells none."""
    folders = path.relative_to(root).parts[:-1] if root is not None else ()
    for name in (path.name, *reversed(folders)):
        for word in _WORD.findall(name.lower()):
            if (part := _WORDS.get(word)) is not None:
                return part
    return None


def find_files(
    files: Sequence[Path], directory: DataDirectory, suffixes: Sequence[str] = ALL_FORMATS, check: Check = lambda: None
) -> dict[str, list[Path]]:
    """The local files of each part, from files, folders and archives. Raises DataRefused where there is none."""
    found: dict[str, list[Path]] = {}
    for file in files:
        root = file
        if is_archive(file):
            root = directory.scratch()
            unpack(file, root, check)
        elif not file.exists():
            raise DataRefused(f"{file}: no such file or folder", hint="name a file that exists")
        if root.is_dir():
            inside = [path for path in sorted(root.rglob("*")) if path.is_file() and _is_data(path, suffixes)]
            if not inside:
                raise DataRefused(f"{file}: no file of a known format in it", hint=f"known: {', '.join(suffixes)}, also with .gz")
            for path in inside:
                found.setdefault(part_of(path, root) or "train", []).append(path)
        else:
            found.setdefault(part_of(file) or "train", []).append(file)
    return found


def _is_data(path: Path, suffixes: Sequence[str]) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(tuple(suffixes)) and not name.startswith(_IGNORED) and not name.startswith(".")


def find_data(
    source: DataSource,
    request: Request,
    directory: DataDirectory,
    *,
    columns: Sequence[str] | None = None,
    headerless: Callable[[list[str]], bool] = lambda cells: False,
    is_streamed: bool = False,
) -> FoundData:
    """The data a person named, else those of the hub. Raises DataRefused, which says where was looked and how to go on."""
    if request.files:
        found = find_files(request.files, directory, check=request.check)

        def reader(paths: list[Path]) -> Callable[[], Iterator[PlacedRow]]:
            return lambda: itertools.chain.from_iterable(read_rows(path, columns, request.check, headerless) for path in paths)

        return FoundData(
            "local",
            *describe_files(found),
            {part: reader(paths) for part, paths in found.items()},
            found,
            digest_of(found, request.check),
        )
    parts = hub_parts(source, request, is_streamed)

    def hub_reader(part: str) -> Callable[[], Iterator[PlacedRow]]:
        return lambda: hub_rows(source, part, parts[part], request.check)

    return FoundData(
        "hub", source.hub, f"{source.hub} of the Hugging Face hub", {part: hub_reader(part) for part in DATA_PARTS if part in parts}
    )


def describe_files(found: dict[str, list[Path]]) -> tuple[str, str]:
    """The names of the files, and a sentence about them."""
    names = [path.name for part in DATA_PARTS for path in found.get(part, ())]
    path = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return path, f"local file{'s' * (len(names) != 1)} {path}"


def digest_of(found: dict[str, list[Path]], check: Check) -> str:
    """SHA-256 over the digests of all files, in the order of parts and names."""
    digest = hashlib.sha256()
    for part in DATA_PARTS:
        for path in found.get(part, ()):
            try:
                digest.update(f"{part}:{file_sha256(path, check)}\n".encode())
            except OSError as error:
                raise DataRefused(f"{path}: {error.strerror}") from None
    return digest.hexdigest()
