"""A rank's signs of life to the runner of its node, from a thread of its own: a busy rank gives them, a stopped one does not.

Imports nothing of torch: it begins before the seconds that torch takes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from ...membership.silence import BEAT_INTERVAL_S
from ...protocol import runner_socket

PULSE_TIMEOUT_S = 60.0


def start_pulse(run_dir: Path, rank: int) -> None:
    """Give signs of life until this process ends."""
    threading.Thread(target=_beat, args=(run_dir, rank), name="pulse", daemon=True).start()


def _beat(run_dir: Path, rank: int) -> None:
    request = json.dumps({"ask": "beat", "rank": rank, "pid": os.getpid()}).encode() + b"\n"
    while True:
        try:
            with runner_socket.connect(run_dir, PULSE_TIMEOUT_S) as connection, connection.makefile("rb") as answers:
                while True:
                    connection.sendall(request)
                    if not answers.readline():
                        break
                    time.sleep(BEAT_INTERVAL_S)
        except OSError:  # a runner that is gone takes this process with it
            pass
        time.sleep(BEAT_INTERVAL_S)
