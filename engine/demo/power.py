"""A power cut of an embedded node: every process that belongs to it is killed at once. Nobody is told; the others find out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

RUNNER = "paceline.engine.agent.runner"


def kill_node(root: Path) -> int:
    """Kill every process of an embedded node of this lab; returns how many.

    They are the processes that name the node's directory in their arguments or as ``PACELINE_ROOT``. The runner of a run dies
    first: it would tell its peers how the others ended, which a node without power does not.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _belongs(str(root), process.cmdline(), process.environ()):
                found.append((RUNNER not in process.cmdline(), process))
    for _, process in sorted(found, key=lambda pair: pair[0]):
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(found)


def _belongs(root: str, arguments: Sequence[str], environment: dict[str, str]) -> bool:
    return environment.get("PACELINE_ROOT") == root or any(
        argument == root or argument.startswith(root + "/") for argument in arguments
    )
