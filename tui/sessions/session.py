"""The session as the screens see it, live or replayed: events in, command lines out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from paceline.engine.events import Event, InventoryRead
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.reports.document_type import Document
from paceline.engine.store.state import State
from paceline.engine.telemetry.marks import Mark

if TYPE_CHECKING:
    from paceline.engine.telemetry.recording import Recording


class Answer(NamedTuple):
    """The result of a verb."""

    verb: str
    document: Document
    """The document that ``--json`` prints."""


@runtime_checkable
class Seekable(Protocol):
    """A session that can go to another moment, as a replay can."""

    at: float
    """The current moment, in seconds of the stream."""
    speed: float
    is_paused: bool

    @property
    def length(self) -> float | None:
        """Seconds of the whole stream; None: not known yet."""
        ...

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What happened and when, oldest first; it may grow while the stream is being read."""
        ...

    def on_jump(self, listener: Callable[[State], None]) -> None:
        """Call ``listener`` with the whole state when the stream continues from another moment."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """A session whose log lines stand in a recording."""

    recording: Recording
    at: float
    """The current moment, in seconds of the stream."""


def has_logs(session: Session, run_id: str) -> bool:
    """Whether log lines of a run can be shown."""
    return isinstance(session, Recorded) or session.logs(run_id) is not None


class Session(Protocol):
    """A stream of events, and verbs to perform."""

    @property
    def inventory(self) -> InventoryRead | None:
        """The machines, known before the stream begins."""
        ...

    @property
    def state(self) -> State:
        """The current state. An event is folded into it before any listener is called."""
        ...

    @property
    def is_replay(self) -> bool:
        """Whether the events come from a recording."""
        ...

    def logs(self, run_id: str) -> Path | None:
        """Directory with the copied logs of a run, one directory per node; None where there are none."""
        ...

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """Clock offsets of nodes from this machine; nodes without a measured offset are left out."""
        ...

    async def read_run(self, run_id: str) -> None:
        """Bring everything of a run that has ended into the stream, without following it. Raises PacelineError."""
        ...

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Call ``listener`` with every event, on the event loop of the screens."""
        ...

    async def open(self) -> Answer | None:
        """Begin the stream; called once, after the first paint. Raises PacelineError.

        Returns the answer to the verb of the command line.
        """
        ...

    async def close(self) -> None:
        """End the stream and close all connections; runs go on."""
        ...

    async def perform(self, line: str) -> Answer | None:
        """Perform a typed verb, such as ``bench`` or ``cancel RUN``. Raises PacelineError.

        A launch continues in the background and reports in the stream: it has no answer.
        """
        ...
