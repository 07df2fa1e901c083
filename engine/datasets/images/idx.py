"""Reads the IDX files of MNIST-like sets: images ``*-images-idx3-ubyte`` and labels ``*-labels-idx1-ubyte``, also with ``.gz``.

Format: Y. LeCun, "The MNIST database of handwritten digits": two zero bytes, a type byte, the number of dimensions, their sizes as
big-endian integers of 4 bytes, then the values.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import DataRefused
from ..rows import read_bytes

MAX_IDX_BYTES = 1 << 30
_UNSIGNED_BYTE = 8


def is_idx(path: Path) -> bool:
    """Whether the name is that of an IDX file."""
    return path.name.lower().removesuffix(".gz").endswith(("idx3-ubyte", "idx1-ubyte"))


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Values of an IDX file of unsigned bytes with so many dimensions. Raises DataRefused for another or a cut file."""
    content = read_bytes(path, MAX_IDX_BYTES)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataRefused(f"{path}: not an IDX file of bytes with {dimensions} dimensions", hint="get the file again")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    wanted = int(np.prod([int(size) for size in shape], dtype=object))
    if len(content) - start != wanted:
        raise DataRefused(
            f"{path}: {len(content) - start} values instead of {wanted}, as its header says", hint="get the file again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
