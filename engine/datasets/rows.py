"""Reads local files in the formats of the hub, row by row, with the place of each row for errors.

Formats: Parquet, JSON lines, JSON, CSV and TSV, plain text (one row a line), each also packed by gzip. Rows are values as the file
has them; nothing is repaired. A damaged file is refused with its name and the newest row that was whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataRefused
from ..protocol.regular_files import open_regular
from .csvfile import Check, never_interrupted
from .packages import needed

Row = dict[str, Any]
PlacedRow = tuple[str, Row]
"""Where the row stands, as ``FILE:LINE`` or ``FILE: row N``, and its values by column."""

MAX_TEXT_LINE_BYTES = 64 << 20
"""Longest line of a text file: a file without line ends would be read whole."""
MAX_JSON_BYTES = 1 << 30
_ROWS_BETWEEN_CHECKS = 256
TEXT_COLUMN = "text"
"""The column of a plain text file."""


def file_format(path: Path) -> str:
    """The format by the file's name, without ``.gz``: ``parquet``, ``jsonl``, ``json``, ``csv``, ``tsv``; else ``txt``."""
    name = path.name.lower().removesuffix(".gz")
    known = {"parquet": "parquet", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv"}
    return known.get(name.rpartition(".")[2], "txt")


def read_rows(
    path: Path,
    columns: Sequence[str] | None = None,
    check: Check = never_interrupted,
    headerless: Callable[[list[str]], bool] = lambda cells: False,
) -> Iterator[PlacedRow]:
    """Yield the rows of one file. Raises DataRefused with file and row.

    ``columns``: the names of the columns, for a CSV without a header. ``headerless``: whether the first row of a CSV is data.
    """
    kind = file_format(path)
    if kind == "parquet":
        rows = _parquet_rows(path)
    elif kind == "jsonl":
        rows = _json_lines(path)
    elif kind == "json":
        rows = _json_rows(path)
    elif kind in ("csv", "tsv"):
        rows = _csv_rows(path, "," if kind == "csv" else "\t", columns or (), headerless)
    else:
        rows = ((place, {TEXT_COLUMN: line}) for place, line in read_lines(path))
    for number, row in enumerate(rows):
        if number % _ROWS_BETWEEN_CHECKS == 0:
            check()
        yield row


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, unpacked where its name ends in ``.gz``. Raises DataRefused."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise DataRefused(f"{path}: {error.strerror}", hint="name a file that exists") from None
    return gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file  # type: ignore[return-value]  # GzipFile reads alike


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole file, unpacked, of at most ``limit`` bytes. Raises DataRefused."""
    with open_file(path) as file:
        try:
            content = file.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataRefused(f"{path}: damaged: {error}", hint="get the file again") from None
    if len(content) > limit:
        raise DataRefused(f"{path}: larger than {limit >> 20} MiB", hint="take a part of the file")
    return content


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of each line, without its end. Raises DataRefused for other bytes than UTF-8, NUL, and a cut file."""
    number = 0
    with open_file(path) as file:
        while True:
            try:
                line = file.readline(MAX_TEXT_LINE_BYTES + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise DataRefused(f"{path}:{number + 1}: damaged: {error}", hint="get the file again") from None
            if not line:
                return
            number += 1
            yield f"{path}:{number}", decoded(line, f"{path}:{number}", number == 1)


def decoded(line: bytes, place: str, is_first: bool = False) -> str:
    """A line as text without its end. Raises DataRefused."""
    if len(line) > MAX_TEXT_LINE_BYTES:
        raise DataRefused(f"{place}: longer than {MAX_TEXT_LINE_BYTES >> 20} MiB", hint="is it a text file?")
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError as error:
        raise DataRefused(f"{place}: not UTF-8 text from byte {error.start}", hint="convert the file to UTF-8") from None
    if "\0" in text:
        raise DataRefused(f"{place}: a NUL byte in the text", hint="is it a text file?")
    return text.removesuffix("\n").removesuffix("\r")


def _parquet_rows(path: Path) -> Iterator[PlacedRow]:
    parquet = needed("pyarrow.parquet", "Parquet files")
    errors = (needed("pyarrow", "Parquet files").ArrowException, OSError)
    with open_file(path) as raw:  # before pyarrow: a missing file or a pipe is refused by us
        packed = io.BytesIO(read_bytes(path, MAX_JSON_BYTES)) if path.name.endswith(".gz") else raw
        number = 0
        try:
            for batch in parquet.ParquetFile(packed).iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
        except errors as error:
            reason = " ".join(str(error).split())[:160]
            raise DataRefused(f"{path}: not a whole Parquet file after row {number}: {reason}", hint="get the file again") from None


def _json_lines(path: Path) -> Iterator[PlacedRow]:
    for place, line in read_lines(path):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataRefused(f"{place}: not JSON: {error}", hint="expected one JSON object a line") from None
            except RecursionError:
                raise DataRefused(f"{place}: JSON of too many levels", hint="expected one JSON object a line") from None
            yield place, _object(row, place)


def _json_rows(path: Path) -> Iterator[PlacedRow]:
    content = read_bytes(path, MAX_JSON_BYTES)
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise DataRefused(f"{path}: JSON of too many levels", hint="expected a list of objects") from None
    except ValueError as error:  # of JSON or of UTF-8
        if content.count(b"\n") > 1 and content.lstrip()[:1] == b"{":
            yield from _json_lines(path)  # many tools call JSON lines .json
            return
        raise DataRefused(f"{path}: not JSON: {error}", hint="expected a list of objects") from None
    if isinstance(document, dict):  # {"data": [...]}, as the hub's older files have it, or one object alone
        document = next((value for value in document.values() if isinstance(value, list)), [document])
    if not isinstance(document, list):
        raise DataRefused(f"{path}: a JSON {type(document).__name__} instead of a list of objects")
    for number, row in enumerate(document, 1):
        yield f"{path}: row {number}", _object(row, f"{path}: row {number}")


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise DataRefused(f"{place}: a {type(row).__name__} instead of an object with named values")
    return row


def _csv_rows(path: Path, delimiter: str, columns: Sequence[str], headerless: Callable[[list[str]], bool]) -> Iterator[PlacedRow]:
    lines = (f"{line}\n" for _, line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] = []
    csv.field_size_limit(MAX_TEXT_LINE_BYTES)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataRefused(f"{path}:{reader.line_num}: {error}", hint="is a quote left open?") from None
        if not any(cells):
            continue
        place = f"{path}:{reader.line_num}"
        if not names:
            names = list(columns) if headerless(cells) else [cell.strip() for cell in cells]
            if len(set(names)) != len(names):
                raise DataRefused(f"{place}: the header names a column twice: {', '.join(names)[:120]}")
            if not headerless(cells):
                continue
        if len(cells) != len(names):
            raise DataRefused(f"{place}: {len(cells)} cells instead of {len(names)}: {', '.join(names)[:80]}")
        yield place, dict(zip(names, cells, strict=True))
