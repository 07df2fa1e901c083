"""Looks after the members of a run that is followed: a runner that is gone is proved dead to the others, and its node comes back.

Nothing here is needed for a run to go on without a node; it is for sides that may not decide alone, and for the return.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from ...errors import PacelineError
from ...events import Event, MembersWaited, PeerLost, Warned
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ..mirror.follow import Follower
from .revive import prove_deaths, read_parts, revive

MEMBER_LOOK_INTERVAL_S = 5.0
REVIVAL_DELAYS_S = (3.0, 60.0, 300.0)
"""Seconds from a look that finds a runner gone to its node's return, for the first time, the second, and so on; the last counts for
all later ones."""


class MemberWatch:
    """Of one followed run."""

    def __init__(
        self,
        run_id: str,
        nodes: Sequence[str],
        fleet: Fleet,
        env: Mapping[str, Mapping[str, str]],
        publish: Publish,
    ) -> None:
        """``env``: of each node, for the processes of one that returns."""
        self._run_id, self._nodes, self._fleet, self._env, self._publish = run_id, nodes, fleet, env, publish
        self.on_alive: Callable[[str], None] = lambda node: None
        """Called with each node whose runner is found alive."""
        self._is_news = asyncio.Event()
        self._returns: dict[str, int] = {}
        """How often each node was brought back."""
        self._due: dict[str, float] = {}
        self._told: set[str] = set()

    def publish(self, event: Event) -> None:
        """Publish an event of the run; the loss of a runner is looked into at once."""
        if isinstance(event, (PeerLost, MembersWaited)):
            self._is_news.set()
        self._publish(event)

    async def run(self) -> None:
        """Look until it is cancelled, or the run turns out not to outlive its devices."""
        is_fit = True
        while is_fit:
            self._is_news.clear()
            now = asyncio.get_running_loop().time()
            is_fit = await self._look(now)
            pause = min(MEMBER_LOOK_INTERVAL_S, *(max(0.1, due - now) for due in self._due.values()), MEMBER_LOOK_INTERVAL_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._is_news.wait()

    async def _look(self, now: float) -> bool:
        parts = await read_parts(self._run_id, self._nodes, self._fleet)
        if any(not part.has_members for part in parts.values()):
            return False
        for name, part in parts.items():
            if part.is_alive:
                self._due.pop(name, None)
                self.on_alive(name)
        dead = [name for name, part in parts.items() if part.is_dead]
        if not dead or not any(part.is_alive for part in parts.values()):
            return True
        await prove_deaths(self._run_id, parts, self._fleet)
        for name in dead:
            delay = REVIVAL_DELAYS_S[min(self._returns.get(name, 0), len(REVIVAL_DELAYS_S) - 1)]
            if now >= self._due.setdefault(name, now + delay):
                await self._bring_back(name)
        return True

    async def _bring_back(self, name: str) -> None:
        self._due.pop(name, None)
        self._returns[name] = self._returns.get(name, 0) + 1
        try:
            parts = await read_parts(self._run_id, self._nodes, self._fleet)
            await revive(self._run_id, name, parts, self._fleet, self._env.get(name, {}))
        except PacelineError as error:
            if error.reason not in self._told:
                self._told.add(error.reason)
                self._publish(Warned(run_id=self._run_id, reason=f"{name} cannot return to the run: {error}"))
            return
        self.on_alive(name)


@asynccontextmanager
async def looking_after(watch: MemberWatch, follower: Follower, min_devices: int | None) -> AsyncIterator[None]:
    """Watch the members of a followed run meanwhile. ``min_devices``: None: the run ends with the first device that it loses."""
    if min_devices is None:
        yield
        return
    follower.may_return, watch.on_alive = True, follower.follow_again
    task = asyncio.create_task(watch.run(), name="members")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
