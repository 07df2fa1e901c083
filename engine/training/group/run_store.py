"""The store of a run as torch sees it: every operation is a request to the runner of this node, over its Unix socket.

torch's TCPStore proves nobody and encrypts nothing; whoever reaches its port writes and deletes keys. Here no port is open: the
runners carry the words between the nodes (``agent.group.store_relay``). ``protocol.store_words`` lists them.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...protocol import runner_socket
from ...protocol.store_words import TIMED_OUT, pack, unpack

ANSWER_MARGIN_S = 60.0
"""Seconds beyond a request's own timeout after which a runner that says nothing counts as gone."""
DEFAULT_TIMEOUT_S = 300.0
KEYS_PER_REQUEST = 64
"""Values of more keys are asked for in parts: an answer is one line."""

Connection = tuple[socket.socket, BinaryIO]


class RunStore(Store):
    """A torch Store over the runner's socket. Any number of threads may use it; each request in progress has its own connection.

    Raises DistStoreError for keys that are not set in time, and DistNetworkError where the runner or the store's keeper is gone.
    torch holds stores by their C++ part: whoever makes one keeps a reference to it for as long as a group uses it.
    """

    def __init__(self, run_dir: Path, generation: int = 0) -> None:
        """``generation``: of the group that uses it; each has a store of its own, so no address of an older one misleads it."""
        super().__init__()
        self._run_dir, self._generation = run_dir, generation
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.set_timeout(timedelta(seconds=DEFAULT_TIMEOUT_S))

    def set(self, key: str, value: str | bytes) -> None:
        """Set a key."""
        self._ask("set", pairs={key: _packed(value)})

    def get(self, key: str) -> bytes:
        """Return the value of a key, once it is set."""
        return self.multi_get([key])[0]

    def add(self, key: str, amount: int) -> int:
        """Add to a number, which counts as 0 before, and return the sum."""
        return int(self._ask("add", key=key, amount=amount))

    def append(self, key: str, value: str | bytes) -> None:
        """Append to a value, which counts as empty before."""
        self._ask("append", key=key, data=_packed(value))

    def compare_set(self, key: str, expected_value: str | bytes, desired_value: str | bytes) -> bytes:
        """Set a key if it holds the expected value; return what it holds then."""
        return unpack(self._ask("compare_set", key=key, expected=_packed(expected_value), desired=_packed(desired_value)))

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys are set."""
        return bool(self._ask("check", keys=list(keys)))

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Return once all keys are set."""
        self._ask("wait", timeout.total_seconds() if timeout is not None else self._timeout(), keys=list(keys))

    def delete_key(self, key: str) -> bool:
        """Delete a key; return whether it was set."""
        return bool(self._ask("delete", key=key))

    def num_keys(self) -> int:
        """Number of keys of all groups."""
        return int(self._ask("count"))

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return the values of keys, once all are set."""
        values: list[bytes] = []
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            part = list(keys[start : start + KEYS_PER_REQUEST])
            values += [unpack(value) for value in self._ask("get", self._timeout(), keys=part)]
        return values

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Set several keys."""
        self._ask("set", pairs={key: _packed(value) for key, value in zip(keys, values, strict=True)})

    def has_extended_api(self) -> bool:
        """It has ``append``, ``multi_get`` and ``multi_set``."""
        return True

    def finish(self, rank: int, timeout: float) -> None:
        """Say that all work of this rank is recorded, and return once all ranks have said so; ``timeout`` in seconds."""
        self._ask("finish", timeout, rank=rank)

    def _timeout(self) -> float:
        """Seconds of the operations that wait, as set by ``set_timeout`` here or through a PrefixStore."""
        seconds: float = self.timeout.total_seconds()  # type: ignore[attr-defined]  # torch's stubs lack it
        return seconds

    deleteKey = delete_key  # noqa: N815  # the names by which torch's C++ part looks for them, in some versions
    getNumKeys = num_keys  # noqa: N815

    def _ask(self, word: str, timeout: float | None = None, **fields: Any) -> Any:
        request: dict[str, Any] = {"ask": word, **fields}
        if self._generation:
            request["generation"] = self._generation
        if timeout is not None:
            request["timeout"] = timeout
        try:
            connection = self._take()
            connection[0].settimeout((timeout or 0.0) + ANSWER_MARGIN_S)
            connection[0].sendall(json.dumps(request).encode() + b"\n")
            line = connection[1].readline()
        except OSError as error:
            raise dist.DistNetworkError(f"the runner of this node is gone: {error}") from None
        if not line.endswith(b"\n"):
            raise dist.DistNetworkError("the runner of this node is gone")
        with self._lock:
            self._idle.append(connection)
        answer = json.loads(line)
        if "error" in answer:
            kind = dist.DistStoreError if answer.get("kind") == TIMED_OUT else dist.DistNetworkError
            raise kind(f"{word}: {answer['error']}")
        return answer["value"]

    def _take(self) -> Connection:
        with self._lock:
            if self._pid != os.getpid():  # a forked child must not speak on its parent's connections
                self._pid, self._idle = os.getpid(), []
            if self._idle:
                return self._idle.pop()
        connection = runner_socket.connect(self._run_dir, ANSWER_MARGIN_S)
        return connection, connection.makefile("rb")


def _packed(value: str | bytes) -> str:
    return pack(value.encode() if isinstance(value, str) else bytes(value))
