"""The verb ``resume``: a new run from the newest sound checkpoint of an ended one, wherever a copy of it is left."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import PacelineError, StorageFailed, UsageError, WorkFailed
from ...events import Warned
from ...protocol.checkpoints import CHECKPOINT_DIR, RESUME_FILE, CheckpointInfo, digest_of_file, list_checkpoints, read_info
from ...protocol.json_files import read_json
from ...protocol.private_files import make_directory
from ...reports.document_type import Document
from ...specs import ResumeSpec, TrainSpec
from ...ssh.fleet import Fleet
from ...states import ENDED_STATUSES
from ...telemetry.bus import Publish
from ...wire import from_plain
from ...workloads import WORKLOADS
from ..files.fetch import fetch
from ..gather import gather_answers
from ..retry import call_with_retry
from ..scripts.carry import carry_files

RESUME_PATIENCE_S = 10.0
"""Seconds to wait for a node that is asked for its checkpoints."""
COPIES_DIR = "files"
"""Directory of a run here that holds what was fetched from its nodes."""


async def prepare_resume(
    row: Document,
    fleet: Fleet,
    *,
    connected: Sequence[str],
    runs: Path,
    packed: Path,
    publish: Publish,
    epochs: int | None = None,
) -> TrainSpec:
    """The job of an ended run (a row of ``list_runs``), to go on from its newest sound checkpoint.

    The checkpoint is brought to ``packed/<its SHA-256>`` here. A script that left none begins again with the files that it had
    written: it may go on from them by itself. ``epochs``: how many it is to have trained in all; None: as before. Raises UsageError
    where the run is not over or has trained all epochs, or where no checkpoint can be had.
    """
    run_id = row["run_id"]
    if row["state"] not in ENDED_STATUSES:
        raise UsageError(f"run {run_id} is {row['state']}: only an ended run is resumed", hint=f"paceline cancel {run_id}")
    nodes = [name for name in row["nodes"] if name in connected]
    spec = await _read_spec(run_id, nodes, fleet, runs)
    if spec.is_bench:
        raise UsageError(f"run {run_id} is a bench, which writes no checkpoints", hint="start it again")
    here = runs / run_id / COPIES_DIR
    answers, _ = await gather_answers({name: _ask(fleet, name, run_id) for name in nodes})
    places: list[tuple[CheckpointInfo, str | None]] = [(info, name) for name, infos in answers.items() for info in infos]
    places += [(info, None) for info in list_local(here)]
    for info, node in sorted(places, key=lambda place: (place[0].step, place[1] is None), reverse=True):
        path = await _bring(row, info, node, here, fleet, publish)
        if path is not None:
            resume = ResumeSpec(run_id=run_id, epoch=info.epoch, step=info.step, digest=info.sha256)
            refuse_trained(resume, spec if epochs is None else replace(spec, epochs=epochs))
            await asyncio.to_thread(pack_checkpoint, path, info.sha256, packed)
            return replace(spec, resume=resume, devices="all" if spec.devices == "auto" else spec.devices)
    missing = [name for name in row["nodes"] if name not in answers]
    if spec.script is not None and not missing:
        carried = await carry_files(row, packed.parent / "carried" / run_id, here, fleet, publish)
        return replace(spec, script=replace(spec.script, carried=str(carried or "")), resume=None)
    hint = (
        f"out of reach: {', '.join(missing)}; try again when they are back" if missing else "it ended before its first checkpoint"
    )
    raise UsageError(f"run {run_id} left no sound checkpoint", hint=hint)


def resume_from_file(path: Path, packed: Path) -> ResumeSpec:
    """A checkpoint that a person names, packed as ``prepare_resume`` does. Raises UsageError where it cannot be read."""
    try:
        _, sha256 = digest_of_file(path)
    except OSError as error:
        raise UsageError(f"--resume-from {path}: {error.strerror or error}") from None
    pack_checkpoint(path, sha256, packed)
    info = read_info(path.parent, path.with_suffix(".json").name)
    known = info if info is not None and info.sha256 == sha256 else None
    return ResumeSpec(run_id="", epoch=known.epoch if known else 0, step=known.step if known else 0, digest=sha256)


def refuse_trained(resume: ResumeSpec, spec: TrainSpec) -> None:
    """Raise UsageError where a checkpoint has trained all epochs of a job: nothing would be left to do. Of a script they are its
    own."""
    epochs = spec.epochs or (WORKLOADS[spec.workload].epochs if spec.workload in WORKLOADS else None)
    if spec.script is None and epochs is not None and resume.epoch >= epochs:
        what = f"run {resume.run_id}" if resume.run_id else "the checkpoint"
        reason = f"{what} has trained {resume.epoch} epochs of {epochs}: none is left"
        raise UsageError(reason, hint=f"--epochs {resume.epoch + epochs} trains as many again")


def pack_checkpoint(path: Path, sha256: str, packed: Path) -> Path:
    """Copy a checkpoint to ``packed/<sha256>``, as the nodes will hold it: complete or absent. Raises StorageFailed."""
    directory = packed / sha256
    if (directory / RESUME_FILE).exists():
        return directory
    aside = packed / f".{sha256}.{os.getpid()}"
    try:
        make_directory(aside)
        shutil.copyfile(path, aside / RESUME_FILE)
        os.rename(aside, directory)
    except OSError as error:
        if not (directory / RESUME_FILE).exists():  # otherwise another process was first
            raise StorageFailed(f"cannot write {directory}: {error.strerror or error}", hint="free space there") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return directory


def list_local(here: Path) -> list[CheckpointInfo]:
    """Checkpoints among the fetched files of a run."""
    return [info for node in sorted(here.glob(f"*/{CHECKPOINT_DIR}")) for info in list_checkpoints(node)]


async def _ask(fleet: Fleet, node: str, run_id: str) -> list[CheckpointInfo]:
    """The checkpoints that a node names. Raises WorkFailed where its answer is none."""
    answer = await call_with_retry(fleet, node, "list_checkpoints", RESUME_PATIENCE_S, run_id=run_id)
    try:
        infos = [from_plain(CheckpointInfo, entry) for entry in answer["checkpoints"]]
    except (KeyError, TypeError, ValueError) as error:
        raise WorkFailed(f"its list of checkpoints cannot be read: {error}", node=node) from None
    return [info for info in infos if info.is_well_named]


async def _bring(row: Document, info: CheckpointInfo, node: str | None, here: Path, fleet: Fleet, publish: Publish) -> Path | None:
    """The path of a whole copy here; None, with a warning, where this copy cannot be had or is spoilt."""
    name = f"{CHECKPOINT_DIR}/{info.name}"
    if node is not None:
        try:
            await fetch({**row, "nodes": [node]}, [name], here, fleet, connected=[node], publish=publish)
        except PacelineError as error:
            publish(Warned(reason=f"checkpoint {info.name} of {node} could not be fetched: {error}"))
            return None
    for path in here.glob(f"{node or '*'}/{name}"):
        with contextlib.suppress(OSError):
            if await asyncio.to_thread(digest_of_file, path) == (info.size, info.sha256):
                return path
    publish(Warned(reason=f"checkpoint {info.name} of {node or 'this machine'} is spoilt: an older one is tried"))
    return None


async def _read_spec(run_id: str, nodes: Sequence[str], fleet: Fleet, runs: Path) -> TrainSpec:
    """The job of a run, from a copy here, else from a node. Raises UsageError where nobody has it."""
    for path in sorted((runs / run_id).glob("nodes/*/spec.json")):
        if (spec := _spec(read_json(path))) is not None:
            return spec
    for node in nodes:
        with contextlib.suppress(PacelineError, ValueError):
            answer = await call_with_retry(fleet, node, "read_file", RESUME_PATIENCE_S, run_id=run_id, name="spec.json", offset=0)
            if (spec := _spec(json.loads(base64.b64decode(str(answer.get("data")))))) is not None:
                return spec
    raise UsageError(f"no copy of the job of run {run_id} can be read", hint="is a node of it connected?")


def _spec(document: Any) -> TrainSpec | None:
    try:
        return from_plain(TrainSpec, document)
    except (TypeError, ValueError, PacelineError):
        return None
