"""The state that a recording begins with. Recorder and replay share it, because key frames must be the states of a replay. Pure."""

from __future__ import annotations

from ..events import Event, InventoryRead
from ..store.reduce import reduce
from ..store.state import State


def first_state(event: Event | None) -> State:
    """The state before the first event: the screens of a live session know the machines by then."""
    return reduce(State(), event) if isinstance(event, InventoryRead) else State()
