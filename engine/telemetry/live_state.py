"""The live state of a session, and waits until every node has reported or failed once. Uses asyncio, so it is not in ``store``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from ..errors import NodeRefused, NodeUnreachable
from ..events import Event, NodeConnected, NodeReported, Progress
from ..states import NodeStatus
from ..store.reduce import reduce
from ..store.state import State

UNREACHABLE_STATES: tuple[NodeStatus, ...] = ("lost", "refused")
"""States of a node that does not answer."""
FIRST_READING_TIMEOUT_S = 15.0
"""Stream seconds from a node's hello after which it is not waited for: a driver or a file system that hangs gives no reading."""


class LiveState:
    """A bus listener that reduces the stream to the current state."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.state = State()
        self.facts: dict[str, NodeConnected] = {}
        """The last hello of each node."""
        self._nodes = tuple(nodes)
        self._reported: set[str] = set()
        """Nodes whose devices have been read since they connected. Before that, only the devices in nodes.toml are known."""
        self._given_up: set[str] = set()
        """Nodes that were waited for in vain, until they settle."""
        self._changed = asyncio.Event()
        self._news = 0
        """Signs of life so far: parts of a transfer, and nodes that connected for the first time."""

    def __call__(self, event: Event) -> None:
        """Reduce one event."""
        self.state = reduce(self.state, event)
        if isinstance(event, NodeConnected):
            self._news += event.node not in self.facts
            self.facts[event.node] = event
            self._reported.discard(event.node)
        elif isinstance(event, NodeReported):
            self._reported.add(event.node)
            self._given_up.discard(event.node)
        elif isinstance(event, Progress):
            self._news += 1
        self._changed.set()

    @property
    def connected(self) -> list[str]:
        """Names of the nodes that are connected, in the order of nodes.toml."""
        return [name for name in self._nodes if self.state.nodes[name].state == "ok"]

    @property
    def answering(self) -> list[str]:
        """Names of the connected nodes without those that were waited for in vain."""
        return [name for name in self.connected if name not in self._given_up]

    async def wait_settled(
        self,
        names: Sequence[str] | None = None,
        on_progress: Callable[[int], None] = lambda settled: None,
        patience: float = math.inf,
    ) -> None:
        """Wait until each of these nodes has reported or failed; None: all nodes. ``on_progress`` gets the number that has.

        One that has failed and connects again is not waited for twice.
        ``patience``: seconds without a sign of life of any node after which the rest is not waited for, once one node has settled;
        what was waited for in vain is not waited for again until it reports.
        """
        awaited = self._nodes if names is None else names
        loop = asyncio.get_running_loop()
        seen, deadline = (-1, -1), math.inf
        settled = set(self._given_up) if math.isfinite(patience) else set()
        while len(settled := settled | {name for name in awaited if self._is_settled(name)}) < len(awaited):
            if seen[0] != len(settled):
                on_progress(len(settled))
            if seen != (seen := (len(settled), self._news)):
                deadline = loop.time() + patience if settled else math.inf
            try:
                async with asyncio.timeout_at(deadline if math.isfinite(deadline) else None):
                    await self.wait_changed()
            except TimeoutError:
                self._given_up |= set(awaited) - settled
                return

    async def wait_changed(self) -> None:
        """Wait for the next event."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_reported(
        self, names: Sequence[str] | None = None, on_progress: Callable[[int], None] = lambda settled: None
    ) -> None:
        """Wait until each of these nodes has reported; None: all nodes. Raises NodeRefused or NodeUnreachable where one fails."""
        await self.wait_settled(names, on_progress)
        nodes = [self.state.nodes[name] for name in (self._nodes if names is None else names)]
        for state, error in (("refused", NodeRefused), ("lost", NodeUnreachable)):
            failed = [node for node in nodes if node.state == state]
            if failed:
                first, *others = failed
                also = f"; also: {', '.join(node.name for node in others)}" if others else ""
                hint = first.hint or "nothing was started; paceline status shows all nodes, --devices or --only excludes some"
                raise error(f"{first.reason}{also}", node=first.name, hint=hint)
        if mute := [node.name for node in nodes if node.name not in self._reported]:
            raise NodeUnreachable(
                f"{', '.join(mute)}: no reading of its devices within {FIRST_READING_TIMEOUT_S:.0f} s",
                hint="its link breaks, or a driver or a file system hangs there; --devices or --only excludes some",
            )

    def _is_settled(self, name: str) -> bool:
        state = self.state.nodes[name].state
        if state in UNREACHABLE_STATES or state == "stale":
            return True
        return state == "ok" and (name in self._reported or self.state.at - self.facts[name].at > FIRST_READING_TIMEOUT_S)
