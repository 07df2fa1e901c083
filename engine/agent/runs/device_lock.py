"""One run a device: a lock file each, held by the runner for its life and freed by the kernel with it, its owner readable by all.

Real devices are locked in a directory of the machine that all users share; whatever others put there is never followed, cut or
trusted further than a name on a screen. Emulated devices are locked below their node's root, since they exist nowhere else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import DeviceInUse, StorageFailed
from ...plan import RankPlan

LOCK_DIRECTORY = Path("/tmp/paceline-devices")
"""Where all users of a machine may write, and none may remove what is another's (sticky)."""
LOCK_PATIENCE = 1.0
"""Seconds a lock is tried for: whoever looks at it holds it for a moment."""
OWNER_LIMIT = 4096
"""Bytes of an owner; what is longer is none of ours."""


def lock_path(root: Path, kind: str, index: int) -> Path:
    """The lock file of a device: ``emulated`` ones belong to the node, all others to the machine."""
    return (root / "locks" if kind == "emulated" else LOCK_DIRECTORY) / f"{kind}{index}"


class DeviceLocks:
    """Devices of one run: each its open lock file, which holds the lock for as long as it is open."""

    def __init__(self, owner: bytes) -> None:
        self._owner = owner
        self.locked: list[int] = []
        """Handles of devices that are ours, or shared with those who share."""
        self.awaited: list[int] = []
        """Handles of devices we use beside somebody who took them for himself."""

    def add(self, handle: int) -> None:
        """This lock is ours: say so in the file."""
        self.locked.append(handle)
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(handle, 0)
            os.pwrite(handle, self._owner, 0)

    def refresh(self) -> None:
        """Of those who share a device one has his name in the file: when he or an owner before us is gone, it is our turn."""
        for handle in self.awaited[:]:
            if _lock(handle, fcntl.LOCK_SH, 0.0):
                self.awaited.remove(handle)
                self.add(handle)
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.fstat(handle).st_size == 0:
                    os.pwrite(handle, self._owner, 0)

    def release(self) -> None:
        """Free the devices and take our name off them."""
        for handle in self.locked:
            with contextlib.suppress(OSError):
                if os.pread(handle, OWNER_LIMIT, 0) == self._owner:
                    os.ftruncate(handle, 0)
        for handle in (*self.locked, *self.awaited):
            os.close(handle)
        self.locked, self.awaited = [], []


def acquire(root: Path, ranks: Sequence[RankPlan], run_id: str, is_shared: bool) -> DeviceLocks:
    """Lock the devices of these ranks, all or none.

    With ``is_shared`` no device is refused, and others that share are not kept out. Raises DeviceInUse naming run and user, or
    StorageFailed where the directory cannot be used.
    """
    devices = {lock_path(root, rank.device_kind, rank.device_index): rank for rank in ranks}
    owner = json.dumps({"run_id": run_id, "user": user_name(), "pid": os.getpid(), "since": time.time()}).encode()
    held = DeviceLocks(owner)
    try:
        for path, rank in devices.items():
            handle = _open(path)
            if _lock(handle, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX, LOCK_PATIENCE):
                held.add(handle)
            elif is_shared:
                held.awaited.append(handle)
            else:
                run, user = _owner(handle)
                os.close(handle)
                whose = (f"run {run}" if run else "another run") + (f" of {user}" if user else "")
                raise DeviceInUse(
                    f"device {rank.device_index} ({rank.device_name}) is in use by {whose}",
                    hint="--wait starts when it is free, --share uses it all the same",
                )
    except BaseException:
        held.release()
        raise
    return held


def holders(root: Path, kind: str, indices: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Run and user by index, of these devices of one kind that somebody holds. One look where no device was ever locked."""
    directory = root / "locks" if kind == "emulated" else LOCK_DIRECTORY
    there: list[str] = []
    if os.access(directory, os.R_OK):  # cheaper than the exception of most machines
        with contextlib.suppress(OSError):
            there = os.listdir(directory)
    found = {index: holder(root, kind, index) for index in indices if f"{kind}{index}" in there}
    return {index: owner for index, owner in found.items() if owner != ("", "")}


def holder(root: Path, kind: str, index: int) -> tuple[str, str]:
    """Run and user that hold a device; empty strings: nobody."""
    try:
        handle = os.open(lock_path(root, kind, index), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # never locked, or no file of ours
        return "", ""
    try:
        owner = _owner(handle)
        if owner == ("", ""):  # nobody: looking further would only get into the way of who comes next
            return owner
        if not _lock(handle, fcntl.LOCK_EX, 0.0):
            return owner
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)  # its runner was killed: the name must not be read again
        return "", ""
    finally:
        os.close(handle)


def user_name() -> str:
    """Who we are on this machine."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _open(path: Path) -> int:
    """The lock file, made where it is not there yet; links of any kind are refused. Raises StorageFailed."""
    try:
        if path.parent == LOCK_DIRECTORY:
            _share(path.parent)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(path, flags)
        except FileNotFoundError:
            try:
                handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                if path.parent == LOCK_DIRECTORY:
                    os.fchmod(handle, 0o666)  # whatever our umask: the next user locks the same file
            except FileExistsError:
                handle = os.open(path, flags)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(handle)
            raise StorageFailed(f"{path} is no lock file", hint="somebody put it there: have it removed")
    except OSError as error:
        raise StorageFailed(
            f"cannot lock a device with {path}: {error.strerror}", hint="have it removed, or its rights set"
        ) from None
    return handle


def _share(directory: Path) -> None:
    """Make the directory for everybody; one in which others could remove our locks is refused."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o1777)
    found = directory.lstat()
    is_safe = stat.S_ISDIR(found.st_mode) and (found.st_mode & stat.S_ISVTX or not found.st_mode & 0o022)
    if not is_safe:
        raise StorageFailed(f"{directory} is not a sticky directory", hint="have it removed: chmod 1777 makes it safe")


def _lock(handle: int, kind: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def _owner(handle: int) -> tuple[str, str]:
    try:
        owner = json.loads(os.pread(handle, OWNER_LIMIT, 0))
        return str(owner["run_id"])[:80], str(owner["user"])[:80]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", ""
