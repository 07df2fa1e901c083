"""A rank's signs of life to the runner of its node, from a thread of its own: a busy rank gives them, a stopped one does not.

The answers say which generation of the run's group is left behind, so that a rank that waits for a lost one can be unblocked, and
for which one a change is wanted, so that all ranks stand at a common step.
Imports nothing of torch: it begins before the seconds that torch takes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ...membership.silence import BEAT_INTERVAL_S
from ...protocol import runner_socket

PULSE_TIMEOUT_S = 60.0
LISTENING_INTERVAL_S = 0.1
"""Seconds between two signs of a rank whose group may be left behind: it is unblocked that soon."""

_listeners: list[Callable[[int, int], None]] = []


def start_pulse(run_dir: Path, rank: int) -> None:
    """Give signs of life until this process ends."""
    threading.Thread(target=_beat, args=(run_dir, rank), name="pulse", daemon=True).start()


def on_answer(act: Callable[[int, int], None]) -> None:
    """Have ``act`` called, in the thread of the pulse, with the newest generation that is left behind and the one whose ranks are
    to stand; again and again. -1: none."""
    _listeners.append(act)


def _beat(run_dir: Path, rank: int) -> None:
    request = json.dumps({"ask": "beat", "rank": rank, "pid": os.getpid()}).encode() + b"\n"
    while True:
        try:
            with runner_socket.connect(run_dir, PULSE_TIMEOUT_S) as connection, connection.makefile("rb") as answers:
                while True:
                    connection.sendall(request)
                    if not (line := answers.readline()):
                        break
                    answer = json.loads(line)
                    if isinstance(left := answer.get("value"), int):
                        for act in _listeners:
                            act(left, int(answer.get("pausing", -1)))
                    time.sleep(LISTENING_INTERVAL_S if _listeners else BEAT_INTERVAL_S)
        except (OSError, ValueError, AttributeError):  # a runner that is gone takes this process with it
            pass
        time.sleep(BEAT_INTERVAL_S)
