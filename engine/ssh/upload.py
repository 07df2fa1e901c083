"""Bringing files to a node: our own modules, once per content digest, and prepared data, once per digest.

Everything arrives whole or not at all: written aside in the same directory, its size checked, then renamed. Nothing that is there
is overwritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import asyncssh

from ..errors import NodeUnreachable, StorageFailed
from .bundle import bundle

if TYPE_CHECKING:
    from .link import Link

_BLOCK = 256 << 10
STALL_SECONDS = 30.0
"""Seconds in which a node must take one block or answer; a slow line that goes on is fine."""
CLEANUP_SECONDS = 3.0
"""Seconds to look what went wrong and to remove what was written aside; then it stays there, under a name nobody reads."""


async def upload_bundle(sftp: asyncssh.SFTPClient, node: str, root: str, sent: Callable[[int], None] = lambda size: None) -> str:
    """Put our modules below the node's root, unless they are there already; returns the path of the zip.

    ``sent`` hears of every block how many bytes it was.
    """
    packed = bundle()
    path = f"{root}/bundles/{packed.name}"
    async with _storing(sftp, node, path, len(packed.data)) as went_on:
        await _make_directories(sftp, f"{root}/bundles")
        if not await sftp.exists(path):
            aside = f"{root}/bundles/.{packed.name}.{secrets.token_hex(4)}"
            try:
                await _write(sftp, aside, io.BytesIO(packed.data), went_on, sent)
                await sftp.posix_rename(aside, path)
            except BaseException:
                await _forget(sftp, aside)
                raise
    return path


async def upload_tree(link: Link, local: Path, remote: str, sent: Callable[[int], None] = lambda size: None) -> bool:
    """Copy a directory to a node, unless ``remote`` exists there; returns whether anything was sent. Raises StorageFailed.

    ``sent`` hears of every block how many bytes it was, and of all bytes at once where they are there already.

    ``remote`` is absolute, and named by the digest of what it holds: what is there is never looked at again.
    """
    sftp = await link.sftp()
    parent, _, name = remote.rstrip("/").rpartition("/")
    paths = sorted(path for path in local.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in paths)
    async with _storing(sftp, link.node, remote, size) as went_on:
        if await sftp.exists(remote):
            sent(size)
            return False
        await _make_directories(sftp, parent)
        aside = f"{parent}/.{name}.{secrets.token_hex(4)}"
        try:
            await sftp.mkdir(aside, asyncssh.SFTPAttrs(permissions=0o700))
            for path in paths:
                place = PurePosixPath(aside, path.relative_to(local).as_posix())
                await _make_directories(sftp, str(place.parent))
                with path.open("rb") as source:
                    await _write(sftp, str(place), source, went_on, sent)
            try:
                await sftp.rename(aside, remote)
            except asyncssh.SFTPError:
                if not await sftp.exists(remote):  # else another control process was faster with the same digest
                    raise
                await _forget(sftp, aside)
        except BaseException:
            await _forget(sftp, aside)
            raise
    return True


async def _write(
    sftp: asyncssh.SFTPClient,
    path: str,
    source: BinaryIO,
    went_on: Callable[[], None],
    sent: Callable[[int], None] = lambda size: None,
) -> None:
    size = 0
    file = await sftp.open(path, "wb", asyncssh.SFTPAttrs(permissions=0o600))
    try:
        while block := source.read(_BLOCK):
            await file.write(block)
            size += len(block)
            went_on()
            sent(len(block))
        await _sync(file)
        await file.close()
    except BaseException:
        with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):  # who took nothing may not take this either
            async with asyncio.timeout(CLEANUP_SECONDS):
                await file.close()
        raise
    await _check_size(sftp, path, size)
    went_on()


async def _sync(file: asyncssh.SFTPClientFile) -> None:
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):  # an extension of OpenSSH's; without it the system decides when
        await file.fsync()


async def _check_size(sftp: asyncssh.SFTPClient, path: str, size: int) -> None:
    found = (await sftp.stat(path)).size
    if found != size:
        raise asyncssh.SFTPFailure(f"{found} of {size} bytes arrived")


async def _make_directories(sftp: asyncssh.SFTPClient, path: str) -> None:
    """All missing directories of an absolute path, for this user alone."""
    missing = []
    while path not in ("", "/") and not await sftp.exists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    for directory in reversed(missing):
        try:
            await sftp.mkdir(directory, asyncssh.SFTPAttrs(permissions=0o700))
        except asyncssh.SFTPError:
            if not await sftp.isdir(directory):  # else somebody made it meanwhile
                raise


async def _forget(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Remove what was written aside; a link that is gone leaves it behind, under a name nobody reads."""
    with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
        async with asyncio.timeout(CLEANUP_SECONDS):
            if await sftp.isdir(path):
                await sftp.rmtree(path)
            elif await sftp.exists(path):
                await sftp.remove(path)


@contextlib.asynccontextmanager
async def _storing(sftp: asyncssh.SFTPClient, node: str, path: str, size: int) -> AsyncIterator[Callable[[], None]]:
    """Turn the refusals of the other side into StorageFailed, which names node, path and what to do.

    What is given must be called whenever something was taken: after ``STALL`` seconds without, the node counts as gone.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(STALL_SECONDS) as limit:
            yield lambda: limit.reschedule(loop.time() + STALL_SECONDS)
    except TimeoutError:
        raise NodeUnreachable(f"{path} could not be written: nothing was taken for {STALL_SECONDS:.0f} s", node=node) from None
    except (asyncssh.SFTPNoConnection, asyncssh.SFTPConnectionLost, asyncssh.DisconnectError, ConnectionError) as error:
        raise NodeUnreachable(f"the link broke while {path} was written: {error}", node=node) from None
    except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect) as error:
        raise StorageFailed(f"cannot write {path}: {error.reason}", node=node, hint="set state_dir in nodes.toml") from None
    except asyncssh.SFTPError as error:
        # SFTP version 3 has one word for all trouble, "Failure": look whether it is the space.
        free = await _free_bytes(sftp, path)
        is_full = isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)) or "No space" in error.reason
        if is_full or (free is not None and free < size):
            reason = f"no space left for {path}: {size / 2**20:.1f} MiB needed"
            hint = "free some space there, or set state_dir in nodes.toml"
            raise StorageFailed(reason, node=node, hint=hint) from None
        raise StorageFailed(f"cannot write {path}: {error.reason}", node=node, hint="set state_dir in nodes.toml") from None


async def _free_bytes(sftp: asyncssh.SFTPClient, path: str) -> int | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLEANUP_SECONDS):
            while path not in ("", "/"):
                path = path.rpartition("/")[0]
                with contextlib.suppress(asyncssh.SFTPError):  # not there, or not supported
                    found = await sftp.statvfs(path or "/")
                    return int(found.bavail) * int(found.frsize)
    return None
