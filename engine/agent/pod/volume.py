"""Serves the files of a cluster's volume to the centre: ``python -m paceline.engine.agent.pod.volume VOLUME``, in a pod of its own.

Each line of standard input is a request as JSON, each line of standard output its answer. Bytes follow a request that names their
number. Runs are only read; data and bundles are written aside and renamed, so that a directory is whole or not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ...errors import PacelineError, UsageError
from ...protocol.json_files import read_json, storage_failed, write_json
from ...protocol.regular_files import is_regular, open_regular
from ..runs.tail import followed_files

MAX_ANSWER_BYTES = 1 << 20
"""Bytes of files in one answer."""
PIECE_BYTES = 1 << 16
WORDS = ("has", "put", "changes", "runs", "settle", "forget")
"""Requests, each a method of ``Volume``."""


class Volume:
    """The requests that a centre may send."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Which of these paths there are."""
        return {"present": [path for path in request["paths"] if self._path(path).exists()]}

    def put(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Store the tar archive that follows as a directory, or with ``is_file`` the bytes themselves as a file."""
        path, size, digest = self._path(request["path"]), int(request["bytes"]), hashlib.sha256()
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            packed = aside.with_name(f"{aside.name}.tar")
            with open(os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                while size > 0 and (piece := content.read(min(size, PIECE_BYTES))):
                    digest.update(piece)
                    size -= file.write(piece)
            if size or digest.hexdigest() != request["sha256"]:
                raise UsageError("the bytes that arrived are not those that were sent", hint="try again")
            if not request.get("is_file"):
                aside.mkdir(mode=0o700)
                with tarfile.open(packed) as archive:
                    _extract(archive, aside)
                packed.unlink()
                packed = aside
            if not path.exists():
                packed.rename(path)
        except OSError as error:
            raise storage_failed(path, error) from None
        finally:
            aside.with_name(f"{aside.name}.tar").unlink(missing_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
        return {"stored": request["path"]}

    def changes(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Bytes of a run's files after ``offsets`` (by ``node/file``), and sums of the nodes that are copied and have ended."""
        chunks, left, ended, offsets = [], MAX_ANSWER_BYTES, {}, request["offsets"]
        for node in request["nodes"]:
            run = self._path(f"nodes/{node}/runs/{request['run_id']}")
            has_ended = is_regular(run / "exit.json")  # before its files are listed: then they are whole
            is_copied = True
            for name in sorted(followed_files(run), key=lambda name: name == "exit.json") if run.is_dir() else ():
                offset = int(offsets.get(f"{node}/{name}", 0))
                with open_regular(run / name, is_link_followed=False) as file:
                    size = os.fstat(file.fileno()).st_size
                    file.seek(offset)
                    data = file.read(min(left, size - offset)) if left > 0 and size > offset else b""
                if data:
                    chunks.append({"node": node, "file": name, "offset": offset, "data": base64.b64encode(data).decode()})
                    left -= len(data)
                is_copied = is_copied and offset >= size
            if has_ended and is_copied:
                ended[node] = {name: _sum(run / name) for name in followed_files(run)}
        return {"chunks": chunks, "ended": ended, "time": time.time()}

    def runs(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Every run of the volume with its spec, its nodes, its first start and its ends."""
        found: dict[str, dict[str, Any]] = {}
        for run in sorted(self._root.glob("nodes/*/runs/*")):
            plan = read_json(run / "plan.json")
            if plan is None:
                continue
            new = {"run_id": run.name, "spec": read_json(run / "spec.json") or {}, "exits": {}, "started": None}
            row = found.setdefault(run.name, new)
            row["nodes"] = [node.get("name") for node in plan.get("nodes", ())]
            row["exits"][run.parents[1].name] = read_json(run / "exit.json")
            start = (read_json(run / "start.json") or {}).get("wall_time")
            if isinstance(start, float):
                row["started"] = min(start, row["started"] or start)
        return {"runs": list(found.values())}

    def settle(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Write exit.json for every node of a run that did not come to it, as no pod of it is left."""
        for node in request["nodes"]:
            run = self._path(f"nodes/{node}/runs/{request['run_id']}")
            run.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (run / "plan.json").exists():
                write_json(run / "plan.json", request["plan"])
            if not (run / "exit.json").exists():
                write_json(run / "exit.json", request["exit"])
        return {}

    def forget(self, request: dict[str, Any], content: BinaryIO) -> dict[str, Any]:
        """Remove how the pods of a run found each other."""
        shutil.rmtree(self._path(f"places/{request['run_id']}"), ignore_errors=True)
        return {}

    def _path(self, text: str) -> Path:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise UsageError(f"{text!r} is not below the volume")
        return self._root / path


def _extract(archive: tarfile.TarFile, directory: Path) -> None:
    """Extract plain files and directories; anything else would reach outside."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise UsageError(f"the archive has an entry {member.name!r}")
        target = directory / path
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            continue
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = archive.extractfile(member)
        assert source is not None
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if member.mode & 0o100 else 0o600), "wb") as file:
            shutil.copyfileobj(source, file)


def _sum(path: Path) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    with open_regular(path, is_link_followed=False) as file:
        while data := file.read(PIECE_BYTES):
            digest.update(data)
            length += len(data)
    return {"length": length, "sha256": digest.hexdigest()}


def serve(root: Path, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until their stream ends. An error is an answer, too."""
    os.umask(0o077)
    volume = Volume(root)
    while line := requests.readline():
        try:
            request = json.loads(line)
            if request["ask"] not in WORDS:
                raise UsageError(f"the volume knows no request {request['ask']!r}")
            answer = getattr(volume, request["ask"])(request, requests)
        except PacelineError as error:
            answer = {"error": error.reason, "hint": error.hint, "type": type(error).__name__}
        except (OSError, ValueError, LookupError, TypeError, tarfile.TarError) as error:
            answer = {"error": f"{type(error).__name__}: {error}", "hint": None, "type": "WorkFailed"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
