"""The event bus: stamps each event with its arrival time and calls every listener, in the order of subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..events import Event

Listener = Callable[[Event], None]
Publish = Callable[[Event], None]
"""Publishes an event."""
ARRIVAL_DIGITS = 4
"""Decimals of an arrival, in seconds: more would be noise that every recording keeps."""


class Bus:
    """The event stream of one session. Not thread-safe: it belongs to one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds. Stream time 0 is the moment of this call."""
        self._clock = clock
        self._start = clock()
        self._at = 0.0
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event from now on. The returned function unsubscribes it."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def publish(self, event: Event) -> Event:
        """Stamp an event and call every listener with it. An exception of a listener is raised after all have been called."""
        self._at = max(self._at, round(self._clock() - self._start, ARRIVAL_DIGITS))
        stamped = replace(event, at=self._at)
        errors: list[Exception] = []
        for listener in tuple(self._listeners):
            try:
                listener(stamped)
            except Exception as error:
                errors.append(error)
        for other in errors[1:]:
            errors[0].add_note(f"another listener failed as well: {other!r}")
        if errors:
            raise errors[0]
        return stamped
