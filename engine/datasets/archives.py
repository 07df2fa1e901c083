"""Unpacks zip and tar archives into a folder of ours; members outside of it, links and devices are refused by name."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import DataRefused
from .csvfile import Check, never_interrupted

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_HINT = "unpack it yourself if you trust it, and name the folder"


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive."""
    return path.name.lower().endswith(_SUFFIXES)


def unpack(path: Path, folder: Path, check: Check = never_interrupted) -> None:
    """Unpack the regular files of an archive below ``folder``. Raises DataRefused with archive and member, OSError."""
    if not path.is_file():
        raise DataRefused(f"{path}: no such file", hint="name a file that exists")
    try:
        if path.name.lower().endswith(".zip"):
            _unpack_zip(path, folder, check)
        else:
            _unpack_tar(path, folder, check)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataRefused(f"{path}: damaged or unknown archive: {error}", hint="get the file again") from None


def check_member(path: Path, name: str) -> PurePosixPath:
    """The place of a member below the folder. Raises DataRefused for an absolute name, ``..``, or odd characters."""
    place = PurePosixPath(name.replace("\\", "/"))
    if (
        place.is_absolute()
        or ".." in place.parts
        or not place.parts
        or any(ord(sign) < 32 for sign in name)
        or ":" in place.parts[0]
    ):
        raise DataRefused(f"{path}: its member {name[:80]!r} would lie outside of the folder", hint=_HINT)
    return place


def _unpack_tar(path: Path, folder: Path, check: Check) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            check()
            place = check_member(path, member.name) if member.name not in (".", "./") else None
            if member.isdir() or place is None:
                continue
            if not member.isreg():
                raise DataRefused(f"{path}: its member {member.name[:80]!r} is no regular file", hint=_HINT)
            _check_space(path, folder, member.size)
            source = archive.extractfile(member)
            assert source is not None  # of a regular member
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _unpack_zip(path: Path, folder: Path, check: Check) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            check()
            place = check_member(path, member.filename)
            if member.is_dir():
                continue
            if (member.external_attr >> 28) not in (0, 8):  # file type of Unix; 8 is a regular file
                raise DataRefused(f"{path}: its member {member.filename[:80]!r} is no regular file", hint=_HINT)
            _check_space(path, folder, member.file_size)
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _check_space(path: Path, folder: Path, size: int) -> None:
    if size > shutil.disk_usage(folder).free // 2:
        raise DataRefused(f"{path}: a member of {size >> 20} MiB would fill the disk", hint="free space there")
