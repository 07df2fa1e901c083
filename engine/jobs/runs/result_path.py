"""Where the result lies that a person names: by a run, an experiment, a directory, or a file."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigurationError, UsageError
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from .listing import copied_rows
from .run_names import KnownRun, find_run

RESULT_FILE = "result.json"


def result_path(runs: Path, name: str) -> Path:
    """The file that holds a result. ``name``: a file, a directory with one, an experiment, or a run as a person names it.

    Raises UsageError where there is none.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    for directory in (given, runs.parent / "experiments" / name):
        if directory.is_dir():
            return directory / RESULT_FILE
    rows = copied_rows(runs)
    known = [KnownRun(row["run_id"], row.get("name") or "", row["state"]) for row in rows]
    try:
        return runs / find_run(known, name) / RESULT_FILE
    except UsageError as error:
        raise UsageError(error.reason, hint="a run or an experiment with results here, or the path of a result.json") from None


def read_result(runs: Path, name: str) -> tuple[Path, Document]:
    """A result and where it lies. Raises UsageError, ConfigurationError where it cannot be read."""
    path = result_path(runs, name)
    if (document := read_json(path)) is None:
        raise ConfigurationError(f"{path}: no result can be read", hint="it is written when a run has ended and was followed")
    return path, document
