"""Whether a run outlives the login that started it: proved once per boot of each node, over a connection of its own that is closed.

Begins when a node is first reached and delays nothing; a launch waits for the verdict. Embedded nodes need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ...errors import PacelineError
from ...events import Event, NodeConnected, NodeWarned
from ...protocol.run_files import DETACH_METHODS
from ...specs import NodeSpec
from ...ssh.fleet import Fleet

AT_ONCE = 8
"""Nodes proved at one time; each costs a second login."""
LOOK_AFTER = 3.0
"""Seconds from the end of the login until the marker is looked for: whatever ends processes with a login does so at once."""


async def a_moment() -> None:
    """Until a login that ended has taken with it what it takes."""
    await asyncio.sleep(LOOK_AFTER)


class DetachCheck:
    """A listener of the bus that proves the nodes of a session, and can be waited for."""

    def __init__(
        self,
        nodes: Iterable[NodeSpec],
        fleet: Fleet,
        publish: Callable[[Event], None],
        login_ended: Callable[[], Awaitable[None]] = a_moment,
    ) -> None:
        self._nodes = {node.name for node in nodes if node.kind != "embedded" and not node.read_only}
        self._fleet, self._publish, self._login_ended = fleet, publish, login_ended
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._boots: dict[str, str] = {}
        self._proofs: dict[str, asyncio.Task[None]] = {}

    def __call__(self, event: Event) -> None:
        """A node was reached: on a boot not seen before it is proved."""
        if isinstance(event, NodeConnected) and event.node in self._nodes and self._boots.get(event.node) != event.boot_id:
            self._boots[event.node] = event.boot_id
            if (old := self._proofs.pop(event.node, None)) is not None:
                old.cancel()
            self._proofs[event.node] = asyncio.ensure_future(self._prove(event.node))

    async def proved(self, nodes: Iterable[str]) -> None:
        """Wait for the verdicts on these nodes. Whether a launch is refused says the node itself."""
        proofs = [self._proofs[name] for name in nodes if name in self._proofs]
        await asyncio.gather(*(asyncio.shield(proof) for proof in proofs), return_exceptions=True)

    async def close(self) -> None:
        """Leave off; a marker that was started ends by itself."""
        for proof in self._proofs.values():
            proof.cancel()
        await asyncio.gather(*self._proofs.values(), return_exceptions=True)

    async def _prove(self, node: str) -> None:
        """Climb the ladder until a rung holds, and tell what a person should know before a long run."""
        try:
            link = await self._fleet.link(node)
            stands = await link.ask("survival")
            if kind := stands.get("file_system"):
                self._warn(
                    node, f"its state lies on {kind}, a file system of the network", "set state_dir in nodes.toml to a local disk"
                )
            async with self._gate:
                for _ in DETACH_METHODS:  # whatever a node says, its ladder has an end
                    if stands.get("rung") is not None or not stands.get("next"):
                        break
                    stands = await self._try(node, str(stands["next"]))
        except PacelineError as error:
            self._warn(node, f"not proved that runs outlive a login here: {error.reason}", error.hint or "")
            return
        if stands.get("rung") is None and stands.get("killed"):
            self._warn(
                node, "ends background processes with their login: nothing can run here", "loginctl enable-linger, or install tmux"
            )
        elif stands.get("killed"):
            self._warn(node, f"ends background processes with their login: runs are kept by {stands['rung']}", "")

    async def _try(self, node: str, rung: str) -> dict[str, Any]:
        """Start a marker over a second connection, close that, and have the first one look."""
        visit = await self._fleet.connect_again(node)
        try:
            marker = await visit.ask("plant", rung=rung)
        except PacelineError as error:
            marker = {"pid": 0, "boot_id": "", "start_time": 0, "reason": error.reason}
        finally:
            await visit.close()
        await self._login_ended()
        link = await self._fleet.link(node)
        return await link.ask("judge", rung=rung, marker=marker)

    def _warn(self, node: str, reason: str, hint: str) -> None:
        self._publish(NodeWarned(node=node, reason=reason, hint=hint))
