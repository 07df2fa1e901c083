"""Brings the ranks' words to the group's store: answered here where this runner keeps it, else by its keeper over the mesh."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from ...protocol.store_words import LOST
from .group_store import GroupStore

Message = dict[str, Any]
LEFT_BEHIND: Message = {"error": "the group is left behind", "kind": LOST}
_numbers = itertools.count(1)
"""Of requests, over all groups of this runner: an answer does not say which group it is of."""


class StoreRelay:
    """One runner's way to the group's store. ``send(message, to)`` sends over the mesh."""

    def __init__(self, store: GroupStore | None, keeper: str, send: Callable[[Message, str], None]) -> None:
        """``store``: None where another node, ``keeper``, keeps it."""
        self._store, self._keeper, self._send = store, keeper, send
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, request: Message) -> Message:
        """Answer a request of a rank on this node: {"value"} or {"error", "kind"}."""
        if self._closed.done():
            return LEFT_BEHIND
        if self._store is not None:
            own: asyncio.Future[Message] = asyncio.ensure_future(self._store.answer(request))
            either: set[asyncio.Future[Any]] = {own, self._closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not own.done():
                own.cancel()
                return LEFT_BEHIND
            return own.result()
        number = next(_numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._send({"store_ask": {**request, "id": number}}, self._keeper)
            return await answer
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """The group is left behind: whoever waits for its store is told, and so is whoever asks later."""
        if not self._closed.done():
            self._closed.set_result(None)
        for future in self._asked.values():
            if not future.done():
                future.set_result(LEFT_BEHIND)

    def on_message(self, peer: str, message: Message) -> bool:
        """Handle a message of the mesh; False where it is none of the store."""
        if "store_ask" in message:
            task = asyncio.ensure_future(self._answer(peer, message["store_ask"]))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return True
        if "store_answer" in message:
            answer = message["store_answer"]
            if peer == self._keeper and (future := self._asked.get(answer["id"])) is not None and not future.done():
                future.set_result({key: value for key, value in answer.items() if key != "id"})
            return True
        if "lost" in message and peer == self._keeper:
            for future in self._asked.values():
                if not future.done():
                    future.set_result({"error": f"the runner of {peer} is gone: {message['lost']}", "kind": LOST})
        return False

    async def _answer(self, peer: str, request: Message) -> None:
        if self._store is not None:
            answered: asyncio.Future[Message] = asyncio.ensure_future(self._store.answer(request))
            either: set[asyncio.Future[Any]] = {answered, self._closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            answer = answered.result() if answered.done() else LEFT_BEHIND
            answered.cancel()
            self._send({"store_answer": {**answer, "id": request["id"]}}, peer)
