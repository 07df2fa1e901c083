"""The live state of a session, and waits until every node has reported or failed once. Uses asyncio, so it is not in ``store``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..errors import NodeRefused, NodeUnreachable
from ..events import Event, NodeConnected, NodeReported
from ..states import NodeStatus
from ..store.reduce import reduce
from ..store.state import State

UNREACHABLE_STATES: tuple[NodeStatus, ...] = ("lost", "refused")
"""States of a node that does not answer."""


class LiveState:
    """A bus listener that reduces the stream to the current state."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.state = State()
        self.facts: dict[str, NodeConnected] = {}
        """The last hello of each node."""
        self._nodes = tuple(nodes)
        self._reported: set[str] = set()
        """Nodes whose devices have been read since they connected. Before that, only the devices in nodes.toml are known."""
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Reduce one event."""
        self.state = reduce(self.state, event)
        if isinstance(event, NodeConnected):
            self.facts[event.node] = event
            self._reported.discard(event.node)
        elif isinstance(event, NodeReported):
            self._reported.add(event.node)
        self._changed.set()

    @property
    def connected(self) -> list[str]:
        """Names of the nodes that are connected, in the order of nodes.toml."""
        return [name for name in self._nodes if self.state.nodes[name].state == "ok"]

    async def wait_settled(
        self, names: Sequence[str] | None = None, on_progress: Callable[[int], None] = lambda settled: None
    ) -> None:
        """Wait until each of these nodes has reported or failed; None: all nodes. ``on_progress`` gets the number that has."""
        awaited = self._nodes if names is None else names
        while (settled := sum(map(self._is_settled, awaited))) < len(awaited):
            on_progress(settled)
            await self.wait_changed()

    async def wait_changed(self) -> None:
        """Wait for the next event."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_reported(
        self, names: Sequence[str] | None = None, on_progress: Callable[[int], None] = lambda settled: None
    ) -> None:
        """Wait until each of these nodes has reported; None: all nodes. Raises NodeRefused or NodeUnreachable where one fails."""
        await self.wait_settled(names, on_progress)
        for state, error in (("refused", NodeRefused), ("lost", NodeUnreachable)):
            nodes = [self.state.nodes[name] for name in (self._nodes if names is None else names)]
            failed = [node for node in nodes if node.state == state]
            if failed:
                first, *others = failed
                also = f"; also: {', '.join(node.name for node in others)}" if others else ""
                hint = first.hint or "nothing was started; paceline status shows all nodes, --devices or --only excludes some"
                raise error(f"{first.reason}{also}", node=first.name, hint=hint)

    def _is_settled(self, name: str) -> bool:
        state = self.state.nodes[name].state
        return state in UNREACHABLE_STATES or (state == "ok" and name in self._reported)
