"""The journal of an experiment: its plan, written once, and one line a fact. It can be cut anywhere and read again.

See docs/design/experiments.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StorageFailed, UsageError
from ..protocol.json_files import read_json, storage_failed, write_json
from ..protocol.private_files import make_directory
from ..protocol.regular_files import read_regular
from ..reports.document_type import Document
from ..wire import dumps

PLAN_FILE = "experiment.json"
ROWS_FILE = "rows.jsonl"
SCHEMA = 1


@dataclass(slots=True)
class Journal:
    """One experiment in its directory. Make one with ``begin`` or ``resume``."""

    directory: Path
    kind: str
    plan: Document
    """Whatever determines the cases and their order, seed included."""
    run_ids: dict[int, str] = field(default_factory=dict)
    """The newest run of each case that has begun."""
    rows: dict[int, Document] = field(default_factory=dict)
    """What came of each case that is over."""
    asked: dict[int, Document] = field(default_factory=dict)
    """Cases that the plan does not name, because they follow from the rows of others."""

    @property
    def name(self) -> str:
        """Name of the experiment: that of its directory."""
        return self.directory.name

    def note_run(self, case: int, run_id: str) -> None:
        """Note the run of a case as soon as it has an id. Raises StorageFailed."""
        if self.run_ids.get(case) != run_id:
            self.run_ids[case] = run_id
            self._append({"case": case, "run_id": run_id})

    def note_row(self, case: int, row: Document) -> None:
        """Note what came of a case. Raises StorageFailed."""
        self.rows[case] = row
        self._append({"case": case, "row": row})

    def note_asked(self, case: int, asked: Document) -> None:
        """Note a case that is to be run, before it is. Raises StorageFailed."""
        self.asked[case] = asked
        self._append({"case": case, "asked": asked})

    def _append(self, fact: Mapping[str, Any]) -> None:
        path = self.directory / ROWS_FILE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                data = dumps(fact).encode() + b"\n"
                if _is_torn(path):  # the line before was cut: it must not swallow this one
                    data = b"\n" + data
                while data:
                    data = data[os.write(handle, data) :]
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise storage_failed(path, error) from None


def begin(directory: Path, kind: str, plan: Document) -> Journal:
    """Begin an experiment, or go on with the one of that name if it has the same plan. Raises UsageError where it has another."""
    if (directory / PLAN_FILE).exists():
        journal = resume(directory, kind)
        if journal.plan != json.loads(dumps(plan)):
            raise UsageError(
                f"the experiment {directory.name} has another plan: {', '.join(_differences(journal.plan, plan))} differ",
                hint="choose another --name, or go on with it as it is: --resume " + directory.name,
            )
        return journal
    try:
        make_directory(directory)
    except OSError as error:
        raise storage_failed(directory, error) from None
    write_json(directory / PLAN_FILE, {"schema": SCHEMA, "kind": kind, "digest": digest_of(kind, plan), "plan": plan})
    return Journal(directory, kind, json.loads(dumps(plan)))


def resume(directory: Path, kind: str) -> Journal:
    """Read an experiment that has begun. Raises UsageError where there is none of that kind, StorageFailed where it is damaged."""
    head = read_json(directory / PLAN_FILE)
    if head is None:
        known = sorted(path.parent.name for path in directory.parent.glob(f"*/{PLAN_FILE}"))
        raise UsageError(
            f"there is no experiment {directory.name}", hint=f"known: {', '.join(known)}" if known else "none has been begun here"
        )
    plan = head.get("plan")
    if head.get("kind") != kind:
        raise UsageError(f"{directory.name} is an experiment of {head.get('kind')}, not of {kind}")
    if not isinstance(plan, dict) or head.get("digest") != digest_of(kind, plan):
        raise StorageFailed(
            f"{directory / PLAN_FILE} was changed: its digest does not fit its plan", hint="begin again under another --name"
        )
    journal = Journal(directory, kind, plan)
    _read_facts(journal)
    return journal


def digest_of(kind: str, plan: Document) -> str:
    """SHA-256 of what the experiment is; the same for the same plan on every machine."""
    return hashlib.sha256(json.dumps([kind, json.loads(dumps(plan))], sort_keys=True).encode()).hexdigest()


def _read_facts(journal: Journal) -> None:
    path = journal.directory / ROWS_FILE
    try:
        lines = read_regular(path).splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageFailed(f"cannot read {path}: {error.strerror or error}") from None
    for line in lines:
        try:
            fact = json.loads(line)
            case = fact["case"]
        except (ValueError, KeyError, TypeError):
            continue  # cut in mid-write: that case is run or attached to again
        if isinstance(fact.get("run_id"), str):
            journal.run_ids[case] = fact["run_id"]
        if isinstance(fact.get("row"), dict):
            journal.rows[case] = fact["row"]
        if isinstance(fact.get("asked"), dict):
            journal.asked[case] = fact["asked"]


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _differences(begun: Document, asked: Document) -> list[str]:
    return [name for name in sorted(begun.keys() | asked.keys()) if begun.get(name) != json.loads(dumps(asked)).get(name)]
