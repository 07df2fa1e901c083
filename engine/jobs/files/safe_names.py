"""Which names of a node may become files here. Pure: a name that is refused is never shown to the file system.

Everything in this file was said by another machine. A name that two systems would read differently is refused, not repaired.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeGuard

MAX_PART = 255
"""Bytes of a file name on every file system that matters."""
MAX_PATH = 1024
MAX_DEPTH = 32
MAX_FILES = 20_000
MAX_SIZE = 1 << 50
"""Bytes of one file."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COPIED = re.compile(r"(spec|plan|start|store|exit|lease)\.json|(events|readings)\.jsonl|out\.log|ranks/[0-9]+\.jsonl")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A regular file that a node offers under a name that can stand here."""

    name: str
    size: int
    """Bytes, as the node says."""
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """What is not taken, and why."""

    name: str
    state: str
    """``refused``: its name; ``skipped``: it is no regular file."""
    reason: str


def is_run_id(name: object) -> bool:
    """Whether a word of a node can name a run, and so a directory here."""
    return isinstance(name, str) and _RUN_ID.fullmatch(name) is not None


def is_node_name(name: object) -> bool:
    """Whether a word can be the name of a node, and so of its directory: what nodes.toml accepts as one."""
    return is_run_id(name)


def is_copied(name: str) -> bool:
    """Whether following a run brings this file home anyway."""
    return _COPIED.fullmatch(name) is not None


def refusal_reason(name: str) -> str | None:
    """Why a relative name cannot stand here; None: it can."""
    if not name or len(name) > MAX_PATH or len(name.encode(errors="surrogatepass")) > MAX_PATH:
        return f"expected a name of 1 to {MAX_PATH} bytes"
    parts = name.split("/")
    if len(parts) > MAX_DEPTH:
        return f"deeper than {MAX_DEPTH} directories"
    for part in parts:
        if part in ("", ".", ".."):
            return "leads out of its directory" if part == ".." else "not a plain relative name"
        if len(part.encode(errors="surrogatepass")) > MAX_PART:
            return f"a part longer than {MAX_PART} bytes"
        if "\\" in part or any(unicodedata.category(sign) in _UNSEEN for sign in part):
            return "holds a backslash, or characters that cannot be seen"
        if part[-1] in ". " or part[0] == " " or _RESERVED.fullmatch(part):
            return "a name that some systems read as another one"
    return None


def check_entries(entries: Any) -> tuple[list[RemoteFile], list[RefusedFile]]:
    """What a node's list offers, and what of it is refused; every name at most once. Whatever is no entry counts for nothing.

    Of names that a file system without cases or with one form of Unicode takes for the same, the first is offered.
    """
    offers: list[RemoteFile] = []
    refusals: list[RefusedFile] = []
    spelling: dict[str, str] = {}
    """Every offered name and directory, as such a file system sees it, and how it was written."""
    files: set[str] = set()
    for entry in entries[: 2 * MAX_FILES] if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
            continue
        size, changed, kind = entry.get("size"), entry.get("mtime_ns"), entry.get("kind")
        if (reason := refusal_reason(name)) is not None:
            refusals.append(RefusedFile(name[:MAX_PATH], "refused", reason))
        elif kind == "directory":
            continue
        elif kind != "file":
            what = kind if kind in ("symlink", "fifo", "socket", "device") else "no regular file"
            refusals.append(RefusedFile(name, "skipped", f"is a {what}" if what == kind else f"is {what}"))
        elif not _is_count(size, MAX_SIZE) or not _is_count(changed, 1 << 63):
            refusals.append(RefusedFile(name, "refused", "its size or time is no number"))
        elif (other := _collision(name, spelling, files)) is not None:
            refusals.append(RefusedFile(name, "refused", f"some systems take it for {other}"))
        elif len(offers) >= MAX_FILES:
            refusals.append(RefusedFile(name, "refused", f"more than {MAX_FILES} files"))
        else:
            for path in _paths(name):
                spelling[_folded(path)] = path
            files.add(_folded(name))
            offers.append(RemoteFile(name, size, changed))
    return offers, refusals


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that a person asked for: by pattern, or by a directory above; without any, all that does not come home anyway."""
    if not patterns:
        return [name for name in names if not is_copied(name)]
    return [name for name in names if any(fnmatchcase(name, one) or name.startswith(one.rstrip("/") + "/") for one in patterns)]


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < most


def _paths(name: str) -> list[str]:
    """``a/b/c``: a, a/b, a/b/c."""
    parts = name.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def _collision(name: str, spelling: dict[str, str], files: set[str]) -> str | None:
    """What was offered before and would be in the way of this name."""
    *above, whole = _paths(name)
    for path in above:
        if spelling.get(_folded(path), path) != path or _folded(path) in files:
            return spelling[_folded(path)]
    return spelling.get(_folded(whole))
