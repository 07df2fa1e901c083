"""Prepares training data at the centre: loads, splits and scales a source into ``data/<digest>`` with a manifest.

The digest is that of the manifest, which holds the sha256 of every array: equal input gives the same directory on every machine,
and a node can check what it received. Formats: NumPy .npy version 1.0 and JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import DataRefused, UsageError
from ..plan import DataPlan, ForecastErrors
from .catalog import check_options, find_source
from .csvfile import Check, never_interrupted
from .directory import DataDirectory
from .images import digits
from .prices import sp500
from .remembered import remember, remembered, request_key
from .source import USUAL_COLUMNS, Columns, PreparedData, Request
from .storage import is_intact, sha256, write_directory
from .text import agnews_words

MANIFEST_SCHEMA = 1


class WorkloadLoader(Protocol):
    """Loads a workload's data from a person's CSV file, if there is one; ``data_dir`` keeps downloads, ``check`` may raise."""

    def __call__(self, csv: Path | None, data_dir: Path, columns: Columns = ..., check: Check = ...) -> PreparedData:
        """Raises DataRefused for broken or missing input."""


LOADERS: dict[str, WorkloadLoader] = {
    "digits-cnn": digits.load,
    "sp500-mlp": sp500.load,
    "agnews-small": partial(agnews_words.load, length=128),
    "agnews-large": partial(agnews_words.load, length=256),
}
"""The loader of each workload."""


PREPARATION_STEPS = ("read and counted", "packed", "written")
"""The steps of ``prepare``, for progress."""


def prepare(
    workload: str,
    csv: Path | None,
    data_dir: Path,
    on_step: Callable[[int], None] = lambda steps: None,
    *,
    columns: Columns = USUAL_COLUMNS,
    check: Check = never_interrupted,
    options: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
) -> tuple[DataPlan, Path]:
    """Prepare the data of a workload or a data set in ``data_dir/<digest>``; returns its plan and directory.

    ``on_step`` is called with the number of PREPARATION_STEPS done; ``check`` again and again, and may raise to end it. ``options``
    and ``files`` (or ``csv``) belong to a data set: what it takes instead of its defaults and its place on the hub. An existing
    directory is reused only if every byte is right. Raises UsageError for an unknown name, DataRefused for broken or missing input,
    StorageFailed if writing fails; nothing half-written is left.
    """
    if workload not in LOADERS or _is_npz(workload, csv):
        given, name = (*files, *([] if csv is None else [csv])), "sp500" if workload in LOADERS else workload
        return prepare_dataset(name, given, data_dir, on_step, columns=columns, check=check, options=options or {})
    data = LOADERS[workload](csv, data_dir, columns, check)
    on_step(1)
    files_of = {f"{name}.npy": _npy(array) for name, array in data.arrays.items()}
    manifest = (json.dumps(_manifest(workload, data, files_of), indent=1, sort_keys=True) + "\n").encode()
    digest = sha256(manifest)[:16]
    path = data_dir / digest
    files_of["manifest.json"] = manifest
    on_step(2)
    if not is_intact(path, files_of):
        write_directory(path, files_of)
    on_step(3)
    validation, test = (_baseline_errors(data.baseline, part) for part in ("validation", "test"))
    plan = DataPlan(
        digest,
        data.source,
        data.rows,
        data.sha256,
        baseline_mse=None if validation is None else validation.mse,
        baseline_validation=validation,
        baseline_test=test,
        warnings=data.warnings,
        training_rows=len(data.arrays["train_x"]),
    )
    return plan, path


def _is_npz(workload: str, csv: Path | None) -> bool:
    return workload == "sp500-mlp" and csv is not None and csv.suffix.lower() == ".npz"


def prepare_dataset(
    name: str,
    files: Sequence[Path],
    data_dir: Path,
    on_step: Callable[[int], None] = lambda steps: None,
    *,
    columns: Columns = USUAL_COLUMNS,
    check: Check = never_interrupted,
    options: Mapping[str, Any] | None = None,
) -> tuple[DataPlan, Path]:
    """Prepare a data set by its name or alias, as ``prepare``. Arrays may be larger than memory: they are written as they come."""
    source = find_source(name)
    given = check_options(source, options or {})
    chosen = tuple(files)
    if chosen and not source.formats:
        raise UsageError(f"{source.name} is made by Paceline and takes no file: {chosen[0]}", hint="leave the file out")
    if not chosen and source.formats and (own := data_dir / "sources" / source.name).is_dir():
        chosen = (own,)
    request = Request(data_dir, chosen, given, columns, check)
    key = None
    if source.is_remembered:
        key = _key(source.name, {**given, "columns": str(columns)}, chosen)
        if (known := remembered(data_dir, key)) is not None:
            on_step(len(PREPARATION_STEPS))
            path, record = known
            return _plan_of(path, tuple(record["warnings"])), path
    shard_bytes = int(float(given.get("shard_mb", 0)) * 2**20)
    with DataDirectory(data_dir, shard_bytes, check) as directory:
        facts = dict(source.load(request, directory))
        on_step(1)
        warnings = tuple(facts.pop("warnings", ()))
        check_parts(source.name, directory)
        _, path = directory.finish({"schema": MANIFEST_SCHEMA, "dataset": source.name, "options": given, **facts})
        on_step(2)
    if key is not None:
        remember(data_dir, key, path, warnings)
    on_step(3)
    return _plan_of(path, warnings), path


def check_parts(name: str, directory: DataDirectory) -> None:
    """Raise DataRefused where a part to train on or to judge by is empty, or has not as many targets as inputs."""
    for part in ("train", "validation"):
        inputs, targets = directory.rows(f"{part}_x"), directory.rows(f"{part}_y")
        if inputs != targets:
            raise DataRefused(f"{name}: {inputs} inputs but {targets} targets of {part}")
        if not inputs:
            raise DataRefused(f"{name}: its {part} part is empty", hint="give more rows, or a file for that part")


def _key(name: str, options: Mapping[str, Any], files: Sequence[Path]) -> str:
    try:
        return request_key(name, options, files)
    except OSError as error:
        raise DataRefused(f"{error.filename or files[0]}: {error.strerror}", hint="name a file or a folder that exists") from None


def _plan_of(path: Path, warnings: tuple[str, ...]) -> DataPlan:
    manifest = json.loads((path / "manifest.json").read_text())
    validation, test = (_baseline_errors(manifest.get("baseline"), part) for part in ("validation", "test"))
    rows = sum(facts["shape"][0] for stem, facts in manifest["arrays"].items() if stem.startswith("train_x"))
    return DataPlan(
        path.name,
        manifest["provenance"],
        manifest["rows"],
        manifest["sha256"],
        baseline_mse=None if validation is None else validation.mse,
        baseline_validation=validation,
        baseline_test=test,
        warnings=warnings,
        training_rows=rows,
    )


def _baseline_errors(baseline: Mapping[str, Any] | None, part: str) -> ForecastErrors | None:
    if baseline is None:
        return None
    return ForecastErrors(*(baseline[f"{part}_{name}"] for name in ("mse", "mae", "r2")))


def _npy(array: npt.NDArray[Any]) -> bytes:
    """The array's .npy file as bytes; built in memory, so that a full disk fails in one place."""
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _manifest(workload: str, data: PreparedData, files: dict[str, bytes]) -> dict[str, Any]:
    """The manifest. No dates and no paths: they would change the digest of equal data."""
    return {
        "schema": MANIFEST_SCHEMA,
        "workload": workload,
        "source": data.source,
        "rows": data.rows,
        "sha256": data.sha256,
        "task": data.task,
        "metric": data.metric,
        "arrays": {
            name: {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": sha256(files[f"{name}.npy"])}
            for name, array in data.arrays.items()
        },
        "split": data.split,
        "scaler": data.scaler,
        "baseline": data.baseline,
        "versions": data.versions,
    }
