"""An API server that keeps objects in memory, plays operators and kubelets with processes of this machine, and fails as told.

HTTP/1.1 by hand on a socket of the kernel's choice: a fault may end an answer in the middle of a line, or say nothing for a while.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import selectors
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.clusters.pods import mount, pods_of

Object = dict[str, Any]
JOB_PLURALS = ("jobsets", "trainjobs", "jobs", "pytorchjobs")


@dataclass
class Fault:
    """What happens to requests that match, so many times."""

    matches: Callable[[str, str], bool]
    """Called with the method and the path with its query."""
    status: int = 0
    """Answered instead; 0: see the kind."""
    kind: str = ""
    """``cut`` the answer, ``close`` without one, ``late``: do it and close without one, ``drip``: in pieces."""
    count: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "as the test says"
    seen: int = 0


class FakeApi:
    """One cluster. Pods of jobs run as processes when ``is_running``; else they stay as the test sets them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.created: list[str] = []
        self.faults: list[Fault] = []
        self.missing_kinds: set[str] = set()
        self.is_running = False
        self.volume = place / "volume"
        self.volume.mkdir(parents=True)
        self._version = 100
        self._history: list[Object] = []
        self._forgotten = 0
        self._changed = threading.Condition()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_open = True
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all processes and connections."""
        self._is_open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            self._changed.notify_all()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            process.wait(30)

    def kubeconfig(self) -> Path:
        """A kubeconfig with this cluster."""
        path = self.place / "kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(json.dumps(document))
        return path

    def fail(self, method: str, pattern: str, **fault: Any) -> Fault:
        """Add a fault for requests of a method whose path matches."""
        one = Fault(lambda m, path: m == method and re.search(pattern, path) is not None, **fault)
        self.faults.append(one)
        return one

    def forget(self) -> None:
        """Watches from versions of before are answered 410."""
        with self._changed:
            self._forgotten = self._version
            self._version += 1
            self._changed.notify_all()

    def set_pod(self, name: str, status: Object, labels: dict[str, str] | None = None) -> None:
        """Make or change a pod of the namespace ``paceline``."""
        path = f"/api/v1/namespaces/paceline/pods/{name}"
        with self._changed:
            old = self.objects.get(path, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}})
            self._store(path, {**old, "status": status})

    def set_job(self, condition: str, message: str = "") -> None:
        """Set a condition of the one job."""
        with self._changed:
            path = next(path for path in self.objects if path.split("/")[-2] in JOB_PLURALS)
            status = {"conditions": [{"type": condition, "status": "True", "message": message}]}
            self._store(path, {**self.objects[path], "status": status})

    def names(self, plural: str) -> list[str]:
        """Names of the objects of a kind."""
        return [path.split("/")[-1] for path in self.objects if path.split("/")[-2] == plural]

    def _store(self, path: str, one: Object, change: str = "") -> None:
        """With the lock held: store an object and tell the watches."""
        self._version += 1
        change = change or ("MODIFIED" if path in self.objects else "ADDED")
        one = {**one, "metadata": {**one["metadata"], "resourceVersion": str(self._version)}}
        if change == "DELETED":
            self.objects.pop(path, None)
        else:
            self.objects[path] = one
        self._history.append({"path": path, "version": self._version, "event": {"type": change, "object": one}})
        self._changed.notify_all()

    def _accept(self) -> None:
        while self._is_open:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            reader = connection.makefile("rb")
            while self._is_open and (first := reader.readline()):
                method, target, _ = first.decode().split(" ")
                headers = {}
                while line := reader.readline().strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = reader.read(int(headers.get("content-length", 0)))
                self.requests.append((method, target))
                if not self._answer(connection, method, target, headers, body):
                    return

    def _fault(self, method: str, target: str) -> Fault | None:
        for fault in self.faults:
            if fault.seen < fault.count and fault.matches(method, target):
                fault.seen += 1
                return fault
        return None

    def _answer(self, connection: socket.socket, method: str, target: str, headers: dict[str, str], body: bytes) -> bool:
        """Answer one request; whether the connection stays."""
        fault = self._fault(method, target)
        if fault is not None and fault.kind == "close":
            return False
        if fault is not None and fault.status:
            reason = {403: "Forbidden", 409: "Conflict", 422: "Invalid"}.get(fault.status, "Error")
            refused = {"kind": "Status", "message": fault.message, "reason": reason, "code": fault.status}
            _send(connection, fault.status, refused, fault.headers)
            return True
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if headers.get("upgrade", "").lower() == "websocket":
            self._execute(connection, url.path, parse_qs(url.query), headers)
            return False
        if query.get("watch") == "1":
            self._watch(connection, url.path, query, fault)
            return False
        status, answer = self._do(method, url.path, query, body)
        if fault is not None and fault.kind == "late":
            return False
        if fault is not None and fault.kind == "cut":
            content = json.dumps(answer).encode()
            connection.sendall(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            )
            connection.sendall(content[: len(content) // 2])
            return False
        _send(connection, status, answer, {}, is_dripping=fault is not None and fault.kind == "drip")
        return True

    def _do(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Object]:
        plural = path.split("/")[-1] if path.split("/")[-1] in _PLURALS else path.split("/")[-2]
        if plural in self.missing_kinds:
            return 404, {"kind": "Status", "message": "404 page not found", "code": 404}
        with self._changed:
            if method == "POST":
                one = json.loads(body)
                place = f"{path}/{one['metadata']['name']}"
                namespace = re.match(r"/api[^ ]*/namespaces/([^/]+)/", place)
                if namespace is not None and f"/api/v1/namespaces/{namespace[1]}" not in self.objects:
                    return 404, {"kind": "Status", "message": f'namespaces "{namespace[1]}" not found', "code": 404}
                if place in self.objects:
                    return 409, {"kind": "Status", "message": "already exists", "reason": "AlreadyExists", "code": 409}
                self.created.append(place)
                self._store(place, one)
                self._start(place, one)
                return 201, self.objects[place]
            if method == "GET" and path.split("/")[-1] in _PLURALS:
                items = [one for at, one in self.objects.items() if at.rpartition("/")[0] == path and _is_selected(one, query)]
                return 200, {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}
            if path not in self.objects:
                return 404, {"kind": "Status", "message": f"{plural} not found", "code": 404}
            one = self.objects[path]
            if method == "DELETE":
                self._remove(path)
                return 200, {"kind": "Status", "status": "Success"}
            return 200, one

    def _remove(self, path: str) -> None:
        """With the lock held: remove an object; of a job its pods end as a kubelet ends them, and go when they have."""
        name = path.split("/")[-1]
        process = self._processes.get(":".join(name.rsplit("-", 1))) if path.split("/")[-2] == "pods" else None
        if process is not None and process.poll() is None:
            process.terminate()
            metadata = {**self.objects[path]["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            self._store(path, {**self.objects[path], "metadata": metadata})
            return
        self._store(path, self.objects[path], "DELETED")
        for key, process in self._processes.items():
            if key.startswith(f"{name}:") and process.poll() is None:
                process.terminate()

    def _start(self, path: str, one: Object) -> None:
        """With the lock held: start what an operator and a kubelet would."""
        if one["kind"] == "Pod":
            self._store(path, {**one, "status": {"phase": "Running"}})
        if not self.is_running or path.split("/")[-2] not in JOB_PLURALS:
            return
        name, objects = one["metadata"]["name"], [*self.objects.values()]
        paths = {"/paceline": self.volume, **mount(objects, self.place / f"mounts-{len(self._processes)}", _PLAN, _KEYS)}
        for number, pod in enumerate(pods_of(one)):
            words = [str(paths.get(word, word)) for word in pod.command]
            environment = {**os.environ, **pod.environment, "POD_IP": "127.0.0.1", "PYTHONPATH": self._path_of(pod.environment)}
            log = (self.place / f"pod-{number}.log").open("ab")
            process = subprocess.Popen([sys.executable, *words[1:]], env=environment, stdout=log, stderr=log)
            self._processes[f"{name}:{number}"] = process
            pod_name = f"{name}-{number}"
            at = f"/api/v1/namespaces/paceline/pods/{pod_name}"
            labels = one["metadata"]["labels"]
            self._store(at, {"kind": "Pod", "metadata": {"name": pod_name, "labels": labels}, "status": {"phase": "Running"}})
            thread = threading.Thread(target=self._await_pod, args=(path, at, process), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _path_of(self, environment: dict[str, str]) -> str:
        return environment.get("PYTHONPATH", "").replace("/paceline/", f"{self.volume}/")

    def _await_pod(self, job: str, at: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._changed:
            if job not in self.objects:  # it was removed, and its pods with it
                if at in self.objects:
                    self._store(at, self.objects[at], "DELETED")
                return
            phase = "Succeeded" if status == 0 else "Failed"
            state = {"terminated": {"exitCode": status, "reason": "Completed" if status == 0 else "Error"}}
            ended = {"phase": phase, "containerStatuses": [{"name": "ranks", "state": state}]}
            self._store(at, {**self.objects[at], "status": ended})
            if all(one.poll() is not None for one in self._processes.values()):
                kind = "Completed" if all(one.poll() == 0 for one in self._processes.values()) else "Failed"
                self._store(job, {**self.objects[job], "status": {"conditions": [{"type": kind, "status": "True"}]}})

    def _watch(self, connection: socket.socket, path: str, query: dict[str, str], fault: Fault | None) -> None:
        """Send changes after a version until the client leaves; with a fault end in the middle of the first line."""
        version = int(query.get("resourceVersion") or 0)
        if version < self._forgotten:
            _send(connection, 410, {"kind": "Status", "code": 410, "reason": "Expired"}, {})
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in self._events(path, version, query):
            line = json.dumps(event).encode() + b"\n"
            if fault is not None and fault.kind == "cut":
                line = line[: len(line) // 2]
            pieces = [line[i : i + 7] for i in range(0, len(line), 7)] if fault is not None and fault.kind == "drip" else [line]
            for piece in pieces:
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if fault is not None and fault.kind == "cut":
                return
        connection.sendall(b"0\r\n\r\n")

    def _events(self, path: str, version: int, query: dict[str, str]) -> Iterator[Object]:
        sent = version
        while self._is_open:
            with self._changed:
                if sent < self._forgotten:
                    yield {"type": "ERROR", "object": {"kind": "Status", "code": 410}}
                    return
                ready = [one for one in self._history if one["version"] > sent and one["path"].rpartition("/")[0] == path]
                if not ready:
                    self._changed.wait(0.2)
                    continue
            for one in ready:
                sent = one["version"]
                if _is_selected(one["event"]["object"], query):
                    yield one["event"]

    def _execute(self, connection: socket.socket, path: str, query: dict[str, list[str]], headers: dict[str, str]) -> None:
        """A command in a pod over a websocket (RFC 6455, v4.channel.k8s.io), as a process here."""
        accept = base64.b64encode(
            hashlib.sha1(f"{headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        )
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        words = [unquote(word).replace("/paceline", str(self.volume)) for word in query["command"]]
        words = [sys.executable if word == "python3" else word for word in words]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _pump(connection, process)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


_PLURALS = (*JOB_PLURALS, "namespaces", "persistentvolumeclaims", "configmaps", "secrets", "networkpolicies", "pods", "nodes")
_PLAN, _KEYS = "/etc/paceline/plan", "/etc/paceline/keys"


def _is_selected(one: Object, query: dict[str, str]) -> bool:
    key, equals, value = query.get("labelSelector", "").partition("=")
    labels = one["metadata"].get("labels") or {}
    return not key or (key in labels and (not equals or labels[key] == value))


def _send(connection: socket.socket, status: int, answer: Object, headers: dict[str, str], is_dripping: bool = False) -> None:
    content = json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    data = "\r\n".join((*lines, "", "")).encode() + content
    for piece in [data[i : i + 11] for i in range(0, len(data), 11)] if is_dripping else [data]:
        connection.sendall(piece)


def _frame(payload: bytes, opcode: int = 2) -> bytes:
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    return head + (struct.pack(">BH", 126, size) if size < 1 << 16 else struct.pack(">BQ", 127, size)) + payload


def _pump(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Standard input from channel 0, standard output to channel 1, the status at the end to channel 3."""
    assert process.stdin is not None
    assert process.stdout is not None
    held = b""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ, "socket")
        selector.register(process.stdout, selectors.EVENT_READ, "output")
        while True:
            for key, _ in selector.select():
                if key.data == "output":
                    data = process.stdout.read(1 << 16)
                    if not data:
                        code = process.wait()
                        status: Object = {"status": "Success"} if code == 0 else {"status": "Failure"}
                        if code:
                            status["details"] = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
                        connection.sendall(_frame(b"\x03" + json.dumps(status).encode()) + _frame(b"\x03\xe8", 8))
                        return
                    connection.sendall(_frame(b"\x01" + data))
                    continue
                arrived = connection.recv(1 << 16)
                if not arrived:
                    return
                held += arrived
                while (parsed := _parse(held)) is not None:
                    opcode, payload, held = parsed
                    if opcode == 8:
                        return
                    if opcode in (1, 2) and payload[:1] == b"\x00":
                        process.stdin.write(payload[1:])


def _parse(held: bytes) -> tuple[int, bytes, bytes] | None:
    """The first whole masked frame: opcode, payload, what follows."""
    if len(held) < 2:
        return None
    size, at = held[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(held[2:4], "big"), 4
    elif size == 127:
        size, at = int.from_bytes(held[2:10], "big"), 10
    if len(held) < at + 4 + size:
        return None
    mask, data = held[at : at + 4], held[at + 4 : at + 4 + size]
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    payload = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big") if size else b""
    return held[0] & 0x0F, payload, held[at + 4 + size :]
