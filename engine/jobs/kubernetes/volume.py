"""The files of a cluster's volume, through a small pod that serves them (``engine/agent/pod/volume.py``)."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ... import errors
from ...errors import NodeUnreachable, PacelineError, WorkFailed
from ...kubernetes.names import MANAGED_BY, VOLUME_POD
from ...kubernetes.pod_template import GRACE_SECONDS, VOLUME_PATH, ClusterSettings, Object, container_security, pod_security
from ...ssh.bundle import bundle
from .client import ClusterApi
from .pod_states import view

POD_SECONDS = 6 * 3600
"""Seconds after which the pod ends by itself; the next request makes another."""
POD_START_TIMEOUT_S = 300.0
VOLUME_TIMEOUT_S = 60.0
PIECE_BYTES = 1 << 16
_RECEIVE_BUNDLE = (
    "import os,sys;p=sys.argv[1];n=int(sys.argv[2]);os.makedirs(os.path.dirname(p),exist_ok=True);"
    "b=sys.stdin.buffer.read(n);f=open(p+'.part','wb');f.write(b);f.close();os.rename(p+'.part',p);print('stored',flush=True)"
)
"""A first program for a pod that has none of ours."""


def volume_pod(settings: ClusterSettings) -> Object:
    """The pod that serves the volume."""
    container = {
        "name": "volume",
        "image": settings.image,
        "command": ["python3", "-c", f"import time; time.sleep({POD_SECONDS})"],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "volume", "mountPath": VOLUME_PATH}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "activeDeadlineSeconds": POD_SECONDS,
        "terminationGracePeriodSeconds": min(5, GRACE_SECONDS),
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": settings.claim}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }

    metadata = {"name": VOLUME_POD, "namespace": settings.namespace, "labels": dict(MANAGED_BY)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class VolumeFiles:
    """Requests to the volume's pod over one command in it, which is started again when it is cut off."""

    def __init__(self, api: ClusterApi, settings: ClusterSettings, pause: Callable[[float], None] = time.sleep) -> None:
        self._api, self._settings, self._pause = api, settings, pause
        self._streams: Any = None
        self._lock = threading.Lock()
        """Held from a request to its answer: those who follow, list and cancel share the command."""

    def open(self) -> None:
        """Have the pod run and our modules on the volume. Raises WorkFailed where it cannot start, NodeUnreachable."""
        waited = 0.0
        while True:
            pod = self._api.get(f"/api/v1/namespaces/{self._api.namespace}/pods/{VOLUME_POD}")
            phase = ((pod or {}).get("status") or {}).get("phase")
            if pod is None:
                self._api.create(volume_pod(self._settings))
            elif phase == "Running":
                break
            elif phase in ("Succeeded", "Failed"):
                self._api.delete("Pod", VOLUME_POD)
            elif (shown := view({}, [pod], 1)).state == "failed":
                self._api.delete("Pod", VOLUME_POD)
                raise WorkFailed(shown.reason, node=self._api.cluster, hint=shown.hint)
            if waited >= POD_START_TIMEOUT_S:
                reason = view({}, [pod] if pod else [], 1).reason
                raise WorkFailed(f"pod {VOLUME_POD} does not start: {reason}", node=self._api.cluster, hint="kubectl describe pod")
            self._pause(0.5)
            waited += 0.5
        own = bundle()
        path = f"{VOLUME_PATH}/bundles/{own.name}"
        if not self._run(["test", "-s", path], b"", ""):
            command = ["python3", "-c", _RECEIVE_BUNDLE, path, str(len(own.data))]
            if not self._run(command, own.data, "stored"):
                raise WorkFailed("our modules cannot be written to the volume", node=self._api.cluster, hint="is it read-only?")

    def close(self) -> None:
        """End the command; the pod stays for the next one."""
        if self._streams is not None:
            self._streams.close()
            self._streams = None

    def remove_pod(self) -> None:
        """End the pod, too."""
        self.close()
        self._api.delete("Pod", VOLUME_POD)

    def ask(self, word: str, **body: Any) -> dict[str, Any]:
        """Ask, over a new command where the old one is cut off. Raises the error of the pod, NodeUnreachable."""
        for _ in range(3):
            with self._lock:
                answer = self._try({"ask": word, **body})
            if answer is not None:
                return answer
            self._pause(0.5)
        raise NodeUnreachable(f"pod {VOLUME_POD} does not answer", node=self._api.cluster, hint="the run is not touched")

    def put_directory(self, source: Path, path: str, on_bytes: Callable[[int], None] = lambda count: None) -> bool:
        """Store a directory, unless it is there; ``on_bytes`` gets the number of each piece. False: it was there."""
        if self.ask("has", paths=[path])["present"]:
            return False
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                for file in sorted(source.rglob("*")):
                    if file.is_file() or file.is_dir():
                        archive.add(file, file.relative_to(source).as_posix(), recursive=False)
            size = packed.tell()
            packed.seek(0)
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
            for attempt in range(3):
                packed.seek(0)
                with self._lock:
                    answer = self._try({"ask": "put", "path": path, "bytes": size, "sha256": digest}, packed, on_bytes)
                if answer is not None:
                    return True
                self._pause(0.5 * (attempt + 1))
        raise NodeUnreachable(f"{path} cannot be brought to the volume", node=self._api.cluster, hint="try again")

    def _try(
        self, request: dict[str, Any], content: BinaryIO | None = None, on_bytes: Callable[[int], None] = lambda count: None
    ) -> dict[str, Any] | None:
        """One attempt; None: it was cut off. Raises the error that the pod answers."""
        try:
            if self._streams is None:
                path = f"PYTHONPATH={VOLUME_PATH}/bundles/{bundle().name}"
                module = ["python3", "-m", "paceline.engine.agent.pod.volume", VOLUME_PATH]
                self._streams = self._api.execute(VOLUME_POD, ["env", path, *module])
            self._streams.write_stdin(json.dumps(request).encode() + b"\n")
            while content is not None and (piece := content.read(PIECE_BYTES)):
                self._streams.write_stdin(piece)
                on_bytes(len(piece))
            line = self._streams.readline_stdout(timeout=VOLUME_TIMEOUT_S)
            answer: dict[str, Any] = json.loads(line)
        except PacelineError:
            raise
        except Exception:  # the websocket has errors of its own; whichever it is, the command is started again
            self.close()
            return None
        if "error" in answer:
            kind = getattr(errors, str(answer.get("type")), WorkFailed)
            raise kind(str(answer["error"]), node=self._api.cluster, hint=answer.get("hint"))
        return answer

    def _run(self, command: list[str], content: bytes, expected: str) -> bool:
        """Run a command to its end; whether it succeeded, and printed ``expected`` where that is given. Raises NodeUnreachable."""
        for attempt in range(3):
            try:
                return self._run_once(command, content, expected)
            except NodeUnreachable:
                if attempt == 2:
                    raise
            self._pause(0.5)
        return False

    def _run_once(self, command: list[str], content: bytes, expected: str) -> bool:
        streams = self._api.execute(VOLUME_POD, command)
        try:
            for start in range(0, len(content), PIECE_BYTES):
                streams.write_stdin(content[start : start + PIECE_BYTES])
            if expected:
                line = streams.readline_stdout(timeout=VOLUME_TIMEOUT_S) or streams.read_stdout()  # it may have ended meanwhile
                return bool(line.decode().strip() == expected)
            streams.run_forever(timeout=VOLUME_TIMEOUT_S)
            return bool(streams.returncode == 0)
        except (TypeError, OSError, ValueError) as error:  # cut off before its status
            raise NodeUnreachable(f"a command in pod {VOLUME_POD} was cut off", node=self._api.cluster) from error
        finally:
            streams.close()
