"""The group's store: keys and values through which the ranks of a run find each other. The runner of rank 0 keeps it.

It lives in a runner and not in a rank, so that no rank has to leave last, and it is reached through Unix sockets and the peer mesh
alone. What it holds is bounded. ``protocol.store_words`` lists the requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ...protocol.store_words import FULL, MAX_STORE_BYTES, MAX_VALUE_BYTES, REFUSED, TIMED_OUT, pack, unpack

Answer = dict[str, Any]
MAX_TIMEOUT_S = 7 * 86400.0
MAX_KEY_CHARS = 4096


class GroupStore:
    """Keys and values of one run's group. ``on_finished`` is called once, when all ranks have finished."""

    def __init__(self, world_size: int, on_finished: Callable[[], None]) -> None:
        self._values: dict[str, bytes] = {}
        self._bytes = 0
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._unfinished = set(range(world_size))
        self._all_finished = asyncio.get_running_loop().create_future()
        self._on_finished = on_finished

    async def answer(self, request: dict[str, Any]) -> Answer:
        """Answer one request: {"value"} or {"error", "kind"}. Words that wait do so up to their ``timeout`` seconds."""
        try:
            return {"value": await self._value(request)}
        except asyncio.TimeoutError as error:
            return {"error": str(error), "kind": TIMED_OUT}
        except MemoryError as error:
            return {"error": str(error), "kind": FULL}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"not a request of the store: {error}", "kind": REFUSED}

    async def _value(self, request: dict[str, Any]) -> Any:
        match request["ask"]:
            case "set":
                for key, text in dict(request["pairs"]).items():
                    self._put(key, unpack(text))
            case "append":
                key = str(request["key"])
                self._put(key, self._values.get(key, b"") + unpack(request["data"]))
            case "add":
                key = str(request["key"])
                total = int(self._values.get(key, b"0")) + int(request["amount"])
                self._put(key, str(total).encode())
                return total
            case "compare_set":
                return pack(self._compare_set(str(request["key"]), unpack(request["expected"]), unpack(request["desired"])))
            case "get":
                keys = [str(key) for key in request["keys"]]
                await self._wait(keys, request["timeout"])
                return [pack(self._values.get(key, b"")) for key in keys]
            case "wait":
                await self._wait([str(key) for key in request["keys"]], request["timeout"])
            case "check":
                return all(str(key) in self._values for key in request["keys"])
            case "delete":
                return self._delete(str(request["key"]))
            case "count":
                return len(self._values)
            case "finish":
                await self._finish(int(request["rank"]), request["timeout"])
            case word:
                raise ValueError(f"unknown word {str(word)[:40]!r}")
        return None

    def _put(self, key: str, value: bytes) -> None:
        grown = self._bytes + len(value) - len(self._values.get(key, b"")) + (0 if key in self._values else len(key))
        if len(value) > MAX_VALUE_BYTES or len(key) > MAX_KEY_CHARS or grown > MAX_STORE_BYTES:
            raise MemoryError(f"the group's store has no room for {len(value)} bytes under {key[:80]!r}")
        self._values[key], self._bytes = value, grown
        for future in self._waiting.pop(key, ()):
            if not future.done():
                future.set_result(None)

    def _compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """The rule of torch's own stores: a missing key counts as equal to an empty value."""
        current = self._values.get(key)
        if (current is None and not expected) or current == expected:
            self._put(key, desired)
            return desired
        return expected if current is None else current

    def _delete(self, key: str) -> bool:
        value = self._values.pop(key, None)
        if value is not None:
            self._bytes -= len(value) + len(key)
        return value is not None

    async def _wait(self, keys: list[str], timeout: Any) -> None:
        """Return once all keys are set. Raises TimeoutError with the missing ones."""
        seconds = _seconds(timeout)
        deadline = time.monotonic() + seconds
        for key in keys:
            while key not in self._values:
                future = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(key, set()).add(future)
                await asyncio.wait({future}, timeout=max(0.0, deadline - time.monotonic()))
                if not future.done():
                    waiting = self._waiting.get(key, set())
                    waiting.discard(future)
                    if not waiting:
                        self._waiting.pop(key, None)
                    missing = ", ".join(key for key in keys if key not in self._values)
                    raise asyncio.TimeoutError(f"not set within {seconds:.0f} s: {missing[:300]}")

    async def _finish(self, rank: int, timeout: Any) -> None:
        self._unfinished.discard(rank)
        if not self._unfinished and not self._all_finished.done():
            self._all_finished.set_result(None)
            self._on_finished()
        seconds = _seconds(timeout)
        await asyncio.wait({self._all_finished}, timeout=seconds)
        if not self._all_finished.done():
            missing = ", ".join(map(str, sorted(self._unfinished)[:20]))
            raise asyncio.TimeoutError(f"timed out after {seconds:.0f} s: rank {missing} did not end its last case")


def _seconds(timeout: Any) -> float:
    seconds = float(timeout)
    if not 0.0 <= seconds < float("inf"):
        raise ValueError("not a timeout")
    return min(seconds, MAX_TIMEOUT_S)
