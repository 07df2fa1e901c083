"""Device locks: one lock file per device, which a runner holds until it ends, and which names its owner to all users.

Real devices are locked in a directory of the machine that all users share. Whatever other users put there is never followed or
truncated, and trusted only as a name on a screen. Emulated devices are locked below the root of the node that has them.
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
from ..system.process_owner import user_name

LOCK_DIRECTORY = Path("/tmp/paceline-devices")
"""Shared by all users of a machine, and sticky: no user may remove files of another."""
LOCK_PATIENCE_S = 1.0
"""Seconds for which a lock is tried: a process that reads the owner holds it for a moment."""
MAX_OWNER_BYTES = 4096
"""Bytes of a lock file that are read; an owner is shorter."""


def lock_path(root: Path, kind: str, index: int) -> Path:
    """Path of a device's lock file: below the node's root for ``emulated`` devices, else in the directory of the machine."""
    return (root / "locks" if kind == "emulated" else LOCK_DIRECTORY) / f"{kind}{index}"


class DeviceLocks:
    """Open lock files of one run's devices. A lock is held for as long as its file is open."""

    def __init__(self, owner: bytes) -> None:
        self._owner = owner
        self.locked: list[int] = []
        """Handles of files that are locked, exclusively or shared."""
        self.awaited: list[int] = []
        """Handles of files that another run has locked exclusively, while this run shares the device."""

    def add(self, handle: int) -> None:
        """Note a lock that was taken, and write the owner into its file."""
        self.locked.append(handle)
        with contextlib.suppress(OSError):  # on a full disk the lock holds without an owner
            os.ftruncate(handle, 0)
            os.pwrite(handle, self._owner, 0)

    def refresh(self) -> None:
        """Lock awaited files that are free now. Where the owner of a shared lock has ended, write this run as the owner."""
        for handle in self.awaited[:]:
            if _try_lock(handle, fcntl.LOCK_SH, 0.0):
                self.awaited.remove(handle)
                self.add(handle)
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.fstat(handle).st_size == 0:
                    os.pwrite(handle, self._owner, 0)

    def release(self) -> None:
        """Remove this run as the owner, and release the locks."""
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.pread(handle, MAX_OWNER_BYTES, 0) == self._owner:
                    os.ftruncate(handle, 0)
        for handle in (*self.locked, *self.awaited):
            os.close(handle)
        self.locked, self.awaited = [], []


def acquire(root: Path, ranks: Sequence[RankPlan], run_id: str, is_shared: bool) -> DeviceLocks:
    """Lock the devices of these ranks, all or none.

    With ``is_shared`` the locks are shared, and a device that is locked exclusively is used all the same. Raises DeviceInUse naming
    run and user, and StorageFailed where the directory cannot be used.
    """
    devices = {lock_path(root, rank.device_kind, rank.device_index): rank for rank in ranks}
    owner = json.dumps({"run_id": run_id, "user": user_name(), "pid": os.getpid(), "since": time.time()}).encode()
    locks = DeviceLocks(owner)
    try:
        for path, rank in devices.items():
            handle = _open_lock_file(path)
            if _try_lock(handle, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX, LOCK_PATIENCE_S):
                locks.add(handle)
            elif is_shared:
                locks.awaited.append(handle)
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


def holders(root: Path, kind: str, indices: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Run and user by index, of those devices of one kind that are locked. Lists one directory where none was ever locked."""
    directory = root / "locks" if kind == "emulated" else LOCK_DIRECTORY
    names: list[str] = []
    if os.access(directory, os.R_OK):  # cheaper than the exception that most machines would raise
        with contextlib.suppress(OSError):
            names = os.listdir(directory)
    owners = {index: holder(root, kind, index) for index in indices if f"{kind}{index}" in names}
    return {index: owner for index, owner in owners.items() if owner != ("", "")}


def holder(root: Path, kind: str, index: int) -> tuple[str, str]:
    """Run and user that hold a device; empty strings if it is free."""
    try:
        handle = os.open(lock_path(root, kind, index), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
        if path.parent == LOCK_DIRECTORY:
            _make_shared(path.parent)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(path, flags)
        except FileNotFoundError:
            try:
                handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                if path.parent == LOCK_DIRECTORY:
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


def _make_shared(directory: Path) -> None:
    """Make the shared directory. Raises StorageFailed for one in which other users could remove this user's locks."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o1777)
    mode = directory.lstat().st_mode
    is_safe = stat.S_ISDIR(mode) and (mode & stat.S_ISVTX or not mode & 0o022)
    if not is_safe:
        raise StorageFailed(f"{directory} is not a sticky directory", hint="have it removed: chmod 1777 makes it safe")


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
