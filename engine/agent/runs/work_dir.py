"""The working directory of a script: the run's own copy of its project, so that a script may write beside its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...errors import StorageFailed, WorkFailed
from ...plan import Plan
from ...protocol.project_files import FILES, MANIFEST, WORK_DIRECTORY


def make_work_dir(run: Path, plan: Plan, data: Path) -> Path:
    """Copy the project of a run's script from ``data/<digest>`` into the run; return the working directory of its ranks.

    A run without a script works in its own directory. Raises WorkFailed where the project is not whole, StorageFailed where it
    cannot be copied.
    """
    if plan.script is None:
        return run
    source, work = data / plan.data.digest, run / WORK_DIRECTORY
    try:
        files = json.loads((source / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise WorkFailed(f"the project of the run is not whole in {source}: {error}", hint="start the run again") from None
    try:
        work.mkdir(mode=0o700)
        for name, entry in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(source / FILES / name, target)
            target.chmod(0o700 if entry.get("executable") else 0o600)
        directory = work / plan.script.workdir
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageFailed(f"cannot copy the project to {work}: {error.strerror or error}", hint="free some space there") from None
    return directory
