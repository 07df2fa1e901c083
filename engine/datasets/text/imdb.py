"""IMDB: 50,000 film reviews, good or bad, from the hub, Parquet, JSON lines, CSV, or the archive aclImdb_v1.tar.gz.

Source: A. Maas et al., "Learning Word Vectors for Sentiment Analysis", 2011. Reviews without a label are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..archives import is_archive
from ..catalog import DataSource
from ..directory import DataDirectory
from ..parts import DATA_PARTS, FoundData, describe_files, digest_of, find_data, find_files
from ..rows import PlacedRow, decoded, read_bytes
from ..source import Request
from .classified import TEXT_OPTIONS, TextColumns, load_texts

_CLASSES = ("negative", "positive")
_COLUMNS = TextColumns(("text", "review"), ("label", "sentiment"), _CLASSES, {})
_FOLDERS = {"neg": 0, "pos": 1}
_MAX_REVIEW_BYTES = 1 << 20


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """int32 [n, length] and int64 [n]: 0 bad, 1 good; validation is the test part of 25,000."""
    found = _reviews(request, directory) or find_data(data_source, request, directory)
    return load_texts(data_source, _COLUMNS, found, request, directory)


def _reviews(request: Request, directory: DataDirectory) -> FoundData | None:
    """The archive's layout, a file a review in ``train/pos``; None: the files are of another format."""
    if not any(is_archive(path) or path.is_dir() for path in request.files):
        return None
    found = find_files(request.files, directory, check=request.check)
    labelled = {part: [path for path in paths if path.parent.name in _FOLDERS] for part, paths in found.items()}
    labelled = {part: paths for part, paths in labelled.items() if paths}
    if not labelled:
        return None

    def reader(paths: list[Path]) -> Callable[[], Iterator[PlacedRow]]:
        return lambda: map(_review, paths)

    parts = {part: reader(labelled[part]) for part in DATA_PARTS if part in labelled}
    return FoundData("local", *describe_files(labelled), parts, labelled, digest_of(labelled, request.check))


def _review(path: Path) -> PlacedRow:
    text = decoded(read_bytes(path, _MAX_REVIEW_BYTES), str(path))
    return str(path), {"text": text, "label": _FOLDERS[path.parent.name]}


data_source = DataSource(
    "imdb",
    load,
    TEXT_OPTIONS | {"length": 512},
    hub="stanfordnlp/imdb",
    formats="Parquet, JSON lines, CSV of text,label, or aclImdb_v1.tar.gz",
    stand_in="synthetic-text",
)
