"""A session that shows a recording at one moment and then stands still: what a picture without a terminal is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paceline.engine.errors import UsageError
from paceline.engine.events import Event, InventoryRead
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording

from ..sessions.session import Answer

IsOver = Callable[[State, Event], bool]
"""Whether an event and the state after it are the moment to stop at."""


class MomentSession:
    """Folds the events of a recording up to a moment. Listeners hear of the last event only: nothing else is ever painted."""

    is_replay = False

    def __init__(self, recording: Path, is_over: IsOver | None = None) -> None:
        """Read a recording to a moment; None: to its end. Raises DataRefused, or UsageError, where the moment never comes too."""
        self.inventory: InventoryRead | None = None
        self.state = State()
        self._last: Event | None = None
        for event in Recording(recording):
            if self.inventory is None and isinstance(event, InventoryRead):
                self.inventory = event
            self.state = reduce(self.state, event)
            self._last = event
            if is_over is not None and is_over(self.state, event):
                break
        else:
            if is_over is not None or self._last is None:
                raise UsageError(f"{recording} never comes to that moment", hint=f"it ends after {self.state.at:.0f} s")
        self._listeners: list[Callable[[Event], None]] = []

    def logs(self, run_id: str) -> Path | None:
        """None: a picture reads no files."""
        return None

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """None are known."""
        return {}

    async def read_run(self, run_id: str) -> None:
        """Nothing is read."""

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with the last event."""
        self._listeners.append(listener)

    async def open(self) -> Answer | None:
        """Tell the listeners that there is something to show."""
        for listener in self._listeners:
            if self._last is not None:
                listener(self._last)
        return None

    async def close(self) -> None:
        """Nothing to end."""

    async def perform(self, line: str) -> Answer | None:
        """Refused: a picture obeys nobody."""
        raise UsageError("a picture obeys nobody")


def at_second(second: float) -> IsOver:
    """The first event after that second of the stream."""
    return lambda state, event: event.at >= second


def after(kind: type[Event], seconds: float) -> IsOver:
    """So many seconds after the first event of a kind, when what came of it can be seen."""
    found: list[float] = []

    def is_over(state: State, event: Event) -> bool:
        if isinstance(event, kind):
            found.append(event.at)
        return bool(found) and event.at >= found[0] + seconds

    return is_over
