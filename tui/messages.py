"""What the app tells its screens: one message, the whole truth of the moment."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.engine.store.state import RunState, State
from textual.message import Message


@dataclass(frozen=True, slots=True)
class View:
    """What there is to draw: the state, and how the person looks at it."""

    state: State
    is_paused: bool = False
    """The view is frozen; collecting goes on."""
    is_replay: bool = False
    run_id: str = ""
    """The run a person chose to look at; empty: the run in hand."""
    seen: frozenset[str] = frozenset()
    """Trouble that a person has looked at, by ``alert_key``: it no longer calls for anybody."""

    marked: frozenset[str] = frozenset()
    """Rows of the fleet that a person marked: a job that is started next is for these devices."""

    @property
    def run(self) -> RunState | None:
        """The run to show."""
        return self.state.runs.get(self.run_id) or self.state.run


class StateChanged(Message, bubble=False):
    """There is something new to draw; at most four times a second."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
