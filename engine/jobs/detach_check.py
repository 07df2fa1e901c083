"""Check once per boot of a node that a process survives the end of the login that started it.

The check starts when a node first connects, and opens and closes a connection of its own. Only a launch waits for its result.
Embedded nodes need none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ..errors import PacelineError
from ..events import Event, NodeConnected, NodeWarned
from ..protocol.run_files import DETACH_METHODS
from ..specs import NodeSpec
from ..ssh.fleet import Fleet
from ..telemetry.bus import Publish

MAX_CONCURRENT_CHECKS = 8
"""Nodes checked at the same time; each costs a second login."""
LOGOUT_SETTLE_S = 3.0
"""Seconds from the end of the login until the marker process is looked for: a system that ends processes with a login does so at
once."""


async def wait_after_logout() -> None:
    """Wait until the system has ended the processes of a closed login."""
    await asyncio.sleep(LOGOUT_SETTLE_S)


class DetachCheck:
    """A bus listener that checks the nodes of a session. A launch waits for its results."""

    def __init__(
        self,
        nodes: Iterable[NodeSpec],
        fleet: Fleet,
        publish: Publish,
        wait_logout: Callable[[], Awaitable[None]] = wait_after_logout,
    ) -> None:
        self._nodes = {node.name for node in nodes if node.kind == "ssh" and not node.read_only}
        self._fleet, self._publish, self._wait_logout = fleet, publish, wait_logout
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)
        self._boots: dict[str, str] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}

    def __call__(self, event: Event) -> None:
        """Start the check of a node that connects with a new boot id."""
        if isinstance(event, NodeConnected) and event.node in self._nodes and self._boots.get(event.node) != event.boot_id:
            self._boots[event.node] = event.boot_id
            if (former := self._checks.pop(event.node, None)) is not None:
                former.cancel()
            self._checks[event.node] = asyncio.ensure_future(self._check(event.node))

    async def wait_checked(self, nodes: Iterable[str]) -> None:
        """Wait until the checks of these nodes have ended. The node itself refuses a launch that would not survive."""
        checks = [self._checks[name] for name in nodes if name in self._checks]
        await asyncio.gather(*(asyncio.shield(check) for check in checks), return_exceptions=True)

    async def close(self) -> None:
        """Cancel all checks. A marker process ends by itself."""
        for check in self._checks.values():
            check.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)

    async def _check(self, node: str) -> None:
        """Try one detach method after the other until a process survives, and warn of what a long run should know."""
        try:
            link = await self._fleet.link(node)
            verdict = await link.ask("detach_status")
            if kind := verdict.get("file_system"):
                self._warn(
                    node, f"its state lies on {kind}, a file system of the network", "set state_dir in nodes.toml to a local disk"
                )
            async with self._semaphore:
                for _ in DETACH_METHODS:  # bounded, whatever the node answers
                    if verdict.get("rung") is not None or not verdict.get("next"):
                        break
                    verdict = await self._try(node, str(verdict["next"]))
        except PacelineError as error:
            self._warn(node, f"not proved that runs outlive a login here: {error.reason}", error.hint or "")
            return
        if verdict.get("rung") is None and verdict.get("killed"):
            self._warn(
                node, "ends background processes with their login: nothing can run here", "loginctl enable-linger, or install tmux"
            )
        elif verdict.get("killed"):
            self._warn(node, f"ends background processes with their login: runs are kept by {verdict['rung']}", "")

    async def _try(self, node: str, method: str) -> dict[str, Any]:
        """Start a marker process over a second connection, close it, and look for the process over the first one."""
        login = await self._fleet.open_second_link(node)
        try:
            marker = await login.ask("start_marker", rung=method)
        except PacelineError as error:
            marker = {"pid": 0, "boot_id": "", "start_time": 0, "reason": error.reason}
        finally:
            await login.close()
        await self._wait_logout()
        link = await self._fleet.link(node)
        return await link.ask("check_marker", rung=method, marker=marker)

    def _warn(self, node: str, reason: str, hint: str) -> None:
        self._publish(NodeWarned(node=node, reason=reason, hint=hint))
