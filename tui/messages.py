"""What the app sends to its screens: one message that carries the whole state and how the person looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from paceline.engine.store.state import RunState, State
from paceline.engine.telemetry.marks import Mark
from textual.message import Message

NoticeTone = Literal["ok", "done", "running", "warning", "critical"]
"""Sign and colour of a notice."""


class ReplayMoment(NamedTuple):
    """Where a replay is, and what its time line shows."""

    at: float
    """Seconds of the stream."""
    length: float | None
    """Seconds of the whole stream; None: not known yet."""
    speed: float
    is_paused: bool
    marks: tuple[Mark, ...]
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything the screens draw from: the state, and how the person looks at it."""

    state: State
    is_paused: bool = False
    """Whether the screens are frozen; events are still collected."""
    is_replay: bool = False
    replay: ReplayMoment | None = None
    """Where a replay is; None: a live session."""
    run_id: str = ""
    """The run that the person chose; empty: the current run."""
    acknowledged: frozenset[str] = frozenset()
    """Acknowledged alerts, by ``alert_key``: the top bar no longer counts them."""
    marked: frozenset[str] = frozenset()
    """Marked rows of the fleet: the form that starts a job proposes these devices."""

    @property
    def run(self) -> RunState | None:
        """The run to show: the chosen one, else the current one, else the newest."""
        chosen = self.state.runs.get(self.run_id) or self.state.run
        return chosen or max(self.state.runs.values(), key=lambda run: run.run_id, default=None)


@dataclass(frozen=True, slots=True)
class ShortNotice:
    """One line to the person, shown for a few seconds instead of the keys."""

    text: str
    severity: NoticeTone


class StateChanged(Message, bubble=False):
    """A new view to draw; posted at most four times a second."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
