"""The verb ``report``: results of runs, experiments and profiles as files to hand in. Reads files here only: no node is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError
from ...publishing.collect import REPORTED, report_of
from ...publishing.exports.mlflow_runs import write_mlflow
from ...publishing.exports.tensorboard import write_tensorboard
from ...publishing.exports.wandb_runs import write_wandb
from ...publishing.formats import DEFAULT_FORMATS, EXPORTS
from ...publishing.like import LIKES, as_like
from ...publishing.result_file import ResultFile
from ...publishing.write import write_report
from ...reports.document_type import Document, document_type
from ..runs.result_path import read_result


def export_runs(runs: Path, names: Sequence[str], to: Path | None, tool: str) -> Document:
    """Write results as another tool reads them: TensorBoard, MLflow or W&B. Raises UsageError."""
    if tool not in EXPORTS:
        raise UsageError(f"there is no export to {tool!r}", hint=f"known: {', '.join(EXPORTS)}")
    sources = [_source(runs, name) for name in names]
    directory = to if to is not None else runs.parent / tool
    if tool == "tensorboard":
        written, summary = write_tensorboard(sources, directory), [f"{tool} --logdir {directory}"]
    else:
        written, summary = (write_mlflow if tool == "mlflow" else write_wandb)(sources, directory)
    return {
        "type": "report",
        "directory": str(directory),
        "files": [str(path) for path in written],
        "summary": summary,
        "notes": [f"{one.name} was measured on emulated devices" for one in sources if one.document.get("emulated")],
    }


def report_runs(runs: Path, names: Sequence[str], to: Path | None, formats: Sequence[str] | None, like: str | None) -> Document:
    """Write a report about results. ``names``: runs or experiments as a person names them, a result.json, or a directory with one.

    ``to``: its directory; None: ``report`` beside the only result, else ``logs/reports/`` and the first name. Raises UsageError.
    """
    if like is not None and like not in LIKES:
        raise UsageError(f"there is no report like {like!r}", hint=f"known: {', '.join(LIKES)}")
    sources = [_source(runs, name) for name in names]
    report = report_of(sources)
    if like is not None:
        report = as_like(report, sources, like)
        if not report.tables and not report.charts:
            raise UsageError(f"these results have nothing of a report like {like}", hint=LIKES[like].about)
    directory = to if to is not None else _directory(runs, sources)
    files = write_report(report, directory, formats if formats is not None else DEFAULT_FORMATS)
    return {
        "type": "report",
        "directory": str(directory),
        "files": [str(path) for path in files],
        "summary": list(report.summary),
        "notes": list(report.notes),
    }


def _directory(runs: Path, sources: Sequence[ResultFile]) -> Path:
    if len(sources) == 1:
        return Path(sources[0].path).parent / "report"
    return runs.parent / "reports" / f"{sources[0].name}-and-{len(sources) - 1}-more"


def _source(runs: Path, name: str) -> ResultFile:
    path, document = read_result(runs, name)
    kind = document_type(document)
    if kind not in REPORTED:
        raise UsageError(f"{path} holds a document of {kind or 'an unknown type'}", hint=f"reports are about {', '.join(REPORTED)}")
    return ResultFile(str(document.get("run_id") or document.get("name") or path.stem), str(path), document)
