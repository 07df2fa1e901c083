"""Writes a prepared data set to a person's directory, as NPZ or as .npy files, and looks at one: the verb ``data``."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataRefused, UsageError
from ..protocol.private_files import make_directory, write_bytes
from ..workloads.datasets import DATASETS
from .catalog import find_source
from .csvfile import Check, never_interrupted
from .directory import file_sha256, is_whole
from .npz import write_npz
from .preparation import prepare_dataset
from .source import USUAL_COLUMNS, Columns
from .storage import translated_errors

EXPORT_FORMATS = ("npz", "npy")


def data_document(
    name: str | None,
    files: Sequence[Path],
    data_dir: Path,
    options: Mapping[str, Any],
    *,
    columns: Columns = USUAL_COLUMNS,
    out: Path | None = None,
    form: str | None = None,
    check: Check = never_interrupted,
) -> dict[str, Any]:
    """Prepare a data set, or look at a prepared directory, and write it to ``out`` if that is given; returns the verb's document.

    ``name``: of a data set, or a directory with a manifest; None: list all data sets. ``form``: of EXPORT_FORMATS; None: NPZ for
    series in one piece, else .npy. Raises UsageError, DataRefused, StorageFailed.
    """
    if name is None:
        return {**_EMPTY, "datasets": [_listed(one) for one in DATASETS]}
    began = time.monotonic()
    warnings: tuple[str, ...] = ()
    if (Path(name) / "manifest.json").is_file():
        if files or options:
            raise UsageError(
                f"{name} is prepared already: it takes no file and no option but --out", hint="name a data set to prepare one"
            )
        path = Path(name)
        if not is_whole(path, check=check):
            raise DataRefused(f"{path}: a file is missing or not as its manifest says", hint="prepare the data again")
    else:
        plan, path = prepare_dataset(name, files, data_dir, columns=columns, check=check, options=options)
        warnings = plan.warnings
    written = export(path, out, form, check) if out is not None else []
    manifest = read_manifest(path)
    return {
        **_EMPTY,
        "name": str(manifest.get("dataset") or manifest.get("workload")),
        "kind": manifest.get("kind"),
        "source": manifest.get("source"),
        "path": manifest.get("path"),
        "provenance": manifest.get("provenance") or manifest.get("source"),
        "rows": manifest.get("rows"),
        "sha256": manifest.get("sha256"),
        "digest": path.name,
        "directory": str(path),
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
        "arrays": [
            {"name": stem, "shape": facts["shape"], "dtype": facts["dtype"]} for stem, facts in sorted(manifest["arrays"].items())
        ],
        "options": [{"name": option, "value": value} for option, value in sorted(manifest.get("options", {}).items())],
        "warnings": list(warnings),
        "written": [str(file) for file in written],
        "seconds": round(time.monotonic() - began, 3),
    }


_EMPTY: dict[str, Any] = {
    "schema": 1,
    "type": "data",
    **dict.fromkeys(("name", "kind", "source", "path", "provenance", "rows", "sha256", "digest", "directory", "bytes", "seconds")),
    **{field: [] for field in ("arrays", "options", "warnings", "written", "datasets")},
}


def _listed(name: str) -> dict[str, Any]:
    source, known = find_source(name), DATASETS[name]
    return {
        "name": name,
        "title": known.title,
        "kind": known.kind,
        "origin": source.origin or (f"hub {source.hub}" if source.hub else "a seed" if known.is_generated else "a file of yours"),
        "files": source.formats or None,
        "options": list(source.options),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared directory. Raises DataRefused."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays"), dict):
            raise ValueError("no manifest of prepared data")
    except (OSError, ValueError) as error:
        raise DataRefused(f"cannot read {path / 'manifest.json'}: {error}", hint="prepare the data again") from None
    return manifest


def export(path: Path, out: Path, form: str | None = None, check: Check = never_interrupted) -> list[Path]:
    """Write prepared data to a new or empty directory, or over data that were exported before; complete or not at all.

    Returns its files. Raises UsageError where ``out`` holds something else, StorageFailed.
    """
    manifest = read_manifest(path)
    is_sharded = "train_x" not in manifest["arrays"]
    if form is None:
        form = "npz" if manifest.get("kind") == "series" and not is_sharded else "npy"
    if form not in EXPORT_FORMATS:
        raise UsageError(f"unknown format {form!r}", hint=f"one of {', '.join(EXPORT_FORMATS)}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="name a directory")
    if out.exists() and any(out.iterdir()) and not (out / "manifest.json").is_file():
        raise UsageError(f"{out} holds other files", hint="name a new or empty directory")
    with translated_errors(out):
        make_directory(out.absolute().parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
        try:
            new = temporary / "new"
            new.mkdir()
            if form == "npz":
                _fill_npz(path, new, manifest, check)
            else:
                for file in sorted(path.iterdir()):
                    check()
                    _link_or_copy(file, new / file.name)
            if out.exists():
                out.rename(temporary / "old")
            new.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return sorted(out.iterdir())


def _fill_npz(path: Path, new: Path, manifest: dict[str, Any], check: Check) -> None:
    target = new / f"{manifest.get('dataset') or manifest.get('workload')}.npz"
    scaler = manifest.get("scaler") or {}
    write_npz(path, target, {name: scaler[name] for name in ("minimum", "maximum") if name in scaler}, check)
    told = manifest | {"arrays": {}, "npz": manifest["arrays"], "files": {target.name: file_sha256(target, check)}}
    write_bytes(new / "manifest.json", (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file where the file system can, else a copy. Prepared files are never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
