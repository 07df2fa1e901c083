"""What a machine is beside its devices: processor, memory, and its disk past the page cache."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import platform
import time
from pathlib import Path

from ..errors import StorageFailed
from ..events import SystemProfiled

FILE = 64 << 20
"""Bytes that are written and read."""
BLOCK = 4 << 20
LEAST = 0.05
"""Seconds that reading goes on for at least, over the file again: from a quick disk it is gone too soon."""


def measure_host(place: Path, versions: dict[str, str]) -> SystemProfiled:
    """``place``: a directory on the disk that counts, which is where runs and data lie."""
    write = read = None
    error = ""
    path = place / ".disk"
    try:
        write, read = measure_disk(path, FILE)
    except StorageFailed as failed:
        error = failed.reason
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return SystemProfiled(
        processor=_processor(),
        cores=os.cpu_count(),
        memory=_memory(),
        disk_write=write,
        disk_read=read,
        facts=versions,
        error=error,
    )


def measure_disk(path: Path, size: int) -> tuple[float, float]:
    """Bytes a second written, until they are on the disk, and read from it. Raises StorageFailed, on a full disk too."""
    with mmap.mmap(-1, BLOCK) as block:  # whole pages, as writing past the cache wants them
        block.write(os.urandom(BLOCK))  # some disks make short work of zeros
        try:
            return _write(path, block, size), _read(path, block, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFailed(f"the disk of {path.parent} is full: {size >> 20} MiB are needed to measure it") from None
            raise StorageFailed(f"cannot measure the disk of {path.parent}: {error.strerror}") from None


def _write(path: Path, block: mmap.mmap, size: int) -> float:
    handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        begun = time.perf_counter()
        for _ in range(size // BLOCK):
            done = 0
            with memoryview(block) as whole:
                while done < BLOCK:
                    with whole[done:] as rest:
                        done += os.write(handle, rest)
        os.fsync(handle)
        return size / (time.perf_counter() - begun)
    finally:
        os.close(handle)


def _read(path: Path, block: mmap.mmap, size: int) -> float:
    handle = _open(path, os.O_RDONLY)
    try:
        done = 0
        begun = time.perf_counter()
        while done < size or time.perf_counter() - begun < LEAST:
            if done % size == 0:
                os.lseek(handle, 0, os.SEEK_SET)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # where the file system knows no direct reading
            got = os.readv(handle, [block])
            if got <= 0:
                raise OSError(errno.EIO, "the file has become shorter")
            done += got
        return done / (time.perf_counter() - begun)
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> int:
    """Past the page cache where the file system lets us."""
    direct = getattr(os, "O_DIRECT", 0)
    try:
        return os.open(path, flags | direct, 0o600)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o600)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
