"""Writes a prepared data set array by array, rows appended as they come, so that it may be larger than memory.

Nothing is seen before the last byte: all files are written into a temporary directory, which is renamed at the end. One that a
killed process left behind is removed by the next preparation, which finds its lock free. Format: NumPy .npy version 1.0 and JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused
from ..protocol.private_files import make_directory, write_bytes
from .csvfile import Check, never_interrupted
from .storage import sha256, translated_errors

_CHUNK_BYTES = 4 << 20
_ABANDONED_S = 3600.0
"""Age at which a temporary directory without a lock belongs to nobody."""


class DataDirectory:
    """A data set in the making. Use as a context manager; without ``finish`` it leaves nothing behind."""

    def __init__(self, data_dir: Path, shard_bytes: int = 0, check: Check = never_interrupted) -> None:
        """``shard_bytes``: size at which the training part goes on in another file, ``train_x-00001.npy``; 0: one file."""
        self._data_dir, self._shard_bytes, self._check = data_dir, shard_bytes, check
        self._open: dict[str, _Array] = {}
        self._done: dict[str, dict[str, Any]] = {}
        self._files: list[str] = []
        self._shards: dict[str, int] = {}
        self._shard_rows = 0

    def __enter__(self) -> DataDirectory:
        with translated_errors(self._data_dir):
            make_directory(self._data_dir)
            remove_abandoned(self._data_dir)
            self._temporary = Path(tempfile.mkdtemp(prefix=".preparing-", dir=self._data_dir))
            self._lock = open(self._temporary / "lock", "wb")  # held until __exit__
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.path = self._temporary / "new"
            self.path.mkdir(mode=0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for array in self._open.values():
            array.abandon()
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._lock.close()

    def scratch(self) -> Path:
        """A new empty folder for what is unpacked meanwhile; it is removed at the end. Raises StorageFailed."""
        with translated_errors(self._temporary):
            return Path(tempfile.mkdtemp(prefix="unpacked-", dir=self._temporary))

    def append(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Add rows to the array ``name``, such as ``train_x``; the first ones fix type and shape of a row. Raises StorageFailed."""
        if rows.dtype == object:
            raise DataRefused(f"{name} holds Python objects instead of numbers")
        with translated_errors(self.path / name):
            if self._shard_bytes and name.startswith("train_"):
                self._append_to_shards(name, rows)
            else:
                self._array(name, name, rows).append(rows)
        self._check()

    def _append_to_shards(self, name: str, rows: npt.NDArray[Any]) -> None:
        """Shard by shard; those of x and y have the same rows, as many as the first array of the part has in ``shard_bytes``."""
        if not self._shard_rows:
            self._shard_rows = max(1, self._shard_bytes * len(rows) // max(1, rows.nbytes))
        while len(rows):
            number = self._shards.get(name, 0)
            array = self._array(name, f"{name}-{number:05d}", rows)
            room = self._shard_rows - array.rows
            array.append(rows[:room])
            if len(rows) >= room:
                self._close(name)
                self._shards[name] = number + 1
            rows = rows[room:]

    def _array(self, name: str, stem: str, rows: npt.NDArray[Any]) -> _Array:
        if name not in self._open:
            self._open[name] = _Array(self.path / f"{stem}.npy", rows)
        return self._open[name]

    def _close(self, name: str) -> None:
        array = self._open.pop(name)
        array.finish()
        self._done[array.path.stem] = {"shape": list(array.shape), "dtype": array.dtype.str}

    def rows(self, name: str) -> int:
        """Rows written to an array so far, over all its shards."""
        done = sum(facts["shape"][0] for stem, facts in self._done.items() if stem == name or stem.startswith(f"{name}-"))
        return int(done) + (self._open[name].rows if name in self._open else 0)

    def add_file(self, name: str, content: bytes) -> None:
        """Add another file, such as ``tokenizer.json``. Raises StorageFailed."""
        with translated_errors(self.path / name):
            write_bytes(self.path / name, content)
        self._files.append(name)

    def finish(self, manifest: dict[str, Any]) -> tuple[str, Path]:
        """Write the manifest with the facts of all arrays and rename the directory into place; returns digest and path.

        An existing directory of the same digest is kept where every file is right, else replaced. Raises StorageFailed.
        """
        with translated_errors(self.path):
            for name in list(self._open):
                self._close(name)
            arrays = {
                stem: facts | {"sha256": file_sha256(self.path / f"{stem}.npy", self._check)} for stem, facts in self._done.items()
            }
            files = {name: file_sha256(self.path / name) for name in self._files}
            content = (json.dumps(manifest | {"arrays": arrays, "files": files}, indent=1, sort_keys=True) + "\n").encode()
            write_bytes(self.path / "manifest.json", content)
            digest = sha256(content)[:16]
            path = self._data_dir / digest
            if not is_whole(path, content, self._check):
                if path.exists():
                    path.rename(self._temporary / "broken")
                try:
                    self.path.rename(path)
                except OSError:
                    if not is_whole(path, content, self._check):  # else another process prepared the same data first
                        raise
        return digest, path


class _Array:
    """One .npy file that grows: NumPy pads its header, so that the number of rows can be written at the end."""

    def __init__(self, path: Path, rows: npt.NDArray[Any]) -> None:
        self.path, self.dtype, self.row_shape, self.rows, self.size = path, rows.dtype.newbyteorder("<"), rows.shape[1:], 0, 0
        self._file: BinaryIO = path.open("xb")
        self._header_bytes = self._write_header()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, *self.row_shape)

    def _write_header(self) -> int:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()

    def append(self, rows: npt.NDArray[Any]) -> None:
        if rows.shape[1:] != self.row_shape or rows.dtype != self.dtype:
            raise DataRefused(f"rows of {self.path.stem} have shape {rows.shape[1:]} and type {rows.dtype} after {self.row_shape}")
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
        self.rows += len(rows)
        self.size += rows.nbytes

    def finish(self) -> None:
        self._file.seek(0)
        if self._write_header() != self._header_bytes:
            raise AssertionError("the header of a .npy file has another length than before")
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


def remove_abandoned(data_dir: Path) -> None:
    """Remove temporary directories of preparations that were killed. Those of living processes are locked and stay."""
    for found in data_dir.glob(".preparing-*"):
        try:
            with open(found / "lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(found, ignore_errors=True)
        except FileNotFoundError:  # not locked yet, or of an older version
            if time.time() - _modified(found) > _ABANDONED_S:
                shutil.rmtree(found, ignore_errors=True)
        except OSError:  # locked: somebody prepares
            continue


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def file_sha256(path: Path, check: Check = never_interrupted) -> str:
    """Hexadecimal digest of a file, read in chunks. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            check()
            digest.update(chunk)
    return digest.hexdigest()


def is_whole(path: Path, manifest: bytes | None = None, check: Check = never_interrupted) -> bool:
    """Whether a directory holds every file of its manifest with the right digest, and this manifest if one is given."""
    try:
        content = (path / "manifest.json").read_bytes()
        if manifest is not None and content != manifest:
            return False
        told = json.loads(content)
        wanted = {f"{stem}.npy": facts["sha256"] for stem, facts in told["arrays"].items()} | told.get("files", {})
        return all(file_sha256(path / name, check) == digest for name, digest in wanted.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
