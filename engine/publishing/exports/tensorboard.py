"""Results as TensorBoard event files: one run directory a case, scalars by epoch, under the names that its users expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, UsageError
from ...reports.document_type import document_type
from ..result_file import ResultFile

SCALARS = {
    "training_loss": "loss/train",
    "loss": "loss/validation",
    "metric": "metric/validation",
    "samples_per_second": "performance/samples_per_second",
    "seconds": "time/epoch_seconds",
}
"""Fields of an epoch and the tags under which they appear."""
TOTALS = ("samples_per_second", "balance_efficiency", "utilization", "imbalance", "speedup_over_equal", "joules_per_sample")
"""Figures of a whole case, as ``result/<name>`` at the last epoch."""


def write_tensorboard(sources: Sequence[ResultFile], directory: Path) -> list[Path]:
    """Write one event directory a case below ``directory``; returns the directories.

    Raises UsageError where tensorboard is missing or no result has epochs, StorageFailed for a full disk.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        raise UsageError("event files need tensorboard", hint="pip install 'paceline[reports]'") from None
    cases = [case for one in sources for case in cases_of(one)]
    if not cases:
        raise UsageError("no result here has epochs", hint="TensorBoard shows trainings and benchmarks")
    written = []
    for name, scalars in cases:
        target = directory / name
        try:
            writer = EventFileWriter(str(target))
            for tag, step, value in scalars:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(wall_time=float(step), step=step, summary=summary))
            writer.close()
        except OSError as error:
            raise StorageFailed(f"cannot write {target}: {error.strerror or error}") from None
        written.append(target)
    return written


def cases_of(one: ResultFile) -> Iterator[tuple[str, list[tuple[str, int, float]]]]:
    """Directory name, and tag, step and value of every scalar, of each case of a result."""
    kind = document_type(one.document)
    if kind not in ("bench", "train"):
        return
    cases = one.document["cases"] if kind == "bench" else [one.document]
    for case in cases:
        scalars = list(_scalars(case, one.document.get("metrics") or {}))
        if scalars:
            yield (f"{one.name}/{case['policy']}" if kind == "bench" else one.name), scalars


def _scalars(case: Mapping[str, Any], logged: Mapping[str, Any]) -> Iterator[tuple[str, int, float]]:
    epochs = case.get("epochs") or []
    for epoch in epochs:
        for field, tag in SCALARS.items():
            if epoch.get(field) is not None:
                yield tag, epoch["epoch"], float(epoch[field])
    for name, curve in logged.items():
        yield from ((f"metric/{name}", int(epoch), float(value)) for epoch, value in curve if value is not None)
    last = epochs[-1]["epoch"] if epochs else 0
    for name in TOTALS:
        if case.get(name) is not None:
            yield f"result/{name}", last, float(case[name])
