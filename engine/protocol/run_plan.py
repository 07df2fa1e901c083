"""The plan that the processes of a run work by: ``plan.json``, which never changes, or what replaces it in a later attempt.

A scheduler that starts a run again gives it other machines. Then ``private/plan.json`` has their addresses, and the checkpoint to
go on from; ``plan.json`` stays as it was copied to the centre.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..plan import Plan
from ..wire import from_plain
from .run_files import PRIVATE_DIR

RUN_PLAN_FILE = "plan.json"


def attempt_plan_path(run: Path) -> Path:
    """Where the plan of a later attempt lies."""
    return run / PRIVATE_DIR / RUN_PLAN_FILE


def read_run_plan(run: Path) -> Plan:
    """The plan of the present attempt. Raises OSError and ValueError."""
    path = attempt_plan_path(run)
    text = path.read_text() if path.exists() else (run / RUN_PLAN_FILE).read_text()
    return from_plain(Plan, json.loads(text))
