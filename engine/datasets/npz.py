"""Reads and writes NPZ files of training data, part by part, in chunks: neither the file nor an array has to fit into memory.

Names of arrays: ``X_train``, ``y_train``, ``X_val``, ``y_val``, ``X_test``, ``y_test``; ``train_x``, ``x_validation`` and the like
are read too. Refused are cut files, arrays of Python objects (pickles, which run code), members outside of the archive, and
parts that do not belong together.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused
from .csvfile import Check, never_interrupted
from .storage import translated_errors

NPZ_HINT = "expected the arrays X_train, y_train and X_test, y_test, perhaps X_val, y_val"
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_NAME = re.compile(
    r"([xy])_?(train|training|val|valid|validation|test)|(train|training|val|valid|validation|test)_?([xy])", re.IGNORECASE
)
_SHORT_PARTS = {"train": "train", "validation": "val", "test": "test"}
_CHUNK_BYTES = 4 << 20
_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class NpzArray:
    """One array of an NPZ file."""

    file: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def chunks(self, check: Check = never_interrupted) -> Iterator[npt.NDArray[Any]]:
        """Yield its rows in order. Raises DataRefused where the file is cut or damaged."""
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as member:
                _read_header(member)
                row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
                rows = max(1, _CHUNK_BYTES // max(1, row_bytes))
                for start in range(0, self.shape[0], rows):
                    check()
                    count = min(rows, self.shape[0] - start)
                    content = _read_exactly(member, count * row_bytes)
                    yield np.frombuffer(content, dtype=self.dtype).reshape(count, *self.shape[1:])
        except _ERRORS as error:
            raise _damaged(self.file, self.member, error) from None


def read_npz(path: Path) -> tuple[dict[str, NpzArray], dict[str, float]]:
    """The arrays by their stem, such as ``train_x``, and single numbers by their name. Raises DataRefused with file and array."""
    arrays: dict[str, NpzArray] = {}
    numbers: dict[str, float] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if "/" in name or "\\" in name or name.startswith(".") or not name.endswith(".npy"):
                    raise DataRefused(f"{path}: its member {name[:80]!r} does not belong into an NPZ file", hint=NPZ_HINT)
                with archive.open(entry) as member:
                    shape, dtype = _read_header(member)
                    _check_array(path, entry, shape, dtype, member.tell())
                    if not shape and dtype.kind in "fiu":
                        numbers[name.removesuffix(".npy")] = float(
                            np.frombuffer(_read_exactly(member, dtype.itemsize), dtype=dtype)[0]
                        )
                found = _NAME.fullmatch(name.removesuffix(".npy"))
                if found is not None and shape:
                    stem = f"{_PARTS[(found[2] or found[3]).lower()]}_{(found[1] or found[4]).lower()}"
                    if stem in arrays:
                        raise DataRefused(f"{path}: {arrays[stem].member} and {name} are both {stem}", hint=NPZ_HINT)
                    arrays[stem] = NpzArray(path, name, shape, dtype)
    except DataRefused:
        raise
    except _ERRORS as error:
        raise _damaged(path, "", error) from None
    _check_parts(path, arrays)
    return arrays, numbers


def _check_array(path: Path, entry: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype[Any], header: int) -> None:
    if dtype.hasobject:
        raise DataRefused(f"{path}: {entry.filename} holds Python objects, which are pickled and run code", hint="save numbers")
    if dtype.kind not in "fiub":
        raise DataRefused(f"{path}: {entry.filename} has the type {dtype}, not numbers", hint=NPZ_HINT)
    size = header + dtype.itemsize * int(np.prod([int(one) for one in shape], dtype=object))
    if size != entry.file_size:
        raise DataRefused(f"{path}: {entry.filename} has {entry.file_size} bytes instead of {size}, as its header says")


def _check_parts(path: Path, arrays: Mapping[str, NpzArray]) -> None:
    if "train_x" not in arrays:
        raise DataRefused(f"{path}: no array X_train", hint=NPZ_HINT)
    for part in _SHORT_PARTS:
        x, y = arrays.get(f"{part}_x"), arrays.get(f"{part}_y")
        if x is None and y is None:
            continue
        if x is None or y is None:
            raise DataRefused(f"{path}: {(x or y).member} has no companion", hint=NPZ_HINT)  # type: ignore[union-attr]  # one of both is there
        if x.shape[0] != y.shape[0]:
            raise DataRefused(f"{path}: {x.shape[0]} rows in {x.member} but {y.shape[0]} in {y.member}")
        if not x.shape[0]:
            raise DataRefused(f"{path}: {x.member} is empty", hint=NPZ_HINT)
        if x.shape[1:] != arrays["train_x"].shape[1:]:
            raise DataRefused(f"{path}: rows of {x.member} have the shape {x.shape[1:]}, of X_train {arrays['train_x'].shape[1:]}")


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"version {version} of .npy")
    shape, is_fortran, dtype = reader(member)
    if is_fortran and len(shape) > 1:
        raise ValueError("an array in column order: save np.ascontiguousarray of it")
    return tuple(int(size) for size in shape), dtype


def _read_exactly(member: IO[bytes], size: int) -> bytes:
    content = member.read(size)
    if len(content) != size:
        raise EOFError(f"cut: {len(content)} of {size} bytes")
    return content


def _damaged(path: Path, member: str, error: Exception) -> DataRefused:
    if isinstance(error, FileNotFoundError):
        return DataRefused(f"{path}: no such file", hint=NPZ_HINT)
    what = f"{path}: {member}: " if member else f"{path}: "
    reason = " ".join(str(error).split())[:160]
    return DataRefused(f"{what}not a whole NPZ file: {reason}", hint="write it again")


def write_npz(directory: Path, target: Path, numbers: Mapping[str, float], check: Check = never_interrupted) -> None:
    """Write the prepared arrays of a directory as one NPZ file, shards joined; complete or not at all. Raises StorageFailed."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with translated_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for part, short in _SHORT_PARTS.items():
                    for axis, name in (("x", f"X_{short}"), ("y", f"y_{short}")):
                        if files := array_files(directory, f"{part}_{axis}"):
                            _write_member(archive, f"{name}.npy", files, check)
                for name, number in numbers.items():
                    _write_number(archive, f"{name}.npy", number)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def array_files(directory: Path, stem: str) -> list[Path]:
    """The files of an array: one, or its shards in order; none where there is no such array."""
    whole = directory / f"{stem}.npy"
    return [whole] if whole.exists() else sorted(directory.glob(f"{stem}-*.npy"))


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # no time of day: equal data give equal files


def _write_member(archive: zipfile.ZipFile, name: str, files: Sequence[Path], check: Check) -> None:
    arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
    header = {"descr": np.lib.format.dtype_to_descr(arrays[0].dtype), "fortran_order": False, "shape": shape}
    with archive.open(_entry(name), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for array in arrays:
            row_bytes = max(1, array.nbytes // max(1, len(array)))
            rows = max(1, _CHUNK_BYTES // row_bytes)
            for start in range(0, len(array), rows):
                check()
                member.write(np.ascontiguousarray(array[start : start + rows]).tobytes())


def _write_number(archive: zipfile.ZipFile, name: str, number: float) -> None:
    with archive.open(_entry(name), "w") as member:
        np.lib.format.write_array(member, np.float64(number), version=(1, 0), allow_pickle=False)  # type: ignore[arg-type]  # a scalar is an array
