"""Where the result lies that a person names: by a run, an experiment, a directory, or a file."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigurationError, UsageError
from ...events import ResultDerived
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from ...telemetry.members import MAGIC
from ...telemetry.recorder import PLAIN_SUFFIX
from ...telemetry.recording import Recording
from ...wire import decode
from .listing import copied_rows
from .run_names import KnownRun, find_run

RESULT_FILE = "result.json"
RESULT_LINE = b'{"kind":"ResultDerived"'
"""How the line of a result begins."""


def result_path(runs: Path, name: str) -> Path:
    """The file that holds a result. ``name``: a file, a directory with one, an experiment, or a run as a person names it.

    A file may be a recording: its last result counts.

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


def is_recording(path: Path) -> bool:
    """Whether a file holds a recorded session."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC or path.suffix == PLAIN_SUFFIX
    except OSError:
        return False


def recorded_result(path: Path) -> Document | None:
    """The last result in a recording; None: it has none. Raises UsageError or DataRefused."""
    lines = [line for _, line in Recording(path).read_lines() if line.startswith(RESULT_LINE)]
    event = decode(lines[-1]) if lines else None
    return event.document if isinstance(event, ResultDerived) else None


def read_result(runs: Path, name: str) -> tuple[Path, Document]:
    """A result and where it lies. Raises UsageError, ConfigurationError where it cannot be read."""
    path = result_path(runs, name)
    document = recorded_result(path) if is_recording(path) else read_json(path)
    if document is None:
        raise ConfigurationError(f"{path}: no result can be read", hint="it is written when a run has ended and was followed")
    return path, document
