"""The verb ``compare``: two results by run or by file. Reads files here only: no node is asked."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigurationError, UsageError
from ...protocol.json_files import read_json
from ...reports.compare import compare_results, regressions
from ...reports.document_type import Document
from .listing import copied_rows
from .run_names import KnownRun, find_run

RESULT_FILE = "result.json"


def compare_runs(runs: Path, a: str, b: str, max_regression: float | None) -> Document:
    """Compare two results. ``a``, ``b``: a run as a person names it, a result.json, or a directory with one.

    ``max_regression``: a fraction; metrics that became worse by more make ``state`` failed, as does a pair that does not compare.
    Raises UsageError where a result cannot be found or read.
    """
    document = compare_results(_result(runs, a), _result(runs, b))
    worse = [] if max_regression is None else regressions(document, max_regression)
    is_failed = bool(worse) or (max_regression is not None and not document["comparable"])
    return {"type": "compare", "state": "failed" if is_failed else "done", **document, "regressions": worse}


def _result(runs: Path, name: str) -> Document:
    given = Path(name).expanduser()
    if given.is_dir() or given.is_file():
        path = given / RESULT_FILE if given.is_dir() else given
    else:
        rows = copied_rows(runs)
        known = [KnownRun(row["run_id"], row.get("name") or "", row["state"]) for row in rows]
        try:
            path = runs / find_run(known, name) / RESULT_FILE
        except UsageError as error:
            raise UsageError(error.reason, hint="a run with copies here, or the path of a result.json") from None
    if (document := read_json(path)) is None:
        raise ConfigurationError(f"{path}: no result can be read", hint="it is written when a run has ended and was followed")
    return document
