"""The number of trainable parameters of a packaged model: from the table, else counted in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ...specs import ScriptSpec
from ...workloads.pairs import listed_parameters
from .packaged import EXAMPLES_PACKAGE

COUNT_MODULE = "paceline.engine.script.habits.count"
COUNT_TIMEOUT_S = 120.0
"""Seconds of a process that imports torch, and maybe transformers, on a busy machine."""


def count_parameters(script: ScriptSpec, data: Path) -> int | None:
    """Trainable parameters of a packaged script with its arguments. ``data``: its prepared data set.

    The process makes the model on meta tensors, which need no memory. None where it cannot tell, for instance because torch is not
    installed here: a launch does without.
    """
    listed = listed_parameters(script.workload, script.args)
    if listed is not None:
        return listed
    source = Path(__file__).parents[2].joinpath(*EXAMPLES_PACKAGE.split(".")[2:], script.path)
    command = [sys.executable, "-m", COUNT_MODULE, str(source), str(data / "manifest.json"), *script.args]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=COUNT_TIMEOUT_S)
        return int(json.loads(ended.stdout.strip().rpartition("\n")[2])) if ended.returncode == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
