"""Which machines have answered: the state of the stream, and waiting until every node has reported or failed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..errors import NodeRefused, NodeUnreachable
from ..events import Event, NodeConnected, NodeReported
from ..store.reduce import reduce
from ..store.state import State

GONE = ("lost", "refused")


class LiveState:
    """A listener of the bus that folds the stream and can be waited for."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.state = State()
        self.facts: dict[str, NodeConnected] = {}
        """What each node said of itself when it connected."""
        self._nodes = tuple(nodes)
        self._reported: set[str] = set()
        """Nodes whose devices were read since they connected; before, only the declared ones are known."""
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.state = reduce(self.state, event)
        if isinstance(event, NodeConnected):
            self.facts[event.node] = event
            self._reported.discard(event.node)
        elif isinstance(event, NodeReported):
            self._reported.add(event.node)
        self._changed.set()

    @property
    def connected(self) -> list[str]:
        """Nodes that answer now."""
        return [name for name in self._nodes if self.state.nodes[name].state == "ok"]

    async def wait_settled(self, names: Sequence[str] | None = None, told: Callable[[int], None] = lambda settled: None) -> None:
        """Wait until every one of these nodes has reported once, or failed once; None: of all. ``told`` hears how many have."""
        wanted = self._nodes if names is None else names
        while (amount := sum(map(self._is_settled, wanted))) < len(wanted):
            told(amount)
            await self.wait_changed()

    async def wait_changed(self) -> None:
        """Wait for the next event."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_reported(self, names: Sequence[str] | None = None, told: Callable[[int], None] = lambda settled: None) -> None:
        """Wait until every one of these nodes has reported; None: all. Raises NodeRefused or NodeUnreachable where one does not."""
        await self.wait_settled(names, told)
        for state, error in (("refused", NodeRefused), ("lost", NodeUnreachable)):
            nodes = [self.state.nodes[name] for name in (self._nodes if names is None else names)]
            bad = [node for node in nodes if node.state == state]
            if bad:
                others = f"; so too: {', '.join(node.name for node in bad[1:])}" if bad[1:] else ""
                hint = bad[0].hint or "nothing was started; paceline status shows all nodes, --devices or --only leaves some out"
                raise error(f"{bad[0].reason}{others}", node=bad[0].name, hint=hint)

    def _is_settled(self, name: str) -> bool:
        state = self.state.nodes[name].state
        return state in GONE or (state == "ok" and name in self._reported)
