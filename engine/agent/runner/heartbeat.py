"""Signs of life: from the ranks of this node to their runner, and between the runners; whoever falls silent is named.

A rank speaks through a thread of its own (``training.group.pulse``), so a busy rank is heard and a stopped one is not. Nothing here
ends a run: what is silent is told, and explains the broken collectives that follow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from ...membership.silence import BEAT_INTERVAL_S, HeardBy, Silence, find_silences, is_told_by, pick_cause
from ..system.processes import read_stat

LATE_S = 1.5
"""Seconds by which a beat of this runner may be late; after a longer gap it was itself stopped, and knows nothing of the others."""
REMEMBERED_S = 15.0
"""Seconds for which a silence that is over still explains a failure."""

Message = dict[str, Any]


class Heartbeat:
    """What one runner hears. ``on_change(silence, is_over)`` is called when somebody falls silent or is heard again."""

    def __init__(
        self,
        node: str,
        send: Callable[[Message], None],
        on_change: Callable[[Silence, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``send``: to all other runners."""
        self._node, self._send, self._on_change, self._clock = node, send, on_change, clock
        self._peers: dict[str, float] = {}
        self._ranks: dict[int, float] = {}
        self._pids: dict[int, int] = {}
        self._views: dict[str, HeardBy] = {}
        self._current: dict[Any, Silence] = {}
        self._over: dict[Any, tuple[float, Silence]] = {}
        self._told: set[Any] = set()
        self._last_tick = clock()

    def expect(self, peers: Collection[str]) -> None:
        """Listen for these runners from now on."""
        self._peers = dict.fromkeys(peers, self._clock())

    def welcome(self, peer: str) -> None:
        """Listen for a runner that has returned, too."""
        self._peers[peer] = self._clock()

    def hear_rank(self, rank: int, pid: int) -> None:
        """A rank of this node has given a sign of life."""
        self._ranks[rank], self._pids[rank] = self._clock(), pid

    def hear(self, peer: str, message: Message) -> bool:
        """Any message of a runner is a sign of life. Returns whether it was nothing else. Raises ValueError or TypeError."""
        if "lost" in message or "ended" in message:
            self._peers.pop(peer, None)
            self._views.pop(peer, None)
            return False
        if peer in self._peers:
            self._peers[peer] = self._clock()
        if "beat" not in message:
            return False
        beat = message["beat"]
        self._views[peer] = HeardBy(
            {str(node): float(seconds) for node, seconds in beat["peers"].items()},
            {int(rank): float(seconds) for rank, seconds in beat["ranks"].items()},
            {int(rank): str(state)[:1] for rank, state in beat["states"].items()},
        )
        return True

    def cause(self) -> Silence | None:
        """The silence that explains a collective that has just broken; None where nobody was silent."""
        recent = [silence for since, silence in self._over.values() if self._clock() - since < REMEMBERED_S]
        return pick_cause([*self._current.values(), *recent])

    async def run(self) -> None:
        """Beat and judge for ever."""
        while True:
            self.tick()
            await asyncio.sleep(BEAT_INTERVAL_S)

    def tick(self) -> None:
        """Tell the others what is heard here, and find out who is silent."""
        now = self._clock()
        if now - self._last_tick > BEAT_INTERVAL_S + LATE_S:
            self._peers = dict.fromkeys(self._peers, now)
            self._ranks = dict.fromkeys(self._ranks, now)
            self._views.clear()
        self._last_tick = now
        view = self._view(now)
        self._send({"beat": {"peers": view.peers, "ranks": view.ranks, "states": view.states}})
        found = {silence.key: silence for silence in find_silences(self._node, view, self._views)}
        for key, silence in self._current.items():
            if key not in found:
                self._over[key] = now, silence
                if key in self._told:
                    self._told.discard(key)
                    self._on_change(silence, True)
        for key, silence in found.items():
            if key not in self._told and is_told_by(self._node, silence, view):
                self._told.add(key)
                self._on_change(silence, False)
        self._current = found

    def _view(self, now: float) -> HeardBy:
        peers = {peer: round(now - heard, 3) for peer, heard in self._peers.items()}
        ranks, states = {}, {}
        for rank, heard in list(self._ranks.items()):
            if now - heard > 2 * BEAT_INTERVAL_S:
                stat = read_stat(self._pids[rank])
                if stat is None or stat.state in "ZX":  # it has ended, which torchrun reports
                    del self._ranks[rank]
                    continue
                states[rank] = stat.state
            ranks[rank] = round(now - heard, 3)
        return HeardBy(peers, ranks, states)
