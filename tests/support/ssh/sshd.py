"""OpenSSH's own server for the tests: own port, own keys, own directory, as the user who runs the tests; it ends with its test."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.support.waiting import until

PROGRAM = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
needs_sshd = pytest.mark.skipif(PROGRAM is None, reason="no sshd: apt-get install openssh-server")


class Sshd:
    """One running server. ``log`` is what it says of every connection."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    @property
    def logins(self) -> int:
        """Requests to log in that reached it, whatever came of them."""
        return self.log.count("userauth-request for user")

    async def until(self, words: str, count: int = 1) -> None:
        """Wait until the log has the words that often: a server writes after the client has gone on."""
        await until(lambda: self.log.count(words) >= count)


def free_port() -> int:
    """A port that was free a moment ago; sshd cannot be told to let the kernel choose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _started(directory: Path) -> tuple[Sshd, asyncio.subprocess.Process]:
    """Start it on a port that is free, and on another one where somebody was faster."""
    assert PROGRAM is not None
    while True:
        server = Sshd(directory, free_port())
        command = [PROGRAM, "-D", "-e", "-f", str(directory / "config"), "-o", f"ListenAddress=127.0.0.1:{server.port}"]
        with (directory / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, stderr=log)
        await until(lambda: "Server listening" in server.log or process.returncode is not None)  # noqa: B023
        if process.returncode is None:
            return server, process
        if "Address already in use" not in server.log:
            pytest.skip(f"sshd does not start here: {server.log.strip().splitlines()[-1:]}")


@asynccontextmanager
async def sshd(
    directory: Path,
    host_keys: Iterable[asyncssh.SSHKey],
    client: asyncssh.SSHKey,
    certificates: Iterable[asyncssh.SSHCertificate] = (),
    **options: str,
) -> AsyncIterator[Sshd]:
    """Serve in a directory until the block ends. Skips the test where sshd cannot start."""
    assert PROGRAM is not None
    directory.mkdir(parents=True)
    (directory / "authorized").write_bytes(client.export_public_key())
    settings = {
        "AuthorizedKeysFile": str(directory / "authorized"),
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "LogLevel": "DEBUG1",
        "PermitRootLogin": "yes",
        "PasswordAuthentication": "no",
        "MaxStartups": "1000",
        "Subsystem": "sftp internal-sftp",
        **options,
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    for number, key in enumerate(host_keys):
        path = directory / f"host{number}"
        key.write_private_key(str(path))
        path.chmod(0o600)
        lines.append(f"HostKey {path}")
    for number, certificate in enumerate(certificates):
        certificate.write_certificate(str(directory / f"host{number}-cert.pub"))
        lines.append(f"HostCertificate {directory / f'host{number}-cert.pub'}")
    (directory / "config").write_text("\n".join(lines) + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates privileges
    server, process = await _started(directory)
    try:
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
