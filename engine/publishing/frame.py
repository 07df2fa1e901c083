"""``paceline.results``: what runs came to, as one pandas frame, for a notebook or a script of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..protocol.json_files import read_json
from ..reports.document_type import Document, document_type

if TYPE_CHECKING:
    import pandas

RUN_FIELDS = ("run_id", "type", "state", "workload", "emulated", "global_batch_size", "planned_epochs", "parameters")
CASE_FIELDS = (
    "policy",
    "samples_per_second",
    "speedup_over_equal",
    "speedup_over_best_device",
    "balance_efficiency",
    "utilization",
    "imbalance",
    "changes",
    "loss",
    "metric",
    "metric_name",
    "seconds_to_target",
    "predicted_samples_per_second",
    "prediction_error",
    "joules_per_sample",
    "device_hours",
    "kilowatt_hours",
)


def results(path: str | Path = "logs/runs", epochs: bool = False) -> pandas.DataFrame:
    """One row a case of every run whose result lies below ``path``, oldest first; with ``epochs`` one row an epoch of it.

    Columns are the fields of the result documents (docs/json.md); unknown is NaN or None. Files that are no results are left out.
    Raises UsageError where there is no such directory, or pandas is missing.
    """
    directory = Path(path).expanduser()
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}", hint="logs/runs, beside your nodes.toml")
    try:
        import pandas
    except ImportError:
        raise UsageError("results as a frame need pandas", hint="pip install 'paceline[data]'") from None
    documents = (read_json(file) for file in sorted(directory.rglob("result.json")))
    rows = [row for document in documents if document for row in rows_of(document, epochs)]
    columns = [*RUN_FIELDS, "devices", *CASE_FIELDS, *(("epoch", "seconds", "training_loss") if epochs else ())]
    return pandas.DataFrame(rows, columns=list(dict.fromkeys(columns)))


def rows_of(document: Document, epochs: bool) -> Iterator[dict[str, Any]]:
    """The rows of one result; none of a document of another type."""
    kind = document_type(document)
    if kind not in ("bench", "train"):
        return
    head = {name: document.get(name) for name in RUN_FIELDS} | {"type": kind, "devices": len(document.get("devices") or ())}
    for case in document.get("cases") or () if kind == "bench" else (document,):
        own = head | {name: case.get(name) for name in CASE_FIELDS}
        ends = case.get("epochs") or ()
        if ends and own["loss"] is None:
            own |= {name: ends[-1].get(name) for name in ("loss", "metric", "metric_name")}
        if not epochs:
            yield own
            continue
        for end in ends:
            measured = {
                name: end.get(name) for name in ("epoch", "seconds", "training_loss", "loss", "metric", "samples_per_second")
            }
            yield own | {name: value for name, value in measured.items() if value is not None or name not in CASE_FIELDS}
