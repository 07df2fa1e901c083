"""What the screens need of a session, live or replayed; they know nothing else of the engine's deeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from paceline.engine.events import Event, InventoryRead
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.store.state import State


class Answer(NamedTuple):
    """What a verb found out or did."""

    verb: str
    document: dict[str, Any]
    """As ``--json`` prints it."""


@runtime_checkable
class Seekable(Protocol):
    """A session that can go to another moment: a replay."""

    at: float
    """The moment that is shown, seconds of the stream."""
    speed: float

    def on_jump(self, listener: Callable[[State], None]) -> None:
        """Hand the whole state to ``listener`` where the stream goes on from another moment."""
        ...


class Session(Protocol):
    """One stream of events in, one line of a command out."""

    @property
    def inventory(self) -> InventoryRead | None:
        """The machines, known at once, before the stream begins."""
        ...

    @property
    def state(self) -> State:
        """What is true now: every event is in it before a listener hears of it. Folded once, for whoever asks."""
        ...

    @property
    def is_replay(self) -> bool:
        """Whether the events come from a recording."""
        ...

    def logs(self, run_id: str) -> Path | None:
        """Where the copies of a run's logs lie, a directory a node; None: there are none to read."""
        ...

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """How the clocks of nodes differ from ours; those of which it is not known are left out."""
        ...

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Call ``listener`` with every event, on the loop that runs the screens."""
        ...

    async def open(self) -> Answer | None:
        """Begin the stream: called once, after the first paint; returns at once or at its end. Raises PacelineError.

        Gives the answer to the verb that the person came with.
        """
        ...

    async def close(self) -> None:
        """End the stream and free everything; runs go on."""
        ...

    async def perform(self, line: str) -> Answer | None:
        """Carry out a verb as typed, such as ``bench`` or ``cancel RUN``. Raises PacelineError.

        A launch goes on in the background, and what it does is in the stream: it has no answer.
        """
        ...
