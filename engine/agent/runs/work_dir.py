"""The working directory of a script: the run's own copy of its project, so that a script may write beside its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ...errors import StorageFailed, WorkFailed
from ...plan import Plan
from ...protocol.data_names import DATA_VARIABLE
from ...protocol.private_files import write_bytes
from ...protocol.project_files import FILES, MANIFEST, WORK_DIRECTORY
from ...protocol.regular_files import read_regular
from ...protocol.run_files import PRIVATE_DIR

COPIES_FILE = ".copies.json"
"""``{name below the run: [mtime in ns, size]}`` of the copied files: those that stay so are no output of the run."""


def unchanged_copies(run: Path) -> dict[str, tuple[int, int]]:
    """Time of the last change and size of each copied file of the project, by its name below the run."""
    try:
        copies = json.loads(read_regular(run / COPIES_FILE))
        return {str(name): (int(mtime), int(size)) for name, (mtime, size) in copies.items()}
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # no script, or it spoilt the file
        return {}


def remove_work_dir(run: Path, plan: Plan) -> None:
    """Remove what a script that was only measured wrote. What cannot be removed stays until the run is cleaned."""
    if plan.script is not None and plan.script.max_steps is not None:
        shutil.rmtree(run / WORK_DIRECTORY, ignore_errors=True)
        (run / COPIES_FILE).unlink(missing_ok=True)


def link_data(run: Path, plan: Plan, data: Path) -> dict[str, str]:
    """Let the data of a run's script stand under their names in one directory; return the environment that names it.

    ``data``: where a node keeps data by digest. The directory goes with the run's end. Raises StorageFailed.
    """
    if plan.script is None or not plan.script.data:
        return {}
    directory = run / PRIVATE_DIR / "data"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for one in plan.script.data:
            (directory / one.name).symlink_to(data / one.digest)
    except OSError as error:
        raise StorageFailed(f"cannot link the data in {directory}: {error.strerror or error}", hint="start the run again") from None
    return {DATA_VARIABLE: str(directory)}


def make_work_dir(run: Path, plan: Plan, data: Path) -> Path:
    """Copy the project of a run's script from ``data/<digest>`` into the run; return the working directory of its ranks.

    A run without a script works in its own directory. Raises WorkFailed where the project is not whole, StorageFailed where it
    cannot be copied.
    """
    if plan.script is None:
        return run
    source, work = data / plan.data.digest, run / WORK_DIRECTORY
    try:
        files = json.loads(read_regular(source / MANIFEST))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise WorkFailed(f"the project of the run is not whole in {source}: {error}", hint="start the run again") from None
    copies: dict[str, list[int]] = {}
    try:
        work.mkdir(mode=0o700)
        for name, entry in files.items():
            target = work / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(source / FILES / name, target)
            target.chmod(0o700 if entry.get("executable") else 0o600)
            copies[f"{WORK_DIRECTORY}/{name}"] = [target.stat().st_mtime_ns, target.stat().st_size]
        if plan.script.carried is not None:  # what the run before wrote wins over what it was given
            carried = data / plan.script.carried.digest
            shutil.copytree(carried, work, dirs_exist_ok=True)
            for path in carried.rglob("*"):
                copies.pop(f"{WORK_DIRECTORY}/{path.relative_to(carried).as_posix()}", None)
        directory = work / plan.script.workdir
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(run / COPIES_FILE, json.dumps(copies).encode())
    except OSError as error:
        raise StorageFailed(f"cannot copy the project to {work}: {error.strerror or error}", hint="free some space there") from None
    return directory
