"""Two text files of one sentence a line each, such as ``train.de`` and ``train.en``, also with ``.gz``: lines are pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataRefused
from ..archives import is_archive
from ..catalog import DataSource
from ..directory import DataDirectory
from ..parts import DATA_PARTS, describe_files, digest_of, find_data, find_files
from ..rows import PlacedRow, read_lines
from ..source import Request
from ..text.classified import check_sizes
from .sentence_pairs import load_pairs


def load_pair_files(source: DataSource, request: Request, directory: DataDirectory, is_streamed: bool = False) -> dict[str, Any]:
    """Load pairs from two files a part, else from rows with both languages, else from the hub."""
    check_sizes(source.name, request)
    languages = str(request.options["source"]), str(request.options["target"])
    if any(_has_lines(path, languages) for path in request.files):
        found = find_files(request.files, directory, tuple(f".{language}" for language in languages), request.check)
        parts = {part: _reader(source, part, found[part], languages) for part in DATA_PARTS if part in found}
        path, provenance = describe_files(found)
        facts = load_pairs(source, parts, request, directory)
        digest = digest_of(found, request.check)
        return {**facts, "source": "local", "path": path, "provenance": provenance, "sha256": digest}
    rows = find_data(source, request, directory, is_streamed=is_streamed)
    facts = load_pairs(source, rows.parts, request, directory)
    return {**facts, **rows.facts(facts["rows"])} | ({} if rows.sha256 else {"sha256": facts["sha256"]})


def language_of(path: Path) -> str:
    """The language that the end of a file's name tells: ``train.de.gz`` -> ``de``."""
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


def _has_lines(path: Path, languages: tuple[str, str]) -> bool:
    inside = path.rglob("*") if path.is_dir() else [path]
    return is_archive(path) or any(language_of(file) in languages for file in inside)


def _reader(source: DataSource, part: str, paths: list[Path], languages: tuple[str, str]) -> Callable[[], Iterator[PlacedRow]]:
    files = []
    for language in languages:
        own = [path for path in paths if language_of(path) == language]
        if len(own) != 1:
            names = ", ".join(path.name for path in paths)
            raise DataRefused(
                f"{source.name}: {len(own)} files of {language} for {part} among {names}", hint="one file for each language"
            )
        files.append(own[0])
    return lambda: read_pairs(files[0], files[1], languages)


def read_pairs(one: Path, other: Path, languages: tuple[str, str]) -> Iterator[PlacedRow]:
    """Yield line by line both sentences. Raises DataRefused where one file has more lines than the other."""
    lines, others = read_lines(one), read_lines(other)
    count = 0
    while True:
        first, second = next(lines, None), next(others, None)
        if first is None and second is None:
            return
        if first is None or second is None:
            short, long = (one, other) if first is None else (other, one)
            rest = count + 1 + sum(1 for _ in (others if first is None else lines))
            raise DataRefused(f"{short}: {count} lines, but {long.name} has {rest}", hint="line by line they must be translations")
        count += 1
        yield first[0], {languages[0]: first[1], languages[1]: second[1]}
