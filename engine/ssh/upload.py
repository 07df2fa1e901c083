"""Uploads to a node: the bundle of modules and prepared data sets, each once per content digest.

An upload is complete or absent: it is written to a temporary name in the same directory, its size is checked, and it is renamed. An
existing file is never overwritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import asyncssh

from ..errors import NodeUnreachable, StorageFailed
from .bundle import bundle

_MIN_BLOCK_BYTES, _MAX_BLOCK_BYTES = 8 << 10, 256 << 10
"""A block is not acknowledged before all of it has arrived: on a slow line a large one would delay our keep-alive behind it."""
_QUICK_BLOCK_S, _SLOW_BLOCK_S = 0.25, 1.0
"""Seconds of a block below which the next one is twice as large, and above which it is half as large. They count from the quickest
block: the way there and back is no sign of a slow line."""
STALL_TIMEOUT = 30.0
"""Seconds for a node to accept one block or to answer. A slow link that makes progress does not time out."""
CLEANUP_TIMEOUT = 3.0
"""Seconds to find the cause of a failure and to remove temporary files. After that they stay, under names that no reader uses."""


async def upload_bundle(sftp: asyncssh.SFTPClient, node: str, root: str, on_sent: Callable[[int], None] = lambda size: None) -> str:
    """Upload the bundle below the node's root, unless it exists; returns the path of the zip file.

    ``on_sent`` is called with the number of bytes of each block. Raises StorageFailed or NodeUnreachable.
    """
    packed = bundle()
    path = f"{root}/bundles/{packed.name}"
    async with _uploading(sftp, node, path, len(packed.data)) as reset_timeout:
        await _make_directories(sftp, f"{root}/bundles")
        if not await sftp.exists(path):
            temporary = f"{root}/bundles/.{packed.name}.{secrets.token_hex(4)}"
            try:
                await _write(sftp, temporary, io.BytesIO(packed.data), reset_timeout, on_sent)
                await sftp.posix_rename(temporary, path)
            except BaseException:
                await _remove(sftp, temporary)
                raise
    return path


async def upload_tree(
    sftp: asyncssh.SFTPClient, node: str, local: Path, remote: str, on_sent: Callable[[int], None] = lambda size: None
) -> bool:
    """Copy a directory to a node, unless ``remote`` exists there; returns whether anything was sent.

    ``on_sent`` is called with the number of bytes of each block, and once with all bytes where ``remote`` exists. ``remote`` is an
    absolute path named by the digest of its content, so an existing one is not compared. Raises StorageFailed or NodeUnreachable.
    """
    parent, _, name = remote.rstrip("/").rpartition("/")
    paths = sorted(path for path in local.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in paths)
    async with _uploading(sftp, node, remote, size) as reset_timeout:
        if await sftp.exists(remote):
            on_sent(size)
            return False
        await _make_directories(sftp, parent)
        temporary = f"{parent}/.{name}.{secrets.token_hex(4)}"
        try:
            await sftp.mkdir(temporary, asyncssh.SFTPAttrs(permissions=0o700))
            for path in paths:
                target = PurePosixPath(temporary, path.relative_to(local).as_posix())
                await _make_directories(sftp, str(target.parent))
                with path.open("rb") as source:
                    await _write(sftp, str(target), source, reset_timeout, on_sent)
            try:
                await sftp.rename(temporary, remote)
            except asyncssh.SFTPError:
                if not await sftp.exists(remote):  # else another control process has uploaded the same digest
                    raise
                await _remove(sftp, temporary)
        except BaseException:
            await _remove(sftp, temporary)
            raise
    return True


async def _write(
    sftp: asyncssh.SFTPClient,
    path: str,
    source: BinaryIO,
    reset_timeout: Callable[[], None],
    on_sent: Callable[[int], None] = lambda size: None,
) -> None:
    size, block_bytes, quickest = 0, _MIN_BLOCK_BYTES, float("inf")
    file = await sftp.open(path, "wb", asyncssh.SFTPAttrs(permissions=0o600))
    clock = asyncio.get_running_loop().time
    try:
        while block := source.read(block_bytes):
            began = clock()
            await file.write(block)
            took = clock() - began
            quickest = min(quickest, took)
            if took - quickest < _QUICK_BLOCK_S:
                block_bytes = min(_MAX_BLOCK_BYTES, 2 * block_bytes)
            elif took - quickest > _SLOW_BLOCK_S:
                block_bytes = max(_MIN_BLOCK_BYTES, block_bytes // 2)
            size += len(block)
            reset_timeout()
            on_sent(len(block))
        await _sync(file)
        await file.close()
    except BaseException:
        with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):  # a stalled node may not answer this either
            async with asyncio.timeout(CLEANUP_TIMEOUT):
                await file.close()
        raise
    await _check_size(sftp, path, size)
    reset_timeout()


async def _sync(file: asyncssh.SFTPClientFile) -> None:
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):  # an extension of OpenSSH; without it the kernel decides when to write
        await file.fsync()


async def _check_size(sftp: asyncssh.SFTPClient, path: str, size: int) -> None:
    remote_size = (await sftp.stat(path)).size
    if remote_size != size:
        raise asyncssh.SFTPFailure(f"{remote_size} of {size} bytes arrived")


async def _make_directories(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Create all missing directories of an absolute path, with access for this user only."""
    missing = []
    while path not in ("", "/") and not await sftp.exists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    for directory in reversed(missing):
        try:
            await sftp.mkdir(directory, asyncssh.SFTPAttrs(permissions=0o700))
        except asyncssh.SFTPError:
            if not await sftp.isdir(directory):  # else it was created meanwhile
                raise


async def _remove(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Remove a temporary file or directory; it stays where the link is lost."""
    with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT):
            if await sftp.isdir(path):
                await sftp.rmtree(path)
            elif await sftp.exists(path):
                await sftp.remove(path)


@contextlib.asynccontextmanager
async def _uploading(sftp: asyncssh.SFTPClient, node: str, path: str, size: int) -> AsyncIterator[Callable[[], None]]:
    """Translate SFTP errors into StorageFailed or NodeUnreachable with node, path and hint.

    The body must call the yielded function whenever the node has accepted something: ``STALL_TIMEOUT`` seconds without a call mean
    that the node is unreachable.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STALL_TIMEOUT) as limit:
            yield lambda: limit.reschedule(loop.time() + STALL_TIMEOUT)
    except TimeoutError:
        raise NodeUnreachable(f"{path} could not be written: no block was accepted for {STALL_TIMEOUT:.0f} s", node=node) from None
    except (asyncssh.SFTPNoConnection, asyncssh.SFTPConnectionLost, asyncssh.DisconnectError, ConnectionError) as error:
        raise NodeUnreachable(f"the link was lost while {path} was written: {error}", node=node) from None
    except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect) as error:
        raise StorageFailed(f"cannot write {path}: {error.reason}", node=node, hint="set state_dir in nodes.toml") from None
    except asyncssh.SFTPError as error:
        # SFTP version 3 has one status for most errors, "Failure": check whether the disk is full.
        free = await _free_bytes(sftp, path)
        is_full = isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)) or "No space" in error.reason
        if is_full or (free is not None and free < size):
            reason = f"no space left for {path}: {size / 2**20:.1f} MiB needed"
            hint = "free some space there, or set state_dir in nodes.toml"
            raise StorageFailed(reason, node=node, hint=hint) from None
        reason = "its file system is read-only" if await _is_read_only(sftp, path) else error.reason
        raise StorageFailed(f"cannot write {path}: {reason}", node=node, hint="set state_dir in nodes.toml") from None


async def _is_read_only(sftp: asyncssh.SFTPClient, path: str) -> bool:
    """Whether the server says so of the file system of a path, or of the nearest directory that exists."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT):
            while path not in ("", "/"):
                path = path.rpartition("/")[0]
                with contextlib.suppress(asyncssh.SFTPError):  # does not exist, or not supported
                    return bool((await sftp.statvfs(path or "/")).flags & os.ST_RDONLY)
    return False


async def _free_bytes(sftp: asyncssh.SFTPClient, path: str) -> int | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT):
            while path not in ("", "/"):
                path = path.rpartition("/")[0]
                with contextlib.suppress(asyncssh.SFTPError):  # does not exist, or not supported
                    status = await sftp.statvfs(path or "/")
                    return int(status.bavail) * int(status.frsize)
    return None
