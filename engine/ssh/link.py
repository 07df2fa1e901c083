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
from ..events import Event, NodeConnected
from ..specs import NodeSpec
from ..wire import decode, dumps, from_plain
from .connect import open_connection
from .embedded import EmbeddedNode
from .ship import push_bundle

Frame = dict[str, Any]
HELLO_TIMEOUT = 30.0
"""Seconds for Python to start on the node; a cold network file system is slow."""
CLOSE_TIMEOUT = 3.0
"""Seconds for an orderly end of a connection; then it is cut."""
LINE_LIMIT = 16 << 20
"""Bytes of one line of an agent; a longer one is no agent of ours."""
NOISE_LIMIT = 64 << 10
"""Bytes that the node's shell may say before the agent does."""
STATE_DIR = "~/.local/state/paceline"


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
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: list[Callable[[Frame], None]] = []
        self._complaints: collections.deque[str] = collections.deque(maxlen=20)
        self._has_spoken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls, spec: NodeSpec, embedded: EmbeddedNode | None, on_event: Callable[[Event], None], interval: float = 1.0
    ) -> Link:
        """Connect, bring our modules, start the agent and hear its hello. Raises NodeRefused, NodeUnreachable, StorageFailed."""
        link = cls(spec, await open_connection(spec, embedded), on_event)
        try:
            await link._prepare(embedded)
            await link._start_agent(interval)
        except (asyncssh.Error, OSError) as error:
            await link.close()
            raise NodeUnreachable(f"the connection broke: {_said(error)}", node=spec.name) from None
        except BaseException:
            await link.close()
            raise
        return link

    async def sftp(self) -> asyncssh.SFTPClient:
        """The one file channel of this connection."""
        if self._sftp is None:
            try:
                self._sftp = await self._connection.start_sftp_client()
            except (asyncssh.Error, OSError) as error:
                raise NodeUnreachable(f"no SFTP: {_said(error)}", node=self.node, hint="sshd needs its sftp subsystem") from None
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
            await asyncio.wait_for(self._connection.wait_closed(), CLOSE_TIMEOUT)
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):  # a listener's, which must not pass unseen
                raise end

    def expand(self, path: str) -> str:
        """A path of nodes.toml on the node: ``~`` is the remote home."""
        return self.home + path[1:] if path == "~" or path.startswith("~/") else path

    async def _prepare(self, embedded: EmbeddedNode | None) -> None:
        sftp = await self.sftp()
        try:
            self.home = str(await sftp.realpath("."))
        except asyncssh.SFTPError as error:
            raise StorageFailed(f"no home directory: {error.reason}", node=self.node, hint="set state_dir in nodes.toml") from None
        if embedded is not None:
            self.root = self.home
        else:
            self.root = f"{self.expand(self._spec.state_dir or STATE_DIR).rstrip('/')}/{self.node}"
        self.python = self.expand(self._spec.python or ("python3" if embedded is None else sys.executable))
        self.bundle = await push_bundle(sftp, self.node, self.root)

    async def _start_agent(self, interval: float) -> None:
        # From the directory of bundles, because -m looks for modules in the working directory first and a home may hold anything.
        agent = shlex.join(["env", f"PYTHONPATH={self.bundle}", self.python, "-m", "paceline.engine.agent", self.root, self.node])
        script = f"cd {shlex.quote(self.root)}/bundles && exec {agent}"
        command = "exec " + shlex.join(["/bin/sh", "-c", script])  # whatever the login shell is, it can do that
        self._process = await self._connection.create_process(command, encoding=None)
        self._tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._collect_complaints())]
        self._send({"setup": {"devices": list(self._spec.devices), "interval": interval}})
        signs: set[asyncio.Future[Any]] = {self._has_spoken, self.lost}
        await asyncio.wait(signs, timeout=HELLO_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            hint = "set python in nodes.toml to an interpreter of 3.10 or newer"
            raise NodeUnreachable(f"the agent did not start: {self.lost.result()}", node=self.node, hint=hint)
        if not self._has_spoken.done():
            raise NodeUnreachable(f"the agent said nothing for {HELLO_TIMEOUT:.0f} s", node=self.node)

    def _connected(self, hello: dict[str, Any]) -> NodeConnected:
        event = from_plain(NodeConnected, hello)
        addresses = hello.get("addresses") or {}
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
                if len(buffer) > (LINE_LIMIT if self._has_spoken.done() else NOISE_LIMIT):
                    raise ValueError("a line without end")
            await self._process.wait_closed()
            reason = self._last_words()
        except (asyncssh.Error, OSError) as error:
            reason = _said(error)
        except ValueError as error:
            reason = f"the agent was not understood: {error}"
        finally:
            self._lose(reason)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            if self._has_spoken.done():
                raise ValueError(f"not a JSON object: {line[:60]!r}")
            return  # the greeting of a shell
        if "kind" in message:
            event = decode(line)
            if event is not None:
                self._on_event(dataclasses.replace(event, node=self.node))
        elif "frame" in message:
            for listener in tuple(self._listeners):
                listener(message["frame"])
        elif "hello" in message and not self._has_spoken.done():
            self.hello = self._connected(message["hello"])
            self._has_spoken.set_result(None)
            self._on_event(self.hello)
        elif (answer := self._waiting.get(message.get("id", 0))) is not None and not answer.done():
            if "error" in message:
                answer.set_exception(self._raised(message["error"]))
            else:
                answer.set_result(message.get("answer") or {})

    def _raised(self, error: dict[str, Any]) -> PacelineError:
        kind = getattr(errors, str(error.get("type")), WorkFailed)
        if not (isinstance(kind, type) and issubclass(kind, PacelineError)):
            kind = WorkFailed
        return kind(str(error.get("reason")), node=self.node, hint=error.get("hint"))

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


def _said(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
