"""Where all events meet: stamped with their arrival, then handed to every listener in the order of subscription."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..events import Event

Listener = Callable[[Event], None]


class Bus:
    """One stream of one session. Not thread-safe: it belongs to one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is monotonic, in seconds; the stream begins now."""
        self._clock = clock
        self._start = clock()
        self._at = 0.0
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event from now on; what is returned ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def publish(self, event: Event) -> Event:
        """Stamp and hand out an event. Every listener gets it; what one of them raised is raised afterwards, as it is a bug."""
        self._at = max(self._at, self._clock() - self._start)
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
