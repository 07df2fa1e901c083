"""Who we are: keys, agents and certificates against OpenSSH's own server, and what only a person knows, asked and kept nowhere."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
from paceline.engine.errors import NodeRefused, NodeUnreachable
from paceline.engine.specs import Inventory, NodeSpec
from paceline.engine.ssh import connect
from paceline.engine.ssh.connect import Connector, open_connection
from paceline.engine.ssh.fleet import Fleet
from paceline.engine.ssh.prompts import AskPerson, LoginPrompt

from tests.support.ssh.sshd import Sshd, needs_sshd, sshd
from tests.support.waiting import loop_turns, until

ME = getpass.getuser()


class Person:
    """Answers in turn, and remembers what was asked."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[LoginPrompt] = []

    async def __call__(self, question: LoginPrompt) -> str | None:
        self.asked.append(question)
        return self.answers.pop(0)

    @property
    def kinds(self) -> list[str]:
        return [question.kind for question in self.asked]


class House:
    """A home with keys, and servers that know some of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ssh = home / ".ssh"
        self.ssh.mkdir()
        self.stack = AsyncExitStack()

    def key(self, name: str, passphrase: str | None = None) -> asyncssh.SSHKey:
        """Make a key file; with a passphrase in the format that needs no more than what asyncssh has itself."""
        key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        key.write_private_key(str(self.home / name), "openssh" if passphrase is None else "pkcs8-pem", passphrase=passphrase)
        (self.home / name).chmod(0o600)
        return key

    async def real(self, name: str, client: asyncssh.SSHKey, **options: Any) -> Sshd:
        """A real server that knows one key."""
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        server = await self.stack.enter_async_context(sshd(self.home / name, [host_key], client, **options))
        self.know(host_key, server.port)
        return server

    async def asking(self, server: type[asyncssh.SSHServer], **options: Any) -> int:
        """Start a server that asks for more than keys; returns its port."""
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=server,
            server_host_keys=[host_key],
            process_factory=lambda process: process.exit(0),
            config=[],
            **options,
        )
        self.stack.push_async_callback(acceptor.wait_closed)
        self.stack.callback(acceptor.close)
        self.know(host_key, acceptor.get_port())
        return int(acceptor.get_port())

    def know(self, key: asyncssh.SSHKey, port: int) -> None:
        with (self.ssh / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)


@pytest_asyncio.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = House(tmp_path)
    async with made.stack:
        yield made


def node(port: int, **said: Any) -> NodeSpec:
    return NodeSpec(**{"name": "atlas", "host": "127.0.0.1", "port": port, "user": ME, **said})


async def visit(spec: NodeSpec, ask: AskPerson | None = None) -> None:
    """Connect, run something, leave."""
    connection = await open_connection(spec, ask=ask)
    assert (await connection.run("true")).exit_status == 0
    connection.close()
    await connection.wait_closed()


async def agent_with(house: House, *keys: str, passphrases: dict[str, str] | None = None) -> str:
    """A real ssh-agent that holds some keys; returns the path of its socket."""
    program = shutil.which("ssh-agent")
    if program is None:
        pytest.skip("no ssh-agent: apt-get install openssh-client")
    socket = str(house.home / "agent")
    process = await asyncio.create_subprocess_exec(program, "-D", "-a", socket, stdout=asyncio.subprocess.PIPE)

    async def end() -> None:
        process.terminate()
        await process.wait()

    house.stack.push_async_callback(end)
    assert process.stdout is not None
    await process.stdout.readline()  # written when it listens; the socket's name is there before
    async with asyncssh.connect_agent(socket) as agent:
        for name in keys:
            key = asyncssh.read_private_key(str(house.home / name), (passphrases or {}).get(name))
            certificate = house.home / f"{name}-cert.pub"
            await agent.add_keys([(key, str(certificate)) if certificate.exists() else key])
    return socket


@needs_sshd
async def test_an_identity_file_of_ssh_config_logs_in(house: House) -> None:
    server = await house.real("sshd", house.key("mine"))
    house.config(
        f"Host atlas\n  HostName 127.0.0.1\n  Port {server.port}\n  User {ME}\n  IdentityFile ~/missing\n  IdentityFile ~/mine\n"
    )
    await visit(NodeSpec("atlas"))


@needs_sshd
async def test_a_match_block_and_a_chain_of_jump_hosts_are_honoured(house: House) -> None:
    key = house.key("mine")
    first, second, last = [await house.real(name, key) for name in ("first", "second", "last")]
    house.config(
        f"Match originalhost atlas user {ME}\n  HostName 127.0.0.1\n  Port {last.port}\n  ProxyJump one,two\n"
        f"Host one\n  HostName 127.0.0.1\n  Port {first.port}\nHost two\n  HostName 127.0.0.1\n  Port {second.port}\n"
        f"Host *\n  IdentityFile ~/mine\n  User {ME}\n"
    )
    await visit(NodeSpec("atlas", user=ME))
    assert [server.logins > 0 for server in (first, second, last)] == [True, True, True]


@needs_sshd
async def test_match_final_is_honoured(house: House) -> None:
    server = await house.real("sshd", house.key("mine"))
    house.config(f"Match final host 127.0.0.1\n  Port {server.port}\n  IdentityFile ~/mine\nHost *\n  User {ME}\n")
    await visit(NodeSpec("127.0.0.1"))


@needs_sshd
async def test_a_certificate_of_an_authority_logs_in(house: House) -> None:
    authority, key = asyncssh.generate_private_key("ssh-ed25519"), house.key("mine")
    (house.home / "authority.pub").write_bytes(authority.export_public_key())
    authority.generate_user_certificate(key, "me", principals=[ME]).write_certificate(str(house.home / "signed.pub"))
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    server = await house.real("sshd", stranger, TrustedUserCAKeys=str(house.home / "authority.pub"))
    spec = node(server.port, key=str(house.home / "mine"))
    with pytest.raises(NodeRefused):
        await visit(spec)
    house.config("Host *\n  CertificateFile ~/signed.pub\n")
    await visit(spec)
    house.config("")
    (house.home / "signed.pub").rename(house.home / "mine-cert.pub")  # where ssh finds it by itself
    await visit(spec)


@needs_sshd
async def test_an_agent_of_the_environment_or_of_ssh_config_logs_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await house.real("sshd", house.key("mine"))
    socket = await agent_with(house, "mine")
    (house.home / "mine").unlink()
    with pytest.raises(NodeRefused, match="ssh-add"):
        await visit(node(server.port))
    monkeypatch.setenv("SSH_AUTH_SOCK", socket)
    await visit(node(server.port))
    house.config("Host *\n  IdentityAgent none\n")
    with pytest.raises(NodeRefused):
        await visit(node(server.port))
    monkeypatch.delenv("SSH_AUTH_SOCK")
    house.config("Host *\n  IdentityAgent ~/agent\n")
    await visit(node(server.port))


@needs_sshd
async def test_an_agent_signs_with_a_certificate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, key = asyncssh.generate_private_key("ssh-ed25519"), house.key("mine")
    (house.home / "authority.pub").write_bytes(authority.export_public_key())
    authority.generate_user_certificate(key, "me", principals=[ME]).write_certificate(str(house.home / "mine-cert.pub"))
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    server = await house.real("sshd", stranger, TrustedUserCAKeys=str(house.home / "authority.pub"))
    monkeypatch.setenv("SSH_AUTH_SOCK", await agent_with(house, "mine"))
    await visit(node(server.port))


@needs_sshd
async def test_identities_only_keeps_other_keys_of_the_agent_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await house.real("sshd", house.key("mine"), MaxAuthTries="2")
    for name in ("other1", "other2", "other3"):
        house.key(name)
    monkeypatch.setenv("SSH_AUTH_SOCK", await agent_with(house, "other1", "other2", "other3", "mine"))
    with pytest.raises(NodeRefused, match="Too many authentication failures"):
        await visit(node(server.port))
    house.config("Host *\n  IdentitiesOnly yes\n  IdentityFile ~/mine.pub\n")
    (house.home / "mine.pub").write_bytes(asyncssh.read_private_key(str(house.home / "mine")).export_public_key())
    (house.home / "mine").unlink()
    await visit(node(server.port))


@needs_sshd
async def test_a_passphrase_is_asked_for_unless_the_agent_holds_the_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = house.key("mine", "secret")
    (house.home / "mine.pub").write_bytes(key.export_public_key())
    server = await house.real("sshd", key)
    spec = node(server.port, key=str(house.home / "mine"))
    with pytest.raises(NodeRefused, match="ssh-add"):
        await visit(spec)
    assert server.logins == 0
    person = Person("wrong", "secret")
    await visit(spec, person)
    assert person.kinds == ["passphrase", "passphrase"]
    assert all(question.is_secret and str(house.home / "mine") in question.text for question in person.asked)
    monkeypatch.setenv("SSH_AUTH_SOCK", await agent_with(house, "mine", passphrases={"mine": "secret"}))
    await visit(spec)


@needs_sshd
async def test_a_key_in_the_format_of_ssh_keygen_is_unlocked_too(house: House) -> None:
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.skip("no ssh-keygen: apt-get install openssh-client")
    path = house.home / "mine"
    process = await asyncio.create_subprocess_exec(program, "-q", "-t", "ed25519", "-N", "secret", "-f", str(path))
    assert await process.wait() == 0
    key = asyncssh.read_private_key(str(path), "secret")
    server = await house.real("sshd", key)
    person = Person("wrong", "secret")
    await visit(node(server.port, key=str(path)), person)
    assert person.kinds == ["passphrase"] * 2


async def test_three_wrong_passphrases_or_none_end_it_before_any_connection(house: House) -> None:
    house.key("mine", "secret")
    spec = node(1, key=str(house.home / "mine"))
    with pytest.raises(NodeRefused, match="3 wrong passphrases"):
        await visit(spec, Person("a", "b", "c"))
    with pytest.raises(NodeRefused, match="no passphrase"):
        await visit(spec, Person(None))


async def test_eight_nodes_with_one_locked_key_ask_once(house: House) -> None:
    key = house.key("mine", "secret")
    ports = [await house.asking(asyncssh.SSHServer, authorized_client_keys=_authorized(key)) for _ in range(8)]
    asked: list[LoginPrompt] = []
    all_wait = asyncio.Event()

    async def person(question: LoginPrompt) -> str:
        asked.append(question)
        await all_wait.wait()
        return "secret"

    connector = Connector(person)
    opening = [asyncio.create_task(connector.open(node(port, name=f"n{port}", key=str(house.home / "mine")))) for port in ports]
    waiting = connector._ask._waiting  # type: ignore[union-attr]  # a Connector that can ask has a broker
    await until(lambda: asked and len(waiting) == 1 and sum(waiting.values()) == 8)
    all_wait.set()
    for connection in await asyncio.gather(*opening):
        connection.abort()
        await connection.wait_closed()
    assert len(asked) == 1


def _authorized(key: asyncssh.SSHKey) -> asyncssh.SSHAuthorizedKeys:
    return asyncssh.import_authorized_keys(key.export_public_key().decode())


class WithPassword(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def password_auth_supported(self) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return False

    def validate_password(self, username: str, password: str) -> bool:
        return password == "open"

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


class WithCode(asyncssh.SSHServer):
    """Lets in who knows the password, and then the code."""

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self._has_password = False
        return "", "Two steps.", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        if not self._has_password:
            self._has_password = True
            self._is_right = list(responses) == ["open"]
            return "", "", "", [("Verification code: ", True)]
        return self._is_right and list(responses) == ["123456"]


async def test_a_password_is_asked_for_and_asked_again_when_it_was_wrong(house: House) -> None:
    port = await house.asking(WithPassword)
    person = Person("wrong", "open")
    await visit(node(port), person)
    assert person.kinds == ["password", "password"]
    assert [question.text for question in person.asked] == [
        f"Password of {ME}@127.0.0.1",
        f"That was not it. Password of {ME}@127.0.0.1",
    ]


async def test_a_password_is_asked_for_three_times_at_most(house: House) -> None:
    port = await house.asking(WithPassword)
    with pytest.raises(NodeRefused, match="authentication at"):
        await visit(node(port), Person("a", "b", "c"))


async def test_without_a_person_a_password_is_refused_and_ssh_agent_named(house: House) -> None:
    port = await house.asking(WithPassword)
    with pytest.raises(NodeRefused, match="ssh-agent") as caught:
        await visit(node(port))
    assert caught.value.exit_status == 4
    with pytest.raises(NodeRefused, match="was not answered"):
        await visit(node(port), Person(None))


async def test_a_code_follows_a_password(house: House) -> None:
    port = await house.asking(WithCode)
    person = Person("open", "123456")
    await visit(node(port), person)
    assert [(question.kind, question.is_secret) for question in person.asked] == [("password", True), ("code", False)]
    assert "Two steps. Password:" in person.asked[0].text


async def test_a_jump_host_asks_too_and_is_named(house: House) -> None:
    gate, port = await house.asking(WithPassword), await house.asking(WithCode)
    person = Person("open", "open", "123456")
    await visit(node(port, jump=f"guard@127.0.0.1:{gate}"), person)
    assert person.kinds == ["password", "password", "code"]
    assert "guard@127.0.0.1" in person.asked[0].text


async def test_the_login_timeout_excludes_the_time_that_a_person_takes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    port = await house.asking(WithPassword)
    monkeypatch.setattr(connect, "LOGIN_TIMEOUT", 0.3)
    loop = asyncio.get_running_loop()

    async def slow(question: LoginPrompt) -> str:
        thought = loop.create_future()
        loop.call_later(0.6, thought.set_result, None)
        await thought
        return "open"

    await visit(node(port), slow)


async def test_a_login_that_never_ends_times_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(asyncssh.SSHServer):
        async def begin_auth(self, username: str) -> bool:
            await asyncio.Event().wait()
            return True

    port = await house.asking(Silent)
    monkeypatch.setattr(connect, "LOGIN_TIMEOUT", 0.2)
    with pytest.raises(NodeUnreachable, match="timed out"):
        await visit(node(port))


@pytest.mark.parametrize(
    ("greeting", "words"),
    [(b"Not allowed at this time\r\n", "PerSourcePenalties"), (b"Exceeded MaxStartups\r\n", "too many logins")],
)
async def test_the_greeting_of_a_server_that_refuses_connections_explains_the_error(
    house: House, greeting: bytes, words: str
) -> None:
    async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    with pytest.raises(NodeUnreachable, match=words):
        await visit(node(server.sockets[0].getsockname()[1]))
    server.close()


async def test_at_most_eight_log_in_at_one_jump_host_at_a_time(house: House) -> None:
    at_once: list[int] = [0, 0]

    class Gate(asyncssh.SSHServer):
        async def begin_auth(self, username: str) -> bool:
            at_once[0] += 1
            at_once[1] = max(at_once)
            await until(lambda: at_once[1] >= connect.MAX_LOGINS_PER_JUMP_HOST)
            await loop_turns(50)  # a ninth would come now
            at_once[0] -= 1
            return False

        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            return True

    gate = await house.asking(Gate)
    key = house.key("mine")
    port = await house.asking(asyncssh.SSHServer, authorized_client_keys=_authorized(key))
    house.config(
        f"Host gate\n  HostName 127.0.0.1\n  Port {gate}\nHost 127.0.0.1\n  ProxyJump gate\nHost *\n  IdentityFile ~/mine\n"
    )
    connector = Connector()
    unattended = connector.unattended()
    for connection in await asyncio.gather(
        *((unattended if i % 3 else connector).open(node(port, name=f"n{i}")) for i in range(24))
    ):
        connection.abort()
        await connection.wait_closed()
    assert at_once == [0, connect.MAX_LOGINS_PER_JUMP_HOST]


@needs_sshd
async def test_a_fleet_asks_for_what_its_nodes_need_and_then_they_report(house: House) -> None:
    key = house.key("mine", "secret")
    servers = [await house.real(name, key) for name in ("first", "second")]
    (house.ssh / "known_hosts").unlink()
    nodes = [
        node(
            server.port,
            name=name,
            key=str(house.home / "mine"),
            python=sys.executable,
            state_dir=str(house.home / "state"),
        )
        for name, server in zip(("atlas", "boreas"), servers, strict=True)
    ]
    asked: list[str] = []

    async def person(question: LoginPrompt) -> str:
        asked.append(question.kind)
        return "secret" if question.kind == "passphrase" else "yes"

    fleet = Fleet(Inventory(str(house.home / "nodes.toml"), tuple(nodes)), lambda event: None, ask=person)
    await fleet.start()
    try:
        for spec in nodes:
            assert (await fleet.link(spec.name)).hello.node == spec.name
        before = list(asked)
        with pytest.raises(NodeRefused, match="has a passphrase"):  # the host key that was accepted is known
            await fleet.open_second_link("atlas")
        assert asked == before
    finally:
        await fleet.close()
    assert asked.count("host key") == 2
    assert set(asked) == {"passphrase", "host key"}
    assert len((house.ssh / "known_hosts").read_text().splitlines()) == 2


async def test_closing_a_fleet_withdraws_its_prompts(house: House) -> None:
    house.key("mine", "secret")
    asking, withdrawn = asyncio.Event(), asyncio.Event()

    async def person(question: LoginPrompt) -> str | None:
        asking.set()
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return None

    spec = node(1, key=str(house.home / "mine"))
    fleet = Fleet(Inventory(str(house.home / "nodes.toml"), (spec,)), lambda event: None, ask=person)
    await fleet.start()
    await asking.wait()
    await fleet.close()
    assert withdrawn.is_set()


@needs_sshd
async def test_batch_ends_with_status_4_and_names_ssh_agent(house: House) -> None:
    key = house.key("mine", "secret")
    server = await house.real("sshd", key)
    told = f'host = "127.0.0.1"\nport = {server.port}\nuser = "{ME}"\nkey = "{house.home / "mine"}"\n'
    (house.home / "nodes.toml").write_text(f'[[node]]\nname = "atlas"\n{told}')
    (house.home / "nodes.toml").chmod(0o600)
    command = [sys.executable, "-m", "paceline.tui", "--nodes", str(house.home / "nodes.toml"), "--batch", "status"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    _, narration = await process.communicate()
    assert process.returncode == 4
    assert b"ssh-add" in narration
    assert server.logins == 0
