"""A folder at the centre as data of a script: its digest, by which it is pushed once to every node.

The content is read once: the digest is kept beside the names, sizes and times of the files it was made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from ...datasets.storage import write_atomically
from ...errors import PacelineError, StorageFailed, UsageError
from ...plan import DataPlan
from ...protocol.json_files import read_json

_BLOCK_BYTES = 1 << 20
Check = Callable[[], None]


def read_folder(name: str, folder: Path, kept: Path, check: Check = lambda: None) -> DataPlan:
    """The plan of a folder's data. ``kept``: directory here of digests that were computed before; ``check`` may raise to end it.

    Raises UsageError where it is no folder with files, StorageFailed where a file cannot be read.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such directory"
        raise UsageError(f"--data {name}: {folder} {what}", hint="name a data set that Paceline knows, or a folder")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())  # what upload_tree copies
    if not paths:
        raise UsageError(f"--data {name}: {folder} holds no files")
    try:
        status = [(path.relative_to(folder).as_posix(), (facts := path.stat()).st_size, facts.st_mtime_ns) for path in paths]
        state = hashlib.sha256(json.dumps(status).encode()).hexdigest()
        note = kept / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
        known = read_json(note) or {}
        digest = known.get("digest") if known.get("state") == state else None
        if not isinstance(digest, str):
            digest = _digest(folder, paths, check)
            with contextlib.suppress(PacelineError):  # a full disk costs reading the folder again, no more
                write_atomically(note, json.dumps({"state": state, "digest": digest}).encode())
    except OSError as error:
        raise StorageFailed(f"cannot read {error.filename or folder}: {error.strerror or error}") from None
    return DataPlan(digest=digest, source=str(folder), rows=len(paths), sha256=digest, name=name)


def _digest(folder: Path, paths: list[Path], check: Check) -> str:
    """SHA-256 of all names and contents."""
    whole = hashlib.sha256()
    for path in paths:
        name, one = path.relative_to(folder).as_posix(), hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                one.update(block)
                check()
        whole.update(f"{len(name)} {name} {one.hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()
