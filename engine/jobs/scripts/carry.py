"""Brings what a script wrote in one run into its next: without checkpoints of Paceline it may go on from files of its own."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from ...errors import StorageFailed, UsageError
from ...events import Warned
from ...protocol.private_files import make_directory
from ...protocol.project_files import WORK_DIRECTORY
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ..files.fetch import fetch


async def carry_files(row: Document, target: Path, here: Path, fleet: Fleet, publish: Publish) -> Path | None:
    """Gather the files that the script of an ended run (a row of ``list_runs``) wrote on its nodes; None where it wrote none.

    Where nodes hold other files of the same name, that of the first node counts: rank 0 is there. ``here``: where the files of the
    run are fetched to. Raises StorageFailed, and as ``fetch``.
    """
    nodes = list(row["nodes"])
    try:
        await fetch(row, [WORK_DIRECTORY], here, fleet, connected=nodes, publish=publish)
    except UsageError:  # no file matches
        nodes = []
    try:
        count = await asyncio.to_thread(_merge, [here / node / WORK_DIRECTORY for node in nodes], target)
    except OSError as error:
        raise StorageFailed(f"cannot write {target}: {error.strerror or error}", hint="free some space there") from None
    with_files = f" with the {count} file{'s' * (count != 1)} that it had written" if count else ""
    publish(Warned(reason=f"run {row['run_id']} left no checkpoint of Paceline: its script begins again{with_files}"))
    return target if count else None


def _merge(sources: list[Path], target: Path) -> int:
    """Copy the files of all directories into a new one, those of the first last; returns their number."""
    shutil.rmtree(target, ignore_errors=True)
    make_directory(target)
    for source in reversed(sources):
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    return sum(path.is_file() for path in target.rglob("*"))
