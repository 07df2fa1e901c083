"""Events of a demo session as they are kept for other people: without paths, names and programs of the machine they come from."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..events import Event, NodeConnected, NodeReported
from ..telemetry.bus import Listener
from ..wire import decode, encode
from .sessions import SESSION_FILE

HOST, USER = "lab", "lab"
"""What stands for the machine and for its person."""


def recorded(listener: Listener, lab: Path) -> Listener:
    """The listener as it is, or in the lab of a demo session one that gets portable events."""
    if not (lab / SESSION_FILE).exists():
        return listener
    make = portable_in(lab)
    return lambda event: listener(make(event))


def portable_in(lab: Path) -> Callable[[Event], Event]:
    """A function that makes an event portable: paths in the lab begin with its name, those at home with ``~``."""
    roots = {str(lab): lab.name, str(lab.resolve()): lab.name, str(lab.parent): ".", tempfile.gettempdir(): "tmp"}
    home = os.path.expanduser("~")
    if home != "/":
        roots.setdefault(home, "~")
    names = [
        (json.dumps(path, ensure_ascii=False)[1:-1], name) for path, name in sorted(roots.items(), key=lambda item: -len(item[0]))
    ]

    def make(event: Event) -> Event:
        line = text = encode(event)
        for path, name in names:
            text = text.replace(path, name)
        told = event if text == line else decode(text)
        return _without_machine(event if told is None else told)

    return make


def _without_machine(event: Event) -> Event:
    match event:
        case NodeConnected():
            return replace(event, hostname=HOST, boot_id="", pid_namespace="")
        case NodeReported(host=host):
            own = tuple(replace(process, user=USER) for process in host.processes or () if process.run_id)
            return replace(event, host=replace(host, processes=own))
    return event
