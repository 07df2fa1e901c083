"""Whom a connection trusts: pins, known_hosts, ~/.ssh/config and jump hosts, against real servers; in doubt it is refused."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
from paceline.engine.errors import NodeRefused, NodeUnreachable
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh import connect
from paceline.engine.ssh.connect import open_connection
from paceline.engine.ssh.prompts import AskPerson, LoginPrompt

from tests.support.ssh.sshd import needs_sshd, sshd


class Machine:
    """An SSH server of the tests, which also lets itself be jumped through, and the one client key it knows."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.key_file = home / "client"
        client = asyncssh.generate_private_key("ssh-ed25519")
        client.write_private_key(str(self.key_file))
        self.authorized = asyncssh.import_authorized_keys(client.export_public_key().decode())
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self.users: list[str] = []
        self.jumps: list[int] = []
        self.acceptor: asyncssh.SSHAcceptor

    async def start(self) -> None:
        machine = self

        class Server(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                machine.users.append(username)
                return True

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                machine.jumps.append(dest_port)
                return True

        self.acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Server,
            server_host_keys=[self.host_key],
            authorized_client_keys=self.authorized,
            process_factory=lambda process: process.exit(0),
            config=[],
        )
        self.port = self.acceptor.get_port()

    @property
    def fingerprint(self) -> str:
        return self.host_key.get_fingerprint()

    def spec(self, **said: Any) -> NodeSpec:
        return NodeSpec(
            **{"name": "atlas", "host": "127.0.0.1", "port": self.port, "user": "lab", "key": str(self.key_file), **said}
        )

    def known(self, key: asyncssh.SSHKey, host: str | None = None) -> None:
        """Put a key into ~/.ssh/known_hosts."""
        name = host or f"[127.0.0.1]:{self.port}"
        with (self.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(f"{name} {key.export_public_key().decode()}")

    def config(self, text: str) -> None:
        (self.home / ".ssh" / "config").write_text(text)


@pytest_asyncio.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    served = Machine(tmp_path)
    await served.start()
    yield served
    served.acceptor.close()
    await served.acceptor.wait_closed()


async def visit(spec: NodeSpec, ask: AskPerson | None = None) -> None:
    """Connect, run something, leave."""
    connection = await open_connection(spec, ask=ask)
    assert (await connection.run("true")).exit_status == 0
    connection.close()
    await connection.wait_closed()


async def test_a_pinned_key_is_trusted(machine: Machine) -> None:
    await visit(machine.spec(host_key=machine.fingerprint))
    assert machine.users == ["lab"]


async def test_a_key_in_known_hosts_is_trusted(machine: Machine) -> None:
    machine.known(machine.host_key)
    await visit(machine.spec())


async def test_an_unknown_key_is_refused_with_its_fingerprint_before_anyone_logs_in(machine: Machine) -> None:
    with pytest.raises(NodeRefused, match=r"atlas: the host key of 127\.0\.0\.1 is unknown: ") as caught:
        await open_connection(machine.spec())
    assert machine.fingerprint in caught.value.reason
    assert caught.value.exit_status == 4
    assert machine.users == []


async def test_a_changed_key_is_a_hard_stop(machine: Machine) -> None:
    machine.known(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(NodeRefused, match="CHANGED") as caught:
        await open_connection(machine.spec())
    assert machine.fingerprint in caught.value.reason
    assert machine.users == []


async def test_a_pin_wins_over_known_hosts(machine: Machine) -> None:
    machine.known(machine.host_key)
    other = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint()
    with pytest.raises(NodeRefused, match=r"but nodes\.toml pins"):
        await open_connection(machine.spec(host_key=other))
    assert machine.users == []


async def test_a_revoked_key_is_refused(machine: Machine) -> None:
    machine.known(machine.host_key)
    machine.known(machine.host_key, f"@revoked [127.0.0.1]:{machine.port}")
    with pytest.raises(NodeRefused, match="revoked"):
        await open_connection(machine.spec())


async def test_a_config_that_switches_checking_off_is_refused(machine: Machine) -> None:
    machine.config("Host *\n  UserKnownHostsFile none\n")
    with pytest.raises(NodeRefused, match="switches host key checks off"):
        await open_connection(machine.spec())
    await visit(machine.spec(host_key=machine.fingerprint))


async def test_a_wrong_client_key_is_refused(machine: Machine) -> None:
    other = machine.home / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(other))
    with pytest.raises(NodeRefused, match=r"authentication at 127\.0\.0\.1 failed"):
        await open_connection(machine.spec(host_key=machine.fingerprint, key=str(other)))


async def test_a_key_that_is_missing_or_locked_is_named(machine: Machine) -> None:
    with pytest.raises(NodeRefused, match=r"the key for 127\.0\.0\.1 cannot be read.*nowhere"):
        await open_connection(machine.spec(host_key=machine.fingerprint, key="/nowhere/key"))
    locked = machine.home / "locked"
    asyncssh.generate_private_key("ssh-rsa", key_size=2048).write_private_key(str(locked), "pkcs8-pem", passphrase="secret")
    with pytest.raises(NodeRefused, match=r"locked for 127\.0\.0\.1 has a passphrase \(unlock it first: ssh-add "):
        await open_connection(machine.spec(host_key=machine.fingerprint, key=str(locked)))
    assert machine.users == []


async def test_ssh_config_gives_what_nodes_toml_leaves_out(machine: Machine) -> None:
    machine.config(
        f"Host atlas\n  HostName 127.0.0.1\n  Port {machine.port}\n  User configured\n  IdentityFile {machine.key_file}\n"
    )
    machine.known(machine.host_key)
    await visit(NodeSpec("atlas"))
    assert machine.users == ["configured"]


async def test_a_node_wins_over_ssh_config_and_that_over_the_defaults(machine: Machine) -> None:
    machine.config("Host *\n  User configured\n")
    machine.known(machine.host_key)
    await visit(machine.spec(user="own"))
    await visit(machine.spec(user="default", inherited=("user",)))
    machine.config("")
    await visit(machine.spec(user="default", inherited=("user",)))
    assert machine.users == ["own", "configured", "default"]


async def test_a_jump_host_is_verified_like_the_node(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    gate = Machine(tmp_path / "gate")
    gate.authorized = machine.authorized
    await gate.start()
    machine.config(f"Host *\n  IdentityFile {machine.key_file}\n")
    spec = machine.spec(jump=f"me@127.0.0.1:{gate.port}", host_key=machine.fingerprint)
    with pytest.raises(NodeRefused, match=f"unknown: {gate.fingerprint.replace('+', '.')}"):
        await open_connection(spec)
    assert (gate.users, gate.jumps, machine.users) == ([], [], [])
    machine.known(gate.host_key, f"[127.0.0.1]:{gate.port}")
    await visit(spec)
    assert (gate.users, gate.jumps, machine.users) == (["me"], [machine.port], ["lab"])
    gate.acceptor.close()
    await gate.acceptor.wait_closed()


async def test_a_jump_host_of_ssh_config_is_verified_too(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    gate = Machine(tmp_path / "gate")
    gate.authorized = machine.authorized
    await gate.start()
    machine.config(
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  UserKnownHostsFile none\n"
        f"Host *\n  User me\n  IdentityFile {machine.key_file}\n"
        f"Host 127.0.0.1\n  ProxyJump gate\n"
    )
    with pytest.raises(NodeRefused, match="switches host key checks off for gate"):
        await open_connection(machine.spec(host_key=machine.fingerprint))
    assert (gate.users, machine.users) == ([], [])
    gate.acceptor.close()
    await gate.acceptor.wait_closed()


async def test_a_cycle_of_jump_hosts_is_refused(machine: Machine) -> None:
    machine.config("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(NodeRefused, match="jump hosts"):
        await open_connection(NodeSpec("a"))


async def test_a_closed_port_and_an_unknown_name_are_unreachable(machine: Machine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NodeUnreachable, match=r"atlas: 127\.0\.0\.1: "):
            await open_connection(machine.spec(port=free.getsockname()[1]))
    with pytest.raises(NodeUnreachable, match=r"nowhere\.invalid"):
        await open_connection(machine.spec(host="nowhere.invalid"))


async def test_a_server_that_says_nothing_is_unreachable(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(connect, "LOGIN_TIMEOUT", 0.2)

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    silent = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    with pytest.raises(NodeUnreachable):
        await open_connection(machine.spec(port=silent.sockets[0].getsockname()[1]))
    silent.close()


@needs_sshd
async def test_a_connection_to_openssh_runs_commands_and_sftp(machine: Machine, tmp_path: Path) -> None:
    client = asyncssh.read_private_key(str(machine.key_file))
    async with sshd(tmp_path / "real", [machine.host_key], client) as server:
        spec = machine.spec(port=server.port, user=getpass.getuser())
        with pytest.raises(NodeRefused, match="is unknown"):
            await open_connection(spec)
        machine.known(machine.host_key, f"[127.0.0.1]:{server.port}")
        connection = await open_connection(spec)
        assert (await connection.run("echo there")).stdout == "there\n"
        async with connection.start_sftp_client() as sftp:
            assert await sftp.exists("/")
        connection.close()
        await connection.wait_closed()


async def test_an_unknown_key_is_asked_about_once_and_written_down_as_ssh_would(machine: Machine) -> None:
    asked: list[LoginPrompt] = []

    async def agree(question: LoginPrompt) -> str:
        asked.append(question)
        return "yes"

    known = machine.home / ".ssh" / "known_hosts"
    known.write_text("# a last line without its end")
    await visit(machine.spec(), agree)
    assert [(question.kind, question.host, question.is_secret) for question in asked] == [("host key", "127.0.0.1", False)]
    assert machine.fingerprint in asked[0].text
    line = f"[127.0.0.1]:{machine.port} {machine.host_key.export_public_key().decode().strip()}"
    assert known.read_text() == f"# a last line without its end\n{line}\n"
    await visit(machine.spec())
    known.unlink()
    machine.config("Host *\n  HashKnownHosts yes\n")
    await visit(machine.spec(), agree)
    assert known.read_text().startswith("|1|")
    assert known.stat().st_mode & 0o777 == 0o600
    await visit(machine.spec())
    assert len(asked) == 2


async def test_a_declined_host_key_is_refused_before_any_login(machine: Machine) -> None:
    async def decline(question: LoginPrompt) -> None:
        return None

    with pytest.raises(NodeRefused, match="is unknown"):
        await open_connection(machine.spec(), ask=decline)
    assert machine.users == []
    assert not (machine.home / ".ssh" / "known_hosts").exists()


async def test_no_person_is_asked_about_a_changed_or_revoked_key_or_a_wrong_pin(machine: Machine) -> None:
    async def never(question: LoginPrompt) -> str:
        raise AssertionError(question)

    machine.known(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(NodeRefused, match="CHANGED"):
        await open_connection(machine.spec(), ask=never)
    machine.known(machine.host_key, "@revoked *")
    for spec in (machine.spec(), machine.spec(host_key=machine.fingerprint)):
        with pytest.raises(NodeRefused, match="revoked"):
            await open_connection(spec, ask=never)
    assert machine.users == []


async def test_a_revocation_for_one_port_holds_though_the_key_is_known_for_the_host(machine: Machine) -> None:
    machine.known(machine.host_key, "127.0.0.1")
    await visit(machine.spec())
    machine.known(machine.host_key, f"@revoked [127.0.0.1]:{machine.port}")
    with pytest.raises(NodeRefused, match="revoked"):
        await open_connection(machine.spec())


async def test_a_key_of_another_port_is_unknown_here_and_not_changed(machine: Machine) -> None:
    machine.known(asyncssh.generate_private_key("ssh-ed25519"), "127.0.0.1")
    with pytest.raises(NodeRefused, match="is unknown"):
        await open_connection(machine.spec())


async def test_a_key_known_by_address_does_not_speak_for_a_name(machine: Machine) -> None:
    machine.known(machine.host_key)
    with pytest.raises(NodeRefused, match="is unknown"):
        await open_connection(machine.spec(host="localhost"))


async def test_a_broken_line_of_known_hosts_is_skipped_and_named(machine: Machine) -> None:
    known_hosts = machine.home / ".ssh" / "known_hosts"
    known_hosts.write_bytes(b"# caf\xe9\n<<<<<<< HEAD\n=\nbroken\nhost ssh-ed25519 AAAA\n|1|x|y ssh-ed25519 AAAA\n")
    machine.known(machine.host_key)
    warnings: list[tuple[str, str]] = []
    connector = connect.Connector(warn=lambda node, text: warnings.append((node, text)))
    for _ in range(2):
        connection = await connector.open(machine.spec())
        connection.close()
        await connection.wait_closed()
    assert warnings == [("atlas", f"{known_hosts}:{number}: not a line of known_hosts: skipped") for number in range(2, 7)]


async def test_a_known_hosts_file_whose_revocations_cannot_be_read_refuses_every_key(machine: Machine) -> None:
    machine.known(machine.host_key)
    with (machine.home / ".ssh" / "known_hosts").open("a") as file:
        file.write("@revoked * ssh-ed25519 broken\n")
    with pytest.raises(NodeRefused, match=r"known_hosts:2: this revocation cannot be read"):
        await open_connection(machine.spec())


@pytest.mark.parametrize("pinned", range(3), ids=["ed25519", "ecdsa", "rsa"])
async def test_a_pin_of_any_kind_of_key_is_found(machine: Machine, pinned: int) -> None:
    keys = [
        machine.host_key,
        asyncssh.generate_private_key("ecdsa-sha2-nistp256"),
        asyncssh.generate_private_key("ssh-rsa", key_size=2048),
    ]
    acceptor = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=keys, authorized_client_keys=machine.authorized, process_factory=_leave, config=[]
    )
    await visit(machine.spec(port=acceptor.get_port(), host_key=keys[pinned].get_fingerprint()))
    stranger = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint()
    with pytest.raises(NodeRefused, match=r"but nodes\.toml pins") as caught:
        await open_connection(machine.spec(port=acceptor.get_port(), host_key=stranger))
    assert all(key.get_fingerprint() in caught.value.reason for key in keys)
    acceptor.close()
    await acceptor.wait_closed()


def _leave(process: asyncssh.SSHServerProcess[str]) -> None:
    process.exit(0)


async def test_a_changed_kind_of_key_is_a_changed_key(machine: Machine) -> None:
    machine.known(asyncssh.generate_private_key("ssh-rsa", key_size=2048))
    with pytest.raises(NodeRefused, match="CHANGED"):
        await open_connection(machine.spec())


OFF = (
    "StrictHostKeyChecking no",
    "StrictHostKeyChecking=off",
    "stricthostkeychecking accept-new",
    "UserKnownHostsFile none",
    "UserKnownHostsFile /dev/null",
    "UserKnownHostsFile ~/.ssh/known_hosts /dev/null",
    "NoHostAuthenticationForLocalhost yes",
)


@pytest.mark.parametrize("line", OFF)
@pytest.mark.parametrize("block", ["Host 127.0.0.1", "Match host 127.0.0.1", "Match final all"])
async def test_a_line_that_switches_checking_off_is_refused_by_name(machine: Machine, line: str, block: str) -> None:
    machine.known(machine.host_key)
    machine.config(f"{block}\n  {line}\n")
    with pytest.raises(NodeRefused, match=r"switches host key checks off for 127\.0\.0\.1 \(") as caught:
        await open_connection(machine.spec())
    assert line.replace("=", " ").split()[0].lower() in caught.value.reason.lower()
    assert machine.users == []
    machine.config(f"Host elsewhere\n  {line}\n")
    await visit(machine.spec())


@pytest.mark.parametrize("line", OFF)
async def test_such_a_line_for_a_jump_host_is_refused_though_the_node_is_pinned(machine: Machine, line: str) -> None:
    machine.config(f"Host gate\n  HostName 127.0.0.1\n  Port 1\n  {line}\nHost 127.0.0.1\n  ProxyJump gate\n")
    with pytest.raises(NodeRefused, match="switches host key checks off for gate"):
        await open_connection(machine.spec(host_key=machine.fingerprint))


async def test_options_that_keep_host_key_checks_on_are_accepted(machine: Machine) -> None:
    machine.known(machine.host_key)
    for line in ("StrictHostKeyChecking yes", "StrictHostKeyChecking ask", "NoHostAuthenticationForLocalhost no"):
        machine.config(f"Host *\n  {line}\n")
        await visit(machine.spec())


async def test_one_flipped_byte_in_the_exchange_is_no_changed_key(machine: Machine) -> None:
    machine.known(machine.host_key)
    genuine, seen = machine.port, 0
    blob = machine.host_key.convert_to_public().public_data

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        number = seen
        there, back = await asyncio.open_connection("127.0.0.1", genuine)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_noisy: bool) -> None:
            while data := await source.read(65536):
                sink.write(data.replace(blob, blob[:-1] + bytes([blob[-1] ^ 1])) if is_noisy else data)
            sink.close()

        await asyncio.gather(carry(reader, back, False), carry(there, writer, number == 1))

    line = await asyncio.start_server(lead, "127.0.0.1", 0)
    port = line.sockets[0].getsockname()[1]
    machine.known(machine.host_key, f"[127.0.0.1]:{port}")
    await visit(machine.spec(port=port))
    assert (seen, machine.users) == (2, ["lab"])
    line.close()


async def test_the_log_names_the_node_and_the_reason_and_no_secret(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="paceline.engine.ssh")
    await visit(machine.spec(host_key=machine.fingerprint))
    assert "atlas: logged in" in caplog.messages
    machine.known(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(NodeRefused):
        await open_connection(machine.spec())
    assert [message for message in caplog.messages if message.startswith("atlas: host key not trusted: Changed: ")]
    assert machine.key_file.read_text() not in caplog.text
