"""Opens the SFTP channel of a connection, whatever the start files of the login shell print or read.

sshd starts an sftp-server that is a program by the login shell. What a start file prints in front of it is no SFTP, and one that
reads a line eats the first packet; some servers have no subsystem. Then the same program is started by a command that says when the
start files are done (https://www.openssh.com/faq.html#2.9 names the problem; sftp(1) has no way out of it).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import asyncssh

from ..errors import NodeUnreachable

SFTP_TIMEOUT = 15.0
"""Seconds for the channel to open one way."""
CHANNEL_RETRIES, CHANNEL_RETRY_INTERVAL = 4, 0.25
"""How often a refused channel is asked for again, and the seconds between."""
MAX_NOISE_BYTES = 1 << 20
"""Bytes that start files may print."""
SERVER_PLACES = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh", "/usr/lib64/ssh", "/usr/local/libexec")
"""Where systems keep OpenSSH's sftp-server, beside PATH."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def open_sftp(connection: asyncssh.SSHClientConnection, node: str, is_noisy: bool) -> asyncssh.SFTPClient:
    """Open the channel. ``is_noisy``: the start files of the shell were seen to print. Raises NodeUnreachable."""

    async def by_subsystem() -> asyncssh.SFTPClient:
        return await _speak(connection, await connection.open_session(subsystem="sftp", encoding=None), None)

    async def by_command() -> asyncssh.SFTPClient:
        word = secrets.token_hex(16)
        words = (f"begun-{word}", f"go-{word}")
        return await _speak(connection, await connection.open_session(server_command(*words), encoding=None), words)

    ways = [by_command, by_subsystem] if is_noisy else [by_subsystem, by_command]
    failures: list[Exception] = []
    for way in ways:
        try:
            async with asyncio.timeout(SFTP_TIMEOUT):
                return await open_channel(way)
        except TimeoutError:
            failures.append(OSError(f"no answer within {SFTP_TIMEOUT:.0f} s"))
        except (asyncssh.Error, OSError, EOFError) as error:
            failures.append(error)
        logger.debug("%s: no SFTP channel: %r", node, failures[-1])
        if _is_no_channel(failures[-1]):
            break  # another session is not allowed either
    failure = failures[-1 if is_noisy else 0]
    raise NodeUnreachable(f"no SFTP channel: {_text(failure)}", node=node, hint=_hint(failure)) from None


async def open_channel(start: Callable[[], Awaitable[T]]) -> T:
    """A channel of a connection. sshd may still be ending the one before it where it allows one session at a time."""
    for _ in range(CHANNEL_RETRIES):
        try:
            return await start()
        except asyncssh.ChannelOpenError as error:
            if not _is_no_channel(error):
                raise
            await asyncio.sleep(CHANNEL_RETRY_INTERVAL)
    return await start()


async def _speak(
    connection: asyncssh.SSHClientConnection, session: tuple[Any, Any, Any], words: tuple[str, str] | None
) -> asyncssh.SFTPClient:
    """Begin SFTP on a session, for a command behind its words. Raises asyncssh's errors; EOFError where there is no sftp-server."""
    writer, reader, _ = session
    try:
        if words is not None:
            begun, go = (f"{word}\n".encode() for word in words)
            writer.write(b"\n")  # for a start file that reads a line
            noise = b""
            while begun not in noise:
                chunk = await reader.read(4096)
                if not chunk or len(noise) > MAX_NOISE_BYTES:
                    raise EOFError("its shell starts no sftp-server")
                noise += chunk
            writer.write(go)
        ready = cast(asyncssh.SSHClientConnection, _ReadySession(connection, session))
        return await asyncssh.SSHClientConnection.start_sftp_client(ready)
    except BaseException:
        writer.close()
        raise


def server_command(begun: str, go: str) -> str:
    """The command: it prints one word, reads up to another, and becomes sftp-server."""
    places = " ".join(f"{place}/sftp-server" for place in SERVER_PLACES)
    script = (
        f'for s in "$(command -v sftp-server)" {places}; do [ -x "$s" ] || continue; '
        f'echo {begun}; while IFS= read -r l; do [ "$l" != {go} ] || exec "$s"; done; exit 1; done; exit 127'
    )
    return "exec " + shlex.join(["/bin/sh", "-c", script])


class _ReadySession:
    """A connection whose next session is one that is open already: asyncssh has no other way to speak SFTP on it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, session: tuple[Any, Any, Any]) -> None:
        self._connection, self._session = connection, session

    async def open_session(self, *args: Any, **options: Any) -> tuple[Any, Any, Any]:
        return self._session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _is_no_channel(error: Exception) -> bool:
    """Whether the server opened no channel, as opposed to one on which it does not start what was asked for."""
    return isinstance(error, asyncssh.ChannelOpenError) and error.code != asyncssh.OPEN_REQUEST_SESSION_FAILED


def _hint(error: Exception) -> str:
    """What to look at where no channel opens."""
    if _is_no_channel(error):
        return "MaxSessions of its sshd may be 1: Paceline needs 2 to send data"
    if "packet" in _text(error).lower():
        return "a start file of its shell prints text: print in interactive shells only"
    return "sshd needs its sftp subsystem, or the program sftp-server on the node"


def _text(error: Exception) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
