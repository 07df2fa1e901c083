"""A detached process that shows by its survival whether this machine leaves background processes alone.

``python -m paceline.engine.agent.runner.marker ROOT NODE`` detaches, answers {"pid", "boot_id", "start_time"}, and ends by itself.
"""

from __future__ import annotations

import os
import time

from ..system.processes import boot_id, start_time
from .daemon import answer_once, daemonize

MARKER_LIFETIME_S = 60.0
"""Longer than any centre takes to check it."""

if __name__ == "__main__":
    daemonize()
    answer_once({"pid": os.getpid(), "boot_id": boot_id(), "start_time": start_time(os.getpid())})
    time.sleep(MARKER_LIFETIME_S)
