"""One connection to one node, and the agent that speaks over it.

An answer either comes, or the link is lost and whoever waits is told so: nothing waits for ever on a dead node.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncssh

from .. import errors
from ..errors import NodeUnreachable, PacelineError, StorageFailed, WorkFailed
from ..events import Event, NodeConnected, NodeReported, NodeWarned
from ..specs import NodeSpec
from ..telemetry.progress import TransferProgress
from ..wire import dumps, event_from, from_plain
from .bundle import bundle
from .connect import Connector
from .embedded import EmbeddedNode
from .upload import upload_bundle

Frame = dict[str, Any]
HELLO_TIMEOUT = 30.0
"""Seconds for a shell and Python to start on the node; a cold network file system is slow."""
SFTP_TIMEOUT = 15.0
"""Seconds until a file channel is there."""
CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly end of a connection; then it is cut."""
LINE_LIMIT = 16 << 20
"""Bytes of one line of an agent; a longer one is no agent of ours."""
NOISE_LIMIT = 64 << 10
"""Bytes that the node's shell may say before the agent does."""
STATE_DIR = "~/.local/state/paceline"
HOME, MISSING = b"paceline home ", b"paceline bundle missing"
"""What our start command says before the agent does: where it is, and perhaps that our modules are not there yet."""
HEARD = (NodeReported, NodeWarned)
"""What an agent may tell unasked; everything else is for the centre to say."""


class Link:
    """One connection and its agent channel. Made by ``open``; ``lost`` is done when it is no more, with the reason."""

    def __init__(self, spec: NodeSpec, connection: asyncssh.SSHClientConnection, on_event: Callable[[Event], None]) -> None:
        self.node = spec.name
        self.root = ""
        """Absolute path of the node's state."""
        self.home = ""
        """Absolute path of the remote home: what ``~`` means there."""
        self.python = ""
        """The interpreter on the node."""
        self.bundle = ""
        """Absolute path of the zip with our modules: PYTHONPATH of what is ours there."""
        self.hello = NodeConnected()
        """What the agent said first, the address and interface of nodes.toml applied."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._spec = spec
        self._connection = connection
        self._on_event = on_event
        self._sftp: asyncssh.SFTPClient | None = None
        self._opening_sftp = asyncio.Lock()
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: list[Callable[[Frame], None]] = []
        self._complaints: collections.deque[str] = collections.deque(maxlen=20)
        self._has_spoken = False
        """Whether the agent said hello."""
        self._is_missing = False
        """Whether our modules have to be sent first."""
        self._started = asyncio.Event()
        """Set with the first of both, and at the end of what was started."""

    @classmethod
    async def open(
        cls,
        spec: NodeSpec,
        embedded: EmbeddedNode | None,
        on_event: Callable[[Event], None],
        interval: float = 1.0,
        doors: Connector | None = None,
        heard: Callable[[], None] = lambda: None,
        parcels: TransferProgress | None = None,
    ) -> Link:
        """Connect, bring our modules, start the agent and hear its hello. ``heard`` is called with the first word from there.
        ``parcels`` tell how far the modules are.

        Raises NodeRefused, NodeUnreachable, StorageFailed.
        """
        link = cls(spec, await (doors or Connector()).open(spec, embedded, heard), on_event)
        try:
            await link._start(embedded, interval, parcels or TransferProgress("", lambda event: None))
        except (asyncssh.Error, OSError) as error:
            await link.close()
            raise NodeUnreachable(f"the connection broke: {_said(error)}", node=spec.name) from None
        except BaseException:
            await link.close()
            raise
        return link

    async def sftp(self) -> asyncssh.SFTPClient:
        """The one file channel of this connection, opened when it is first needed."""
        async with self._opening_sftp:
            if self._sftp is None:
                try:
                    async with asyncio.timeout(SFTP_TIMEOUT):
                        self._sftp = await self._connection.start_sftp_client()
                except TimeoutError:
                    raise NodeUnreachable(f"no SFTP within {SFTP_TIMEOUT:.0f} s", node=self.node) from None
                except (asyncssh.Error, OSError) as error:
                    raise NodeUnreachable(
                        f"no SFTP: {_said(error)}", node=self.node, hint="sshd needs its sftp subsystem"
                    ) from None
        return self._sftp

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        """One request to the agent. Raises what the agent raised, with the node named, or NodeUnreachable when the link is lost."""
        if self.lost.done() or self._process is None:
            raise NodeUnreachable(f"no link for {word}", node=self.node)
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send({**body, "id": number, "ask": word})
            return await answer
        finally:
            self._waiting.pop(number, None)

    def on_frame(self, listener: Callable[[Frame], None]) -> Callable[[], None]:
        """Hear every frame of this link; call the result to stop."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    async def close(self) -> None:
        """End the agent and the connection; returns when both are gone."""
        self._lose("closed")
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
            if isinstance(end, Exception):  # a listener's, which must not pass unseen
                raise end

    def expand(self, path: str) -> str:
        """A path of nodes.toml on the node: ``~`` is the remote home."""
        return self.home + path[1:] if path == "~" or path.startswith("~/") else path

    async def _start(self, embedded: EmbeddedNode | None, interval: float, parcels: TransferProgress) -> None:
        """Start the agent at once; only where it has no modules of ours yet, bring them and start it again."""
        python = self._spec.python or ("python3" if embedded is None else sys.executable)
        root = "~" if embedded is not None else f"{(self._spec.state_dir or STATE_DIR).rstrip('/')}/{self.node}"
        if not await self._start_agent(root, python, interval):
            with parcels.part(len(bundle().data)) as sent:
                await upload_bundle(await self.sftp(), self.node, self.root, sent)
            if not await self._start_agent(root, python, interval):
                raise StorageFailed(f"our modules were sent to {self.root} and are not there", node=self.node)

    async def _start_agent(self, root: str, python: str, interval: float) -> bool:
        """Whether an agent says hello; False when our modules are not there."""
        self._is_missing = False
        self._started.clear()
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                command = start_command(root, python, self.node, bundle().name)
                self._process = await self._connection.create_process(command, encoding=None)
                self._tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._collect_complaints())]
                with suppress(NodeUnreachable):  # it ended already: what it said tells why
                    self._send({"setup": {"devices": list(self._spec.devices), "interval": interval}})
                await self._started.wait()
                if self._is_missing:
                    await asyncio.gather(*self._tasks)  # its end
        except TimeoutError:
            raise NodeUnreachable(f"the agent said nothing for {HELLO_TIMEOUT:.0f} s", node=self.node) from None
        if not self.home:
            raise NodeUnreachable(
                f"no shell there: {self._last_words()}", node=self.node, hint="Paceline needs /bin/sh on the node"
            )
        self.root, self.python = self.expand(root), self.expand(python)
        self.bundle = f"{self.root}/bundles/{bundle().name}"
        if not (self._has_spoken or self._is_missing):
            hint = "set python in nodes.toml to an interpreter of 3.10 or newer"
            raise NodeUnreachable(f"the agent did not start: {self.lost.result()}", node=self.node, hint=hint)
        return not self._is_missing

    def _connected(self, hello: dict[str, Any]) -> NodeConnected:
        event = from_plain(NodeConnected, hello)
        given = hello.get("addresses")
        addresses = {str(name): str(own) for name, own in given.items()} if isinstance(given, dict) else {}
        address, interface = event.address, event.interface
        if self._spec.interface is not None:
            interface = self._spec.interface
            address = addresses.get(interface, address)
        if self._spec.address is not None:
            address = self._spec.address
            if self._spec.interface is None:
                interface = next((name for name, own in addresses.items() if own == address), interface)
        return dataclasses.replace(event, node=self.node, address=address, interface=interface)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        try:
            self._process.stdin.write(dumps(message).encode() + b"\n")
        except OSError as error:
            raise NodeUnreachable(f"the link broke: {_said(error)}", node=self.node) from None

    async def _listen(self) -> None:
        """Lines of the agent, until it ends."""
        assert self._process is not None
        buffer = b""
        reason = "a fault of Paceline itself"
        try:
            while chunk := await self._process.stdout.read(65536):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
                if len(buffer) > (LINE_LIMIT if self._has_spoken else NOISE_LIMIT):
                    raise ValueError("a line without end")
            await self._process.wait_closed()
            reason = self._last_words()
        except (asyncssh.Error, OSError) as error:
            reason = _said(error)
        except ValueError as error:
            reason = f"the agent was not understood: {error}"
        finally:
            if not self._is_missing:
                self._lose(reason)
            self._started.set()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            if self._has_spoken:
                raise ValueError(f"not a JSON object: {line[:60]!r}")
            self._take_noise(line)
        elif "kind" in message:
            event = event_from({**message, "node": self.node, "run_id": ""})
            if self._has_spoken and isinstance(event, HEARD):
                self._on_event(event)
        elif "frame" in message:
            for listener in tuple(self._listeners):
                listener(message["frame"])
        elif "hello" in message and not self._has_spoken:
            self.hello = self._connected(message["hello"])
            self._has_spoken = True
            self._started.set()
            self._on_event(self.hello)
        elif isinstance(number := message.get("id"), int) and (answer := self._waiting.get(number)) and not answer.done():
            _settle(answer, message, self.node)

    def _take_noise(self, line: bytes) -> None:
        """Before the agent speaks: what our start command says, and the greeting of a shell."""
        if line.startswith(HOME + b"/"):
            self.home = line.removeprefix(HOME).decode()
        elif line == MISSING:
            self._is_missing = True
            self._started.set()

    async def _collect_complaints(self) -> None:
        assert self._process is not None
        with suppress(asyncssh.Error, OSError):
            while line := await self._process.stderr.readline():
                self._complaints.append(line[:500].decode(errors="backslashreplace").strip())

    def _last_words(self) -> str:
        assert self._process is not None
        status = self._process.returncode
        said = next((line for line in reversed(self._complaints) if line), "")
        return said or (f"the agent ended with status {status}" if status is not None else "the connection was closed")

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NodeUnreachable(f"the link was lost: {reason}", node=self.node))


def start_command(root: str, python: str, node: str, zip_name: str) -> str:
    """What starts the agent, whatever the login shell is: it says where it is, and whether our modules are missing.

    ``~`` in ``root`` and ``python`` is the directory in which it starts. From the directory of bundles, because ``-m`` looks for
    modules in the working directory first and a home may hold anything.
    """
    script = (
        f"h=$(pwd -P); printf '{HOME.decode()}%s\\n' \"$h\"; r={_in_shell(root)}; "
        f'cd "$r/bundles" 2>/dev/null && [ -f {zip_name} ] || {{ echo {MISSING.decode()}; exit; }}; '
        f'exec env PYTHONPATH="$r/bundles/{zip_name}" {_in_shell(python)} -m paceline.engine.agent "$r" {shlex.quote(node)}'
    )
    return "exec " + shlex.join(["/bin/sh", "-c", script])


def _in_shell(path: str) -> str:
    is_below_home = path == "~" or path.startswith("~/")
    return '"$h"' + (shlex.quote(path[1:]) if path[1:] else "") if is_below_home else shlex.quote(path)


def _settle(answer: asyncio.Future[dict[str, Any]], message: dict[str, Any], node: str) -> None:
    """Give what the agent said to who asked: an object, or an error of ours."""
    if "error" not in message:
        found = message.get("answer")
        answer.set_result(found if isinstance(found, dict) else {})
        return
    error = message["error"] if isinstance(message["error"], dict) else {}
    kind = getattr(errors, str(error.get("type")), WorkFailed)
    if not (isinstance(kind, type) and issubclass(kind, PacelineError)):
        kind = WorkFailed
    hint = error.get("hint")
    answer.set_exception(kind(str(error.get("reason")), node=node, hint=hint if isinstance(hint, str) else None))


def _said(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
