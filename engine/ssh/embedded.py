"""An embedded node: a directory served by an asyncssh server on loopback, for the lifetime of the control process.

Host key and client key are generated per control process and kept in memory only. No file marks a directory as served, so several
control processes can serve the same one. Closing a channel ends its process group, but no process that has called setsid.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import StorageFailed
from ..protocol.private_files import make_directory

HANGUP_GRACE = 2.0
"""Seconds between SIGHUP and SIGKILL for the process group of a closed channel."""
DETACHED_OUTPUT_TIMEOUT = 1.0
"""Seconds without output after a command has exited until its channel is closed, although a detached child keeps its pipes."""
_CHUNK_BYTES = 65536
_INHERITED_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
"""Environment variables that commands inherit; a login over sshd would not inherit the others either."""


class EmbeddedNode:
    """The server of one embedded node."""

    def __init__(self, directory: Path, client_key: asyncssh.SSHKey) -> None:
        self.directory = directory
        self.client_key = client_key
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._channels: set[asyncio.Task[None]] = set()
        self._groups: set[int] = set()

    async def start(self) -> None:
        """Create the directory and listen on 127.0.0.1, at a port that the kernel chooses. Raises StorageFailed."""
        try:
            make_directory(self.directory)
        except OSError as error:
            raise StorageFailed(f"cannot create {self.directory}: {error.strerror}", node=self.directory.name) from None
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.client_key.export_public_key().decode()),
            server_factory=lambda: _ConnectionTracker(self._connections),
            process_factory=self._open_channel,
            sftp_factory=lambda channel: _HomeSFTP(channel, self.directory),
            encoding=None,
            allow_pty=False,
            agent_forwarding=False,
            config=[],
            gss_host=None,
            login_timeout=15,
            keepalive_interval=15,
        )
        self.port = self._acceptor.get_port()
        atexit.register(self._kill_groups)

    async def close(self) -> None:
        """Stop listening and drop all connections. Returns when no process group of a channel is left."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in tuple(self._connections):
            connection.abort()
        if self._channels:
            await asyncio.wait(self._channels)
        self._kill_groups()
        atexit.unregister(self._kill_groups)

    def _open_channel(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.ensure_future(self._run(process))
        self._channels.add(task)
        task.add_done_callback(self._channels.discard)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run the command of one channel, and end its process group when the command or the channel ends."""
        arguments = [] if process.command is None else ["-c", process.command]
        loop = asyncio.get_running_loop()
        try:
            transport, child = await loop.subprocess_exec(
                lambda: _Child(loop),
                "/bin/sh",
                *arguments,
                cwd=self.directory,
                env=self._environment(process),
                start_new_session=True,
            )
        except OSError as error:
            process.stderr.write(f"cannot start /bin/sh in {self.directory}: {error.strerror}\n".encode())
            process.exit(126)
            return
        group = transport.get_pid()
        self._groups.add(group)
        forwarding_input = asyncio.ensure_future(_forward_input(process, child, group))
        finished = asyncio.ensure_future(_forward_outputs(process, child))
        closed = asyncio.ensure_future(process.wait_closed())
        try:
            await asyncio.wait({closed, finished}, return_when=asyncio.FIRST_COMPLETED)
            if finished.done():
                _send_exit_status(process, transport.get_returncode() or 0)
        finally:
            await self._end_group(group)
            await child.exited
            for task in (forwarding_input, finished, closed):
                task.cancel()
            await asyncio.gather(forwarding_input, finished, closed, return_exceptions=True)
            transport.close()
            process.close()

    async def _end_group(self, group: int) -> None:
        """Send SIGHUP, and SIGKILL to a group that is still alive after the grace period."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANGUP_GRACE
        is_alive = _signal_group(group, signal.SIGHUP)
        while is_alive and loop.time() < deadline:
            await asyncio.sleep(0.02)
            is_alive = _has_live_process(group)
        if is_alive:
            _signal_group(group, signal.SIGKILL)
        self._groups.discard(group)

    def _kill_groups(self) -> None:
        for group in self._groups:
            _signal_group(group, signal.SIGKILL)

    def _environment(self, process: asyncssh.SSHServerProcess[bytes]) -> dict[str, str]:
        user = pwd.getpwuid(os.getuid()).pw_name
        client = process.get_extra_info("peername")
        return {
            "PATH": os.defpath,
            **{name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            "HOME": str(self.directory),
            "SHELL": "/bin/sh",
            "USER": user,
            "LOGNAME": user,
            "SSH_CONNECTION": f"{client[0]} {client[1]} 127.0.0.1 {self.port}",
        }


class _Child(asyncio.subprocess.SubprocessStreamProtocol):
    """asyncio's protocol with a future for the exit: its own waits for pipes kept by a detached child (python/cpython#119710)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_CHUNK_BYTES, loop=loop)
        self.exited: asyncio.Future[None] = loop.create_future()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set_result(None)


class _ConnectionTracker(asyncssh.SSHServer):
    """Tracks the open connections."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections
        self._own: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._own = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._own is not None:
            self._connections.discard(self._own)


class _HomeSFTP(asyncssh.SFTPServer):
    """SFTP with the paths of the commands: relative ones start in the directory of the node, absolute ones are not mapped."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], home: Path) -> None:
        super().__init__(channel)
        self._home = os.fsencode(home)

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)


async def _forward_input(process: asyncssh.SSHServerProcess[bytes], child: _Child, group: int) -> None:
    """Forward bytes from the client to the command, and signals to its process group."""
    stdin = child.stdin
    assert stdin is not None
    with suppress(ConnectionError):  # the command has closed its input
        while True:
            try:
                data = await process.stdin.read(_CHUNK_BYTES)
            except asyncssh.SignalReceived as received:
                _signal_group(group, getattr(signal, f"SIG{received.signal}", 0))
                continue
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            if not data:
                break
            stdin.write(data)
            await stdin.drain()
    stdin.close()


async def _forward_outputs(process: asyncssh.SSHServerProcess[bytes], child: _Child) -> None:
    """Forward both outputs of the command until it has exited."""
    assert child.stdout is not None
    assert child.stderr is not None
    await asyncio.gather(
        _forward_output(child.stdout, process.stdout, child.exited),
        _forward_output(child.stderr, process.stderr, child.exited),
        asyncio.shield(child.exited),
    )


async def _forward_output(source: asyncio.StreamReader, channel: asyncssh.SSHWriter[bytes], exited: asyncio.Future[None]) -> None:
    """Forward one output, no faster than the client reads. After the exit, a pipe kept by a detached child ends after a silence."""
    with suppress(ConnectionError, asyncssh.Error):  # the client is gone; the caller ends the command
        while True:
            reading = asyncio.ensure_future(source.read(_CHUNK_BYTES))
            try:
                first: set[asyncio.Future[Any]] = {reading, exited}
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({reading}, timeout=DETACHED_OUTPUT_TIMEOUT)
                if not reading.done() or not (data := reading.result()):
                    return
            finally:
                reading.cancel()
            channel.write(data)
            await channel.drain()


def _send_exit_status(process: asyncssh.SSHServerProcess[bytes], status: int) -> None:
    with suppress(OSError):  # the channel has been closed
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)


def _signal_group(group: int, signum: int) -> bool:
    """Signal a process group. False: it does not exist, or belongs to another user."""
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    except PermissionError:  # the remaining processes changed user by setuid
        return False
    return True


def _has_live_process(group: int) -> bool:
    """Whether a process group has a process that is no zombie; init may reap late. Without /proc, zombies count too."""
    if not _signal_group(group, 0) or not os.path.isdir("/proc/self"):
        return _signal_group(group, 0)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):  # exited meanwhile
                state, _, process_group = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[:3]
                if int(process_group) == group and state not in (b"Z", b"X"):
                    return True
    return False
