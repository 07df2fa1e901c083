"""Check which file names of a node may be used here. Pure: a refused name never reaches the file system.

All names come from another machine. A name that two systems would read differently is refused, not repaired.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeGuard

from ...states import FileStatus

MAX_COMPONENT_BYTES = 255
"""Limit of common file systems."""
MAX_PATH_BYTES = 1024
MAX_DEPTH = 32
MAX_FILES = 20_000
MAX_FETCHED_FILE_BYTES = 1 << 50
"""Bytes of one file."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MIRRORED = re.compile(r"(spec|plan|start|store|exit|lease)\.json|(events|readings)\.jsonl|out\.log|ranks/[0-9]+\.jsonl")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A regular file of a node, with a name that is safe here."""

    name: str
    size: int
    """Bytes, as the node reports."""
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """An entry that is not fetched, and why."""

    name: str
    state: FileStatus
    """``refused``: its name or size is invalid; ``skipped``: it is not a regular file."""
    reason: str


def is_run_id(name: object) -> bool:
    """Whether a value from a node is a valid run id, which names a directory here."""
    return isinstance(name, str) and _RUN_ID.fullmatch(name) is not None


def is_node_name(name: object) -> bool:
    """Whether a value is a valid node name, which names a directory here: the rule of nodes.toml."""
    return is_run_id(name)


def is_mirrored(name: str) -> bool:
    """Whether this file is part of the mirror of a run."""
    return _MIRRORED.fullmatch(name) is not None


def refusal_reason(name: str) -> str | None:
    """Why a relative name is unsafe here; None: it is safe."""
    if not name or len(name) > MAX_PATH_BYTES or len(name.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return f"expected a name of 1 to {MAX_PATH_BYTES} bytes"
    parts = name.split("/")
    if len(parts) > MAX_DEPTH:
        return f"deeper than {MAX_DEPTH} directories"
    for part in parts:
        if part in ("", ".", ".."):
            return "leads out of its directory" if part == ".." else "not a plain relative name"
        if len(part.encode(errors="surrogatepass")) > MAX_COMPONENT_BYTES:
            return f"a part longer than {MAX_COMPONENT_BYTES} bytes"
        if "\\" in part or any(unicodedata.category(char) in _INVISIBLE_CATEGORIES for char in part):
            return "holds a backslash, or characters that cannot be seen"
        if part[-1] in ". " or part[0] == " " or _RESERVED.fullmatch(part):
            return "a name that some systems read as another one"
    return None


def check_entries(entries: Any) -> tuple[list[RemoteFile], list[RefusedFile]]:
    """The safe files of a node's list and the refused ones, each name at most once. Invalid entries are ignored.

    Of names that are equal on a file system that ignores case or normalizes Unicode, the first one is safe.
    """
    files: list[RemoteFile] = []
    refusals: list[RefusedFile] = []
    spelling: dict[str, str] = {}
    """Every safe name and directory: folded as such a file system does, and as written."""
    folded_files: set[str] = set()
    for entry in entries[: 2 * MAX_FILES] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
            continue
        size, changed, kind = entry.get("size"), entry.get("mtime_ns"), entry.get("kind")
        if (reason := refusal_reason(name)) is not None:
            refusals.append(RefusedFile(name[:MAX_PATH_BYTES], "refused", reason))
        elif kind == "directory":
            continue
        elif kind != "file":
            reason = f"is a {kind}" if kind in ("symlink", "fifo", "socket", "device") else "is no regular file"
            refusals.append(RefusedFile(name, "skipped", reason))
        elif not _is_count(size, MAX_FETCHED_FILE_BYTES) or not _is_count(changed, 1 << 63):
            refusals.append(RefusedFile(name, "refused", "its size or time is no number"))
        elif (other := _collision(name, spelling, folded_files)) is not None:
            refusals.append(RefusedFile(name, "refused", f"some systems take it for {other}"))
        elif len(files) >= MAX_FILES:
            refusals.append(RefusedFile(name, "refused", f"more than {MAX_FILES} files"))
        else:
            for path in _prefixes(name):
                spelling[_fold(path)] = path
            folded_files.add(_fold(name))
            files.append(RemoteFile(name, size, changed))
    return files, refusals


def match_names(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match a pattern or lie below a directory of ``patterns``; without patterns, all that are not mirrored."""
    if not patterns:
        return [name for name in names if not is_mirrored(name)]
    return [name for name in names if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")


def _is_count(value: object, limit: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def _prefixes(name: str) -> list[str]:
    """``a/b/c``: a, a/b, a/b/c."""
    parts = name.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def _collision(name: str, spelling: dict[str, str], folded_files: set[str]) -> str | None:
    """The earlier name that this one collides with; None: there is none."""
    *parents, path = _prefixes(name)
    for parent in parents:
        if spelling.get(_fold(parent), parent) != parent or _fold(parent) in folded_files:
            return spelling[_fold(parent)]
    return spelling.get(_fold(path))
