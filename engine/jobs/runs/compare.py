"""The verb ``compare``: two results by run or by file. Reads files here only: no node is asked."""

from __future__ import annotations

from pathlib import Path

from ...reports.compare import compare_results, regressions
from ...reports.document_type import Document
from .result_path import read_result


def compare_runs(runs: Path, a: str, b: str, max_regression: float | None) -> Document:
    """Compare two results. ``a``, ``b``: a run as a person names it, a result.json, or a directory with one.

    ``max_regression``: a fraction; metrics that became worse by more make ``state`` failed, as does a pair that does not compare.
    Raises UsageError where a result cannot be found or read.
    """
    document = compare_results(read_result(runs, a)[1], read_result(runs, b)[1])
    worse = [] if max_regression is None else regressions(document, max_regression)
    is_failed = bool(worse) or (max_regression is not None and not document["comparable"])
    return {"type": "compare", "state": "failed" if is_failed else "done", **document, "regressions": worse}
