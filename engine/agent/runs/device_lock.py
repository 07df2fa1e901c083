"""Device locks: one lock file per device, which a runner holds until it ends, and which names its owner to all users.

Real devices are locked in a directory that belongs to root and is sticky: of all users only the one who made a lock file can remove
it, and a runner notices that within seconds. Whatever other users put there is never followed or truncated, and trusted only as a
name on a screen. Emulated devices are locked below the root of the node that has them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DeviceInUse, StorageFailed
from ...plan import RankPlan
from ...protocol.json_files import storage_failed
from ..system.process_owner import user_name

LOCK_DIRECTORIES = (Path("/run/lock"), Path("/tmp"))
"""Where real devices are locked: in the first that belongs to root and is sticky. Not in /dev/shm, where logind removes the files
of a user at the last logout."""
LOCK_PREFIX = "paceline-"
LOCK_PATIENCE_S = 1.0
"""Seconds for which a lock is tried: a process that reads the owner holds it for a moment."""
MAX_OWNER_BYTES = 4096
"""Bytes of a lock file that are read; an owner is shorter."""


def machine_directory() -> Path | None:
    """The directory in which users may lock but not remove the locks of others; None: this machine has none."""
    for directory in LOCK_DIRECTORIES:
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and status.st_mode & 0o1777 == 0o1777:
                return directory
    return None


def lock_path(root: Path, kind: str, index: int) -> Path | None:
    """Path of a device's lock file: below the node's root for ``emulated`` devices, else in the directory of the machine."""
    if kind == "emulated":
        return root / "locks" / f"{kind}{index}"
    directory = machine_directory()
    return None if directory is None else directory / f"{LOCK_PREFIX}{kind}{index}"


class DeviceLocks:
    """Open lock files of one run's devices. A lock is held for as long as its file is open."""

    def __init__(self, owner: bytes) -> None:
        self._owner = owner
        self.locked: list[int] = []
        """Handles of files that are locked, exclusively or shared."""
        self.awaited: list[int] = []
        """Handles of files that another run has locked exclusively, while this run shares the device."""
        self._paths: dict[int, Path] = {}
        """Path of the file of each handle."""

    def wait_for(self, handle: int, path: Path) -> None:
        """Note a lock that another run has, to be taken when it is free."""
        self.awaited.append(handle)
        self._paths[handle] = path

    def add(self, handle: int, path: Path) -> None:
        """Note a lock that was taken, and write the owner into its file."""
        self.locked.append(handle)
        self._paths[handle] = path
        with contextlib.suppress(OSError):  # on a full disk the lock holds without an owner
            os.ftruncate(handle, 0)
            os.pwrite(handle, self._owner, 0)

    def refresh(self) -> None:
        """Lock awaited files that are free now, and again those whose file was removed.

        Where the owner of a shared lock has ended, write this run as the owner.
        """
        for handle in [handle for handle in (*self.locked, *self.awaited) if not _is_current(handle, self._paths[handle])]:
            self._replace(handle)
        for handle in self.awaited[:]:
            if _try_lock(handle, fcntl.LOCK_SH, 0.0):
                self.awaited.remove(handle)
                self.add(handle, self._paths[handle])
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.fstat(handle).st_size == 0:
                    os.pwrite(handle, self._owner, 0)

    def _replace(self, handle: int) -> None:
        """Lock a new file in the place of a removed one; where another run was faster, wait for it."""
        path = self._paths[handle]
        try:
            new = _open_lock_file(path)
        except StorageFailed:  # something else is there now: the old lock is better than none
            return
        del self._paths[handle]
        (self.locked if handle in self.locked else self.awaited).remove(handle)
        os.close(handle)
        if _try_lock(new, fcntl.LOCK_SH, 0.0):
            self.add(new, path)
        else:
            self.wait_for(new, path)

    def release(self) -> None:
        """Remove this run as the owner, and release the locks."""
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.pread(handle, MAX_OWNER_BYTES, 0) == self._owner:
                    os.ftruncate(handle, 0)
        for handle in (*self.locked, *self.awaited):
            os.close(handle)
        self.locked, self.awaited, self._paths = [], [], {}


def acquire(root: Path, ranks: Sequence[RankPlan], run_id: str, is_shared: bool) -> DeviceLocks:
    """Lock the devices of these ranks, all or none.

    With ``is_shared`` the locks are shared, and a device that is locked exclusively is used all the same. Raises DeviceInUse naming
    run and user, and StorageFailed where no directory is safe for locks, unless ``is_shared``.
    """
    devices = {path: rank for rank in ranks if (path := lock_path(root, rank.device_kind, rank.device_index)) is not None}
    if not is_shared and any(lock_path(root, rank.device_kind, rank.device_index) is None for rank in ranks):
        names = " and ".join(map(str, LOCK_DIRECTORIES))
        raise StorageFailed(
            f"devices cannot be locked: neither of {names} belongs to root and is sticky", hint="--share starts without a lock"
        )
    owner = json.dumps({"run_id": run_id, "user": user_name(), "pid": os.getpid(), "since": time.time()}).encode()
    locks = DeviceLocks(owner)
    try:
        for path, rank in devices.items():
            handle, is_taken = _take(path, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
            if is_taken:
                locks.add(handle, path)
            elif is_shared:
                locks.wait_for(handle, path)
            else:
                run, user = _read_owner(handle)
                os.close(handle)
                holding_run = (f"run {run}" if run else "another run") + (f" of {user}" if user else "")
                raise DeviceInUse(
                    f"device {rank.device_index} ({rank.device_name}) is in use by {holding_run}",
                    hint="--wait starts when it is free, --share uses it all the same",
                )
    except BaseException:
        locks.release()
        raise
    return locks


def _take(path: Path, kind: int) -> tuple[int, bool]:
    """Open a lock file and lock it, and whether that worked. A file that was removed meanwhile locks nothing: it is tried again."""
    while True:
        handle = _open_lock_file(path)
        try:
            is_taken = _try_lock(handle, kind, LOCK_PATIENCE_S)
        except OSError as error:
            os.close(handle)
            raise storage_failed(path, error) from None
        if not is_taken or _is_current(handle, path):
            return handle, is_taken
        os.close(handle)


def _is_current(handle: int, path: Path) -> bool:
    """Whether an open lock file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def holders(root: Path, kind: str, indices: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Run and user by index, of those devices of one kind that are locked."""
    owners = {index: holder(root, kind, index) for index in indices}
    return {index: owner for index, owner in owners.items() if owner != ("", "")}


def holder(root: Path, kind: str, index: int) -> tuple[str, str]:
    """Run and user that hold a device; empty strings if it is free."""
    path = lock_path(root, kind, index)
    if path is None or not os.access(path, os.R_OK, follow_symlinks=False):  # cheaper than the exception of a lock never taken
        return "", ""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # never locked, or not a lock file
        return "", ""
    try:
        owner = _read_owner(handle)
        if owner == ("", ""):  # free: trying the lock would only hinder a run that takes it now
            return owner
        if not _try_lock(handle, fcntl.LOCK_EX, 0.0):
            return owner
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)  # its runner was killed: remove the owner it left
        return "", ""
    finally:
        os.close(handle)


def _open_lock_file(path: Path) -> int:
    """Open or create a lock file. Raises StorageFailed, also for links of any kind."""
    try:
        is_shared = path.parent in LOCK_DIRECTORIES
        if not is_shared:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(path, flags)
        except FileNotFoundError:
            try:
                handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                if is_shared:
                    os.fchmod(handle, 0o666)  # whatever the umask: other users lock the same file
            except FileExistsError:
                handle = os.open(path, flags)
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(handle)
            raise StorageFailed(f"{path} is not a lock file", hint="another user put it there: have it removed")
    except OSError as error:
        raise StorageFailed(
            f"cannot lock a device with {path}: {error.strerror}", hint="have it removed, or its permissions set"
        ) from None
    return handle


def _try_lock(handle: int, kind: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def _read_owner(handle: int) -> tuple[str, str]:
    try:
        owner = json.loads(os.pread(handle, MAX_OWNER_BYTES, 0))
        return str(owner["run_id"])[:80], str(owner["user"])[:80]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", ""
