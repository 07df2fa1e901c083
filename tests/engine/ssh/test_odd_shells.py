"""Odd shells on a real sshd: whatever start files print, read, change or leave running, the node is reached as ssh reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from paceline.engine.errors import NodeUnreachable, PacelineError
from paceline.engine.events import Event, NodeReported
from paceline.engine.specs import DeviceSpec, NodeSpec
from paceline.engine.ssh import upload
from paceline.engine.ssh.bundle import bundle
from paceline.engine.ssh.link import Link
from paceline.engine.telemetry import progress

from tests.support.ssh.slow_line import KILOBITS_PER_SECOND, first_contact, slow_line
from tests.support.ssh.sshd import needs_sshd, sshd

pytestmark = needs_sshd
BASH = shutil.which("bash")
DEVICES = (DeviceSpec("a declared one", 1.0, 1 << 30), DeviceSpec("another", 1.0, 1 << 30))
SFTP_SERVER = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec:/usr/lib/ssh")
SFTP = f"case $SSH_ORIGINAL_COMMAND in internal-sftp) exec {SFTP_SERVER};; esac"
"""First line of a start file: the sftp subsystem reads no start file."""
SPED_UP = 12.0
"""How much faster than the line it stands for: rates, delays and limits alike."""
LOUD = {
    "words without a line end": "printf 'Loading modules... '",
    "a window title": r"printf '\033]0;%s\007' lab",
    "another directory": "cd /",
    "a line is read": "read -t 1 answer",
    "a line is read without a limit": "read answer",
    "a child in the background": "sleep 60 &",
    "a message of the day": "echo 'Welcome'; echo '{\"hello\": 3'; echo 42",
    "lines that look like ours": "echo 'paceline home'; echo paceline home x",
    "words on standard error": "echo trouble >&2",
    "all of it": "printf x; cd /tmp; sleep 60 & read -t 1 a; echo '[1, 2]'; printf 'y '",
}


@contextlib.asynccontextmanager
async def node(tmp_path: Path, start_file: str, python: str = sys.executable, **options: str) -> AsyncIterator[NodeSpec]:
    """A real sshd whose shell reads a start file first, as bash does with .bashrc."""
    client, host = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    key = tmp_path / "key"
    key.write_bytes(client.export_private_key())
    key.chmod(0o600)
    (tmp_path / "start").write_text(start_file + "\n")
    shell = tmp_path / "shell"  # the command is run after the start file and in one shell with it, as a login shell would
    shell.write_text(f'#!{BASH}\nHOME={tmp_path}/home; export HOME\n. {tmp_path}/start\neval "$SSH_ORIGINAL_COMMAND"\n')
    shell.chmod(0o755)
    (tmp_path / "home").mkdir()
    settings = {"ForceCommand": str(shell), "LogLevel": "INFO"} | options
    async with sshd(tmp_path / "sshd", [host], client, (), **settings) as server:
        yield NodeSpec(
            "odd",
            host="127.0.0.1",
            port=server.port,
            user=pwd.getpwuid(os.getuid()).pw_name,
            key=str(key),
            host_key=host.get_fingerprint(),
            python=python,
            devices=DEVICES,
            state_dir=str(tmp_path / "state"),
        )


async def devices_of(spec: NodeSpec) -> list[str]:
    """Names of the devices that the node reports once it is connected."""
    reported: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def listen(event: Event) -> None:
        if isinstance(event, NodeReported) and not reported.done():
            reported.set_result([device.name for device in event.devices])

    link = await Link.open(spec, None, listen, 0.2)
    try:
        return await reported
    finally:
        await link.close()


async def refusal(spec: NodeSpec) -> PacelineError:
    """Why the node cannot be used."""
    with pytest.raises(PacelineError) as raised:
        await devices_of(spec)
    return raised.value


@pytest.mark.parametrize(
    "start_file",
    [pytest.param(text, marks=() if what == "all of it" else pytest.mark.slow, id=what) for what, text in LOUD.items()],
)
async def test_a_start_file_changes_nothing(tmp_path: Path, start_file: str) -> None:
    async with node(tmp_path, f"{SFTP}\n{start_file}") as spec:
        assert await devices_of(spec) == [device.name for device in DEVICES]
        assert (tmp_path / "state" / "odd" / "bundles").exists(), "in its own place, whatever directory the shell is in"
        assert await devices_of(spec) == [device.name for device in DEVICES], "again, without an upload"


async def test_a_wrapper_around_python_may_speak_first(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!/bin/sh\necho Activating; printf 'conda: '\nexec {sys.executable} \"$@\"\n")
    wrapper.chmod(0o755)
    async with node(tmp_path, SFTP, python=str(wrapper)) as spec:
        assert await devices_of(spec) == [device.name for device in DEVICES]


async def test_one_session_suffices_to_watch_a_node(tmp_path: Path) -> None:
    async with node(tmp_path, SFTP, MaxSessions="1") as spec:
        assert await devices_of(spec) == [device.name for device in DEVICES]
        link = await Link.open(spec, None, lambda event: None)
        with pytest.raises(NodeUnreachable, match="MaxSessions of its sshd may be 1"):
            await link.sftp()
        await link.close()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("echo This account is currently not available.; exit 1", "no shell: This account is currently not available."),
        ("echo 'Your account has expired; please contact your system administrator.' >&2; exit 1", "account has expired"),
        ("printf 'menu: 1 mail 2 quit '; exit 0", "no shell: menu: 1 mail 2 quit"),
    ],
)
async def test_what_a_shell_prints_instead_of_running_commands_is_the_reason(tmp_path: Path, command: str, told: str) -> None:
    async with node(tmp_path, "", ForceCommand=f'/bin/sh -c "{command}"' if "'" not in command else command) as spec:
        error = await refusal(spec)
    assert told in error.reason
    assert "ForceCommand" in (error.hint or "")


async def test_a_start_file_that_never_ends_is_named_with_what_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.ssh.link.HELLO_TIMEOUT", 2.0)
    async with node(tmp_path, "echo Choose a project; sleep 30") as spec:
        error = await refusal(spec)
    assert error.reason == "no hello from the agent within 2 s; it printed 'Choose a project'"


@pytest.mark.parametrize("start_file", ["echo Welcome", "printf 'Loading '", "read answer"])
async def test_files_are_sent_although_a_start_file_speaks_or_reads_in_front_of_sftp(
    tmp_path: Path, start_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paceline.engine.ssh.sftp.SFTP_TIMEOUT", 3.0)
    async with node(tmp_path, start_file, Subsystem=f"sftp {SFTP_SERVER}") as spec:
        assert await devices_of(spec) == [device.name for device in DEVICES]


async def test_files_are_sent_where_the_server_has_no_subsystem_for_them(tmp_path: Path) -> None:
    async with node(tmp_path, "", Subsystem="other /bin/false") as spec:
        assert await devices_of(spec) == [device.name for device in DEVICES]


async def test_a_node_without_any_way_to_send_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.ssh.sftp.SERVER_PLACES", ("/nowhere",))
    async with node(tmp_path, "", Subsystem="other /bin/false") as spec:
        error = await refusal(spec)
    assert "needs its sftp subsystem, or the program sftp-server" in (error.hint or ""), error


async def test_a_colon_in_the_state_directory_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with node(tmp_path, SFTP) as spec:
        error = await refusal(replace(spec, state_dir=str(tmp_path / "lab:2026")))
    assert "contains a colon" in error.reason
    assert "state_dir" in (error.hint or "")


@pytest.mark.slow
@pytest.mark.parametrize("kilobits", KILOBITS_PER_SECOND)
async def test_a_slow_line_ends_in_a_connection_shows_progress_and_leaves_no_part_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kilobits: int
) -> None:
    """At 600 ms there and back, with the keep-alive of a link: what is sent never delays its answer for long."""
    monkeypatch.setattr("paceline.engine.ssh.connect.KEEPALIVE_INTERVAL", 3.0 / SPED_UP)
    monkeypatch.setattr(upload, "_QUICK_BLOCK_S", upload._QUICK_BLOCK_S / SPED_UP)
    monkeypatch.setattr(upload, "_SLOW_BLOCK_S", upload._SLOW_BLOCK_S / SPED_UP)
    monkeypatch.setattr(progress, "MIN_PUBLISH_INTERVAL", progress.MIN_PUBLISH_INTERVAL / SPED_UP)
    monkeypatch.setattr(progress, "MIN_TRANSFER_SECONDS", progress.MIN_TRANSFER_SECONDS / SPED_UP)
    async with node(tmp_path, SFTP) as spec, slow_line(spec.port or 0, kilobits * 125.0 * SPED_UP, 0.3 / SPED_UP) as port:
        contact = await first_contact(replace(spec, port=port), tmp_path)
    assert contact.error is None
    assert len(contact.fractions) >= 3, "a person sees that it goes on"
    assert contact.fractions == sorted(contact.fractions)
    bundles = tmp_path / "state" / "odd" / "bundles"
    assert [path.name for path in bundles.iterdir()] == [bundle().name]


async def test_a_jump_host_that_forbids_forwarding_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with node(tmp_path, "", AllowTcpForwarding="no") as spec:
        ssh = tmp_path / ".ssh"
        ssh.mkdir()
        shutil.copy(spec.key or "", ssh / "id_ed25519")
        host = (tmp_path / "sshd" / "host0").read_bytes()
        known = asyncssh.import_private_key(host).export_public_key().decode()
        (ssh / "known_hosts").write_text(f"[127.0.0.1]:{spec.port} {known}")
        error = await refusal(replace(spec, jump=f"{spec.user}@127.0.0.1:{spec.port}"))
    assert "AllowTcpForwarding" in (error.hint or ""), error


async def test_a_server_without_a_common_algorithm_is_named(tmp_path: Path) -> None:
    async with node(tmp_path, "", Ciphers="aes128-cbc") as spec:
        for _ in range(20):  # a server that hangs up before its last words are read is tried again, as the fleet does
            error = await refusal(spec)
            if error.hint:
                break
    assert "ciphers" in (error.hint or "").lower(), error
