"""Plays the runners of a lab for their ranks: one group's store, and the socket of every run directory, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paceline.engine.agent.group.group_store import GroupStore
from paceline.engine.agent.runner.local_service import LocalService


class StoreService:
    """Serves one store to all run directories of a run until it is stopped."""

    def __init__(self, run_dirs: Sequence[Path], world_size: int) -> None:
        self._run_dirs, self._world_size = run_dirs, world_size
        self.is_finished = threading.Event()
        """Every rank has said that its work is recorded."""
        self._is_open = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Open the sockets."""
        self._thread.start()
        assert self._is_open.wait(60)

    def stop(self) -> None:
        """Close them; a second time does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set_result, None)
            self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve_until_over())

    async def _serve_until_over(self) -> None:
        self._over: asyncio.Future[None] = self._loop.create_future()
        store = GroupStore(self._world_size, self.is_finished.set)

        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            return await store.answer(request)

        services = [LocalService(run, answer) for run in self._run_dirs]
        for service in services:
            await service.start()
        self._is_open.set()
        await self._over
        for service in services:
            await service.close()
