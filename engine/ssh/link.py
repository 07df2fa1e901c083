"""The link to one node: an SSH connection and the agent process on its channel.

Every request ends with an answer or with the loss of the link, so no caller waits forever for a dead node.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import itertools
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncssh

from .. import errors
from ..errors import NodeUnreachable, PacelineError, StorageFailed, WorkFailed
from ..events import NodeConnected, NodeReported, NodeWarned
from ..protocol.messages import Frame
from ..specs import NodeSpec
from ..telemetry.bus import Publish
from ..telemetry.progress import TransferProgress
from ..wire import dumps, event_from, from_plain
from .bundle import bundle
from .connect import Connector
from .embedded import EmbeddedNode
from .flood import MAX_DEVICES, MAX_EVENT_BYTES, TURN_S, FloodGate
from .sftp import open_channel, open_sftp
from .upload import upload_bundle

HELLO_TIMEOUT = 30.0
"""Seconds for a shell and Python to start on the node, which takes long on a cold network file system."""
CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly close of a connection; then it is aborted."""
MAX_LINE_BYTES = 8 << 20
"""Bytes of one line of the agent: twice the longest list of files. A longer line ends the link."""
MAX_BANNER_BYTES = 64 << 10
"""Bytes of one line that the login shell may print before the agent starts."""
MAX_NOISE_BYTES = 1 << 20
"""Bytes of all lines before the agent starts."""
LINE_COST_BYTES = 16
"""What a line costs beside its bytes."""
MAX_STDERR_BYTES_PER_SECOND = 256 << 10
MAX_STDERR_LINE_BYTES, STDERR_LINES = 500, 20
"""Of standard error the end is kept, which says why an agent ended."""
ASK_TIMEOUT = 30.0
"""Seconds for an answer, unless ``ASK_TIMEOUTS`` names the request."""
ASK_TIMEOUTS = {
    "submit_job": 120.0,  # a busy controller takes its time, and so does finding that there is none
    "launch": 150.0,  # detaching tries several ways, each with its own limit
    "start_marker": 90.0,
    "cancel": 60.0,
    "kill": 60.0,
    "rejoin": 150.0,  # as launch
    "drain": 90.0,  # the processes of all nodes come to a common step first
    "checksum": 3600.0,  # of a file of terabytes
    "list_files": 300.0,
    "list_storage": 600.0,
    "remove_stored": 600.0,
}
"""Seconds for requests that work for long."""
SILENT_AFTER = 2.0
"""Seconds after which a question that is given up shows that the agent is silent: until it answers, the next one waits less."""
SILENT_TIMEOUT = 0.5
WATCH_INTERVAL = 5.0
"""Seconds between two looks at whether the agent still answers."""
MAX_SILENT_LOOKS = 4
"""Looks in a row without an answer after which the link counts as lost. Looks are counted, not seconds: this process may have been
stopped meanwhile."""
DEFAULT_STATE_DIR = "~/.local/state/paceline"
END_TIMEOUT = 2.0
"""Seconds for the start command, and for an SFTP channel, to end."""
NO_SHELL_HINT = "Paceline needs a login that runs commands with /bin/sh: no nologin, ForceCommand or menu"
HELLO_HINT = "its Python starts slowly, or a start file of its shell waits for input"
PYTHON_HINT = "set python in nodes.toml to an interpreter of 3.10 or newer"
PYTHON_FATAL = "Fatal Python error: "
ENVIRONMENT_HINT = "look for PYTHONHOME and other PYTHON variables in the start files of its shell"
HELLO_START = b'{"hello"'
HOME_PREFIX, BUNDLE_MISSING = b"paceline home ", b"paceline bundle missing"
"""Lines that the start command prints before the agent: the home directory, and a marker where the bundle has to be uploaded."""
AGENT_EVENTS = (NodeReported, NodeWarned)
"""Events that an agent may send on its own; the centre makes all others."""

logger = logging.getLogger(__name__)


class Link:
    """One connection and its agent, created by ``open``. The future ``lost`` gets the reason when the link is lost or closed."""

    def __init__(self, spec: NodeSpec, connection: asyncssh.SSHClientConnection, on_event: Publish) -> None:
        self.node = spec.name
        self.root = ""
        """Absolute path of the node's state directory."""
        self.home = ""
        """Absolute path of the remote home directory, for ``~``."""
        self.python = ""
        """Path of the Python interpreter on the node."""
        self.bundle = ""
        """Absolute path of the bundle on the node, for PYTHONPATH."""
        self.hello = NodeConnected()
        """First message of the agent, with address and interface of nodes.toml applied."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._spec = spec
        self._connection = connection
        self._on_event = on_event
        self._sftp: asyncssh.SFTPClient | None = None
        self._opening_sftp = asyncio.Lock()
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._request_ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: list[Callable[[Frame], None]] = []
        self._stderr_lines: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self._has_hello = False
        """Whether the hello of the agent has arrived."""
        self._is_bundle_missing = False
        """Whether the bundle has to be uploaded first."""
        self._setup: dict[str, Any] = {}
        """First message to the agent, sent once the start files of the shell are done: one of them may read its input."""
        self._last_banner = ""
        """Last line of output before the agent."""
        self._is_noisy = False
        """Whether start files of the shell print anything."""
        self._started = asyncio.Event()
        """Set when either flag is set, and when the process ends."""
        self._gate = FloodGate(1.0)
        self._noise = 0
        """Bytes of the lines before the hello."""
        self._lines_heard = self._answers_heard = 0
        self._unanswered: dict[int, str] = {}
        """Requests that were given up, by their id, whose answers may still come."""
        self._proof: asyncio.Task[None] | None = None
        """The simple question to an agent that seems to be silent."""

    @classmethod
    async def open(
        cls,
        spec: NodeSpec,
        embedded: EmbeddedNode | None,
        on_event: Publish,
        interval: float = 1.0,
        *,
        connector: Connector | None = None,
        on_contact: Callable[[], None] = lambda: None,
        upload_progress: TransferProgress | None = None,
    ) -> Link:
        """Connect, upload the bundle where it is missing, start the agent and wait for its hello.

        ``on_contact`` is called when the node sends its first byte. ``upload_progress`` publishes the progress of the bundle.
        Raises NodeRefused, NodeUnreachable or StorageFailed.
        """
        link = cls(spec, await (connector or Connector()).open(spec, embedded, on_contact), on_event)
        try:
            await link._start(embedded, interval, upload_progress or TransferProgress("", lambda event: None))
        except (asyncssh.Error, OSError) as error:
            await link.close()
            raise NodeUnreachable(f"connection lost: {_error_text(error)}", node=spec.name) from None
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def data_root(self) -> str:
        """The directory whose ``data`` holds what is pushed to this node."""
        return self.root

    async def sftp(self) -> asyncssh.SFTPClient:
        """The SFTP channel of this connection, opened at the first call. Raises NodeUnreachable."""
        async with self._opening_sftp:
            if self._sftp is None:
                self._sftp = await open_sftp(self._connection, self.node, self._is_noisy)
        return self._sftp

    async def _close_sftp(self) -> None:
        if self._sftp is not None:
            self._sftp.exit()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT):
                    await self._sftp.wait_closed()
            self._sftp = None

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        """Send a request to the agent and return its answer.

        Raises the agent's error with the node's name, and NodeUnreachable when the link is lost or the answer takes too long.
        """
        if self.lost.done() or self._process is None:
            raise NodeUnreachable(f"no link for the request {kind!r}", node=self.node)
        request_id = next(self._request_ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        limit = SILENT_TIMEOUT if kind in self._unanswered.values() else ASK_TIMEOUTS.get(kind, ASK_TIMEOUT)
        began = time.monotonic()
        try:
            self._send({**body, "id": request_id, "ask": kind})
            async with asyncio.timeout(limit):  # wait_for of 3.11 may swallow a cancellation
                return await answer
        except TimeoutError:
            raise NodeUnreachable(
                f"no answer to {kind!r} for {limit:g} s", node=self.node, hint="its disk or file system may hang"
            ) from None
        finally:
            self._pending.pop(request_id, None)
            if not answer.done() or answer.cancelled():
                if time.monotonic() - began >= SILENT_AFTER:
                    self._unanswered[request_id] = kind
            else:
                self._unanswered = {number: word for number, word in self._unanswered.items() if word != kind}

    def on_frame(self, listener: Callable[[Frame], None]) -> Callable[[], None]:
        """Call ``listener`` with every frame of this link. The returned function unsubscribes it."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    async def close(self) -> None:
        """End the agent and the connection. Returns when both have ended."""
        self._mark_lost("closed")
        for task in self._tasks:
            task.cancel()
        self._connection.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):  # wait_for of 3.11 may swallow a cancellation
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):  # raised by a listener
                raise end

    def expand(self, path: str) -> str:
        """A path of nodes.toml with ``~`` replaced by the remote home directory."""
        return self.home + path[1:] if path == "~" or path.startswith("~/") else path

    async def _start(self, embedded: EmbeddedNode | None, interval: float, upload_progress: TransferProgress) -> None:
        """Start the agent. Where the bundle is missing, upload it and start the agent again."""
        python = self._spec.python or ("python3" if embedded is None else sys.executable)
        root = "~" if embedded is not None else f"{(self._spec.state_dir or DEFAULT_STATE_DIR).rstrip('/')}/{self.node}"
        if not await self._start_agent(root, python, interval):
            with upload_progress.transfer(len(bundle().data)) as on_sent:
                logger.debug("%s: uploading the bundle", self.node)
                await upload_bundle(await self.sftp(), self.node, self.root, on_sent)
            await self._close_sftp()  # sshd may allow one session only, which is the agent's
            if not await self._start_agent(root, python, interval):
                raise StorageFailed(
                    f"the bundle was uploaded to {self.root}/bundles but is missing there",
                    node=self.node,
                    hint="does that directory belong to this user? Else set state_dir in nodes.toml",
                )

    async def _start_agent(self, root: str, python: str, interval: float) -> bool:
        """Start the agent and wait for its hello; False: the bundle is missing. Raises NodeUnreachable."""
        self._is_bundle_missing = False
        self._started.clear()
        self._gate, self._noise = FloodGate(interval), 0
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                is_embedded = self._spec.kind == "embedded"
                command = start_command(root, python, self.node, bundle().name, is_embedded)
                start = functools.partial(self._connection.create_process, command, encoding=None)
                process = await open_channel(start)
                self._process = process
                cluster = {"cluster": {"partitions": list(self._spec.partitions)}} if self._spec.kind == "slurm" else {}
                self._setup = {"setup": {"devices": list(self._spec.devices), "interval": interval, **cluster}}
                self._tasks = [asyncio.ensure_future(self._read_stdout()), asyncio.ensure_future(self._read_stderr())]
                with suppress(OSError):  # it has ended already; its output says why
                    process.stdin.write(b"\n")  # for a start file that reads a line; else it would eat the setup
                await self._started.wait()
                if self._is_bundle_missing:
                    await self._end_process()
        except TimeoutError:
            said = f"; it printed {self._last_banner!r}" if self._last_banner else ""
            hint = HELLO_HINT if self.home else NO_SHELL_HINT
            raise NodeUnreachable(
                f"no hello from the agent within {HELLO_TIMEOUT:.0f} s{said}", node=self.node, hint=hint
            ) from None
        if not self.home:
            raise NodeUnreachable(f"no shell: {self._exit_reason(with_banner=True)}", node=self.node, hint=NO_SHELL_HINT)
        if self._has_hello:
            self._tasks.append(asyncio.ensure_future(self._watch()))
        self.root, self.python = self.expand(root), self.expand(python)
        if ":" in self.root:
            reason = f"{self.root} contains a colon, at which Python splits the path of our modules"
            raise StorageFailed(reason, node=self.node, hint="set state_dir in nodes.toml to a directory without one")
        self.bundle = f"{self.root}/bundles/{bundle().name}"
        if not (self._has_hello or self._is_bundle_missing):
            reason = self.lost.result()
            hint = ENVIRONMENT_HINT if reason.startswith(PYTHON_FATAL) else PYTHON_HINT
            raise NodeUnreachable(f"the agent did not start: {reason}", node=self.node, hint=hint)
        return not self._is_bundle_missing

    async def _end_process(self) -> None:
        """End the start command. A process of a start file may hold its output open, so its end is not waited for long."""
        assert self._process is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                await asyncio.gather(*self._tasks)
                return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._process.close()

    def _parse_hello(self, hello: dict[str, Any]) -> NodeConnected:
        """The event of a hello, with address and interface of nodes.toml taking precedence."""
        event = from_plain(NodeConnected, hello)
        reported = hello.get("addresses")
        addresses = {str(name): str(value) for name, value in reported.items()} if isinstance(reported, dict) else {}
        address, interface = event.address, event.interface
        if self._spec.interface is not None:
            interface = self._spec.interface
            address = addresses.get(interface, address)
        if self._spec.address is not None:
            address = self._spec.address
            if self._spec.interface is None:
                interface = next((name for name, value in addresses.items() if value == address), interface)
        return dataclasses.replace(event, node=self.node, address=address, interface=interface)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        try:
            self._process.stdin.write(dumps(message).encode() + b"\n")
        except OSError as error:
            raise NodeUnreachable(f"link lost: {_error_text(error)}", node=self.node) from None

    async def _read_stdout(self) -> None:
        """Read the lines of the agent until it ends."""
        assert self._process is not None
        buffer = b""
        reason = "internal error of Paceline"
        try:
            while chunk := await self._process.stdout.read(65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                began = time.perf_counter()
                for line in lines:
                    self._on_line(line)
                    if (used := time.perf_counter() - began) > TURN_S:
                        await asyncio.sleep(self._gate.rest(used, time.monotonic()))
                        began = time.perf_counter()
                if rest := self._gate.rest(time.perf_counter() - began, time.monotonic()):
                    await asyncio.sleep(rest)
                if len(buffer) > (MAX_LINE_BYTES if self._has_hello else MAX_BANNER_BYTES):
                    raise ValueError("a line is too long")
            if buffer and not self._has_hello:
                self._on_banner_line(buffer)
            await self._process.wait_closed()
            reason = self._exit_reason()
        except (asyncssh.Error, OSError) as error:
            reason = _error_text(error)
        except ValueError as error:
            reason = f"invalid output of the agent: {error}"
        finally:
            if not self._is_bundle_missing:
                self._mark_lost(reason)
            self._started.set()

    def _on_line(self, line: bytes) -> None:
        now = time.monotonic()
        self._lines_heard += 1
        if not self._has_hello:
            self._noise += len(line) + LINE_COST_BYTES
            if self._noise > MAX_NOISE_BYTES:
                raise ValueError(f"more than {MAX_NOISE_BYTES >> 20} MiB before the agent started")
        elif len(line) > MAX_EVENT_BYTES and not (self._pending and line.startswith(b'{"id":')):
            self._gate.drop(now)
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if message is None and not self._has_hello and HELLO_START in line:  # after words of a wrapper around Python
            with suppress(ValueError, RecursionError):
                message = json.loads(line[line.index(HELLO_START) :])
        if not isinstance(message, dict):
            if self._has_hello:
                raise ValueError(f"not a JSON object: {line[:60]!r}")
            self._on_banner_line(line)
        elif "kind" in message:
            self._on_event_line(message, now)
        elif "frame" in message:
            if not self._listeners:
                self._gate.admits("other", now)
            for listener in tuple(self._listeners):
                listener(message["frame"])
        elif "hello" in message and not self._has_hello:
            self.hello = self._parse_hello(message["hello"])
            self._has_hello = True
            logger.debug("%s: hello from the agent", self.node)
            self._started.set()
            self._on_event(self.hello)
        elif isinstance(request_id := message.get("id"), int) and (answer := self._pending.get(request_id)) and not answer.done():
            self._answers_heard += 1
            _resolve(answer, message, self.node)
        elif not isinstance(request_id, int) or self._unanswered.pop(request_id, None) is None:
            self._gate.admits("other", now)

    def _on_event_line(self, message: dict[str, Any], now: float) -> None:
        """Publish an event that the agent may send, as far as its allowance goes."""
        kind = {"NodeReported": "reading", "NodeWarned": "warning"}.get(str(message["kind"]), "other")
        if not self._gate.admits(kind, now):
            return
        event = event_from({**message, "node": self.node, "run_id": ""})
        if isinstance(event, NodeReported) and len(event.devices) > MAX_DEVICES:
            self._gate.drop(now)
        elif self._has_hello and isinstance(event, AGENT_EVENTS):
            self._on_event(event)

    async def _watch(self) -> None:
        """Report dropped lines, and end the link when the agent neither answers nor reports: silence is a loss."""
        lines, answers, silent_looks = -1, -1, 0
        while not self.lost.done():
            await asyncio.sleep(WATCH_INTERVAL)
            if dropped := self._gate.report_due(time.monotonic()):
                logger.warning("%s: %d lines dropped so far", self.node, dropped)
                reason = "sends more than is read: some of its readings and warnings are dropped"
                self._on_event(NodeWarned(node=self.node, reason=reason, hint=f"{dropped} lines so far"))
            is_quiet = self._lines_heard == lines or (bool(self._pending) and self._answers_heard == answers)
            lines, answers = self._lines_heard, self._answers_heard
            silent_looks = silent_looks + 1 if is_quiet else 0
            if silent_looks > MAX_SILENT_LOOKS:
                self._mark_lost(f"its agent does not answer for {silent_looks * WATCH_INTERVAL:.0f} s")
            elif silent_looks == 1:  # a reading may hang in a driver, and a request may work for long: ask for something simple
                self._proof = asyncio.ensure_future(self._prove_alive())

    async def _prove_alive(self) -> None:
        with suppress(PacelineError):
            await self.ask("read_clock")

    def _on_banner_line(self, line: bytes) -> None:
        """Handle a line that precedes the hello: a marker of the start command, or output of the login shell, which is ignored.

        A start file may have printed words without a line end before the marker.
        """
        noise, marker, home = line.rpartition(HOME_PREFIX)
        self._is_noisy = self._is_noisy or bool(noise) or not (marker or line == BUNDLE_MISSING)
        if marker and home.startswith(b"/"):
            self.home = home.rstrip(b"\r").decode(errors="surrogateescape")
            with suppress(NodeUnreachable):  # it has ended already; its output says why
                self._send(self._setup)
        elif line == BUNDLE_MISSING:
            self._is_bundle_missing = True
            self._started.set()
        elif text := line[:MAX_STDERR_LINE_BYTES].decode(errors="backslashreplace").strip():
            self._last_banner = text

    async def _read_stderr(self) -> None:
        assert self._process is not None
        with suppress(asyncssh.Error, OSError):
            rest = b""
            while chunk := await self._process.stderr.read(MAX_BANNER_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                rest = rest[:MAX_STDERR_LINE_BYTES]
                for line in lines[-STDERR_LINES:]:
                    self._add_stderr_line(line)
                if len(chunk) > MAX_STDERR_LINE_BYTES:
                    await asyncio.sleep(len(chunk) / MAX_STDERR_BYTES_PER_SECOND)
            self._add_stderr_line(rest)

    def _add_stderr_line(self, line: bytes) -> None:
        self._stderr_lines.append(line[:MAX_STDERR_LINE_BYTES].decode(errors="backslashreplace").strip())

    def _exit_reason(self, with_banner: bool = False) -> str:
        """Why the process ended, by its last line. ``with_banner``: by its output too, as nologin or a forced command prints it."""
        assert self._process is not None
        status = self._process.returncode
        lines = [line for line in self._stderr_lines if line]
        fatal = next((line for line in lines if line.startswith(PYTHON_FATAL)), "")  # what follows it says nothing to a person
        last_line = fatal or (lines[-1] if lines else "") or (self._last_banner if with_banner else "")
        return last_line or (f"the agent ended with status {status}" if status is not None else "the connection was closed")

    def _mark_lost(self, reason: str) -> None:
        if not self.lost.done():
            logger.debug("%s: link lost: %r", self.node, reason)
            self.lost.set_result(reason)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(NodeUnreachable(f"the link was lost: {reason}", node=self.node))


def start_command(root: str, python: str, node: str, zip_name: str, is_embedded: bool = False) -> str:
    """The command that starts the agent under any login shell. It first prints the home directory.

    ``~`` in ``root`` and ``python`` is the home directory, whatever directory a start file changes to; of an embedded node it is
    the directory in which the command starts. The agent starts in the directory of bundles: ``-m`` imports from the working
    directory first, and a home directory may contain a package of the same name. A bundle of another user, or in a directory of
    another user, counts as missing (``-O``).
    """
    go_home = "" if is_embedded else 'cd "$HOME" 2>/dev/null; '
    script = (
        f"{go_home}h=$(pwd -P); printf '{HOME_PREFIX.decode()}%s\\n' \"$h\"; r={_shell_path(root)}; "
        f'cd "$r/bundles" 2>/dev/null && [ -f {zip_name} ] && [ -O . ] && [ -O {zip_name} ] || '
        f"{{ echo {BUNDLE_MISSING.decode()}; exit; }}; "
        f'exec env PYTHONPATH="$r/bundles/{zip_name}" {_shell_path(python)} -m paceline.engine.agent "$r" {shlex.quote(node)}'
    )
    return "exec " + shlex.join(["/bin/sh", "-c", script])


def _shell_path(path: str) -> str:
    is_below_home = path == "~" or path.startswith("~/")
    return '"$h"' + (shlex.quote(path[1:]) if path[1:] else "") if is_below_home else shlex.quote(path)


def _resolve(answer: asyncio.Future[dict[str, Any]], message: dict[str, Any], node: str) -> None:
    """Complete a request with the agent's answer or error."""
    if "error" not in message:
        content = message.get("answer")
        answer.set_result(content if isinstance(content, dict) else {})
        return
    error = message["error"] if isinstance(message["error"], dict) else {}
    error_class = getattr(errors, str(error.get("type")), WorkFailed)
    if not (isinstance(error_class, type) and issubclass(error_class, PacelineError)):
        error_class = WorkFailed
    hint = error.get("hint")
    answer.set_exception(error_class(str(error.get("reason")), node=node, hint=hint if isinstance(hint, str) else None))


def _error_text(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
