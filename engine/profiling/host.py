"""Profile of a machine besides its devices: processor, memory and their speed, and disk throughput without the page cache."""

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
from .processor import measure_processor

DISK_TEST_BYTES = 64 << 20
"""Bytes written and read to measure a disk."""
DISK_BLOCK_BYTES = 4 << 20
MIN_READ_SECONDS = 0.05
"""Least seconds of reading; the file is read again and again until then, because a fast disk reads it too quickly to time."""


def measure_host(directory: Path, versions: dict[str, str]) -> SystemProfiled:
    """Return the profile of this machine. ``directory``: where runs and data lie, on the disk to measure."""
    write = read = tflops = bandwidth = None
    error = ""
    path = directory / ".disk"
    try:
        write, read = measure_disk(path, DISK_TEST_BYTES)
    except StorageFailed as failed:
        error = failed.reason
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    try:
        tflops, bandwidth = measure_processor()
    except (RuntimeError, MemoryError) as failed:  # torch's own: too little memory for a copy
        error = error or f"cannot measure the processor: {str(failed).splitlines()[0][:200]}"
    return SystemProfiled(
        processor=_processor(),
        cores=os.cpu_count(),
        memory=_memory(),
        disk_write=write,
        disk_read=read,
        processor_tflops=tflops,
        memory_bandwidth=bandwidth,
        facts=versions,
        error=error,
    )


def measure_disk(path: Path, size: int) -> tuple[float, float]:
    """Return the bytes per second written (with fsync) and read. Raises StorageFailed where the disk is full or fails."""
    with mmap.mmap(-1, DISK_BLOCK_BYTES) as block:  # page-aligned, as O_DIRECT requires
        block.write(os.urandom(DISK_BLOCK_BYTES))  # some disks compress zeros
        try:
            return _write(path, block, size), _read(path, block, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFailed(f"the disk of {path.parent} is full: {size >> 20} MiB are needed to measure it") from None
            raise StorageFailed(f"cannot measure the disk of {path.parent}: {error.strerror}") from None


def _write(path: Path, block: mmap.mmap, size: int) -> float:
    handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        start = time.perf_counter()
        for _ in range(size // DISK_BLOCK_BYTES):
            done = 0
            with memoryview(block) as view:
                while done < DISK_BLOCK_BYTES:
                    with view[done:] as rest:
                        done += os.write(handle, rest)
        os.fsync(handle)
        return size / (time.perf_counter() - start)
    finally:
        os.close(handle)


def _read(path: Path, block: mmap.mmap, size: int) -> float:
    handle = _open(path, os.O_RDONLY)
    try:
        done = 0
        start = time.perf_counter()
        while done < size or time.perf_counter() - start < MIN_READ_SECONDS:
            if done % size == 0:
                os.lseek(handle, 0, os.SEEK_SET)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # for file systems without O_DIRECT
            received = os.readv(handle, [block])
            if received <= 0:
                raise OSError(errno.EIO, "the file was truncated")
            done += received
        return done / (time.perf_counter() - start)
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> int:
    """Open a file with O_DIRECT, or without it where the file system does not support it."""
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
