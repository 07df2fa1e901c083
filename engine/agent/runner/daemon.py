"""Detaching a program from the agent that started it, after one line of answer to that agent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any


def daemonize() -> None:
    """Leave the session and the parent of this process. Standard output stays open for ``answer_once``."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 2)


def answer_once(value: dict[str, Any]) -> None:
    """Write the one JSON line that the agent waits for, and close standard output, so that the agent's pipe ends."""
    with contextlib.suppress(OSError):  # the agent is gone: the next one finds this process through its files
        os.write(1, json.dumps(value).encode() + b"\n")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
