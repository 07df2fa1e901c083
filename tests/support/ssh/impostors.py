"""Men in the middle: genuine servers, impostors in their place, and every way in which a client may know the genuine ones.

An impostor lets everybody in who asks, and counts who does: nobody may.
"""

from __future__ import annotations

import asyncio
import base64
import getpass
import hmac
import itertools
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from paceline.engine.errors import NodeRefused
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh.connect import open_connection
from paceline.engine.ssh.prompts import LoginPrompt

from tests.support.ssh.sshd import PROGRAM, Sshd, sshd

ATTACKS = ("unknown", "changed", "revoked", "wrong port", "swapped jump host")
TRUST = ("pin", "plain", "hashed", "alias", "authority")
ROUTES = ("direct", "jump")
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
SERVERS = ("asyncssh", "sshd")


@dataclass(frozen=True)
class Case:
    """One attack on one connection."""

    attack: str
    trust: str
    route: str
    kind: str
    server: str


def cases() -> list[Case]:
    """Every combination that means something."""
    found = []
    for attack, trust, route, kind, server in itertools.product(ATTACKS, TRUST, ROUTES, KINDS, SERVERS):
        is_senseless = (attack == "unknown" and trust == "pin") or (attack == "swapped jump host" and route == "direct")
        if not is_senseless and (server != "sshd" or PROGRAM is not None):
            found.append(Case(attack, trust, route, kind, server))
    return found


class Server(asyncssh.SSHServer):
    """asyncssh's server, which writes down who asks to be let in."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def begin_auth(self, username: str) -> bool:
        self._place.users.append(username)
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True


class Place:
    """One machine: a key with a certificate, and a server that shows both."""

    def __init__(self, key: asyncssh.SSHKey, authority: asyncssh.SSHKey, names: list[str]) -> None:
        """``names``: what its certificate calls it."""
        self.key = key
        self.authority = authority
        self.names = names
        self.port = 0
        self.users: list[str] = []
        self.real: Sshd | None = None

    @property
    def logins(self) -> int:
        """How often somebody asked to be let in."""
        return len(self.users) + (self.real.logins if self.real is not None else 0)

    @asynccontextmanager
    async def served(self, directory: Path, client: asyncssh.SSHKey, by: str) -> AsyncIterator[Place]:
        certificate = self.authority.generate_host_certificate(self.key, "host", principals=self.names)
        if by == "sshd":
            async with sshd(directory, [self.key], client, [certificate]) as self.real:
                self.port = self.real.port
                yield self
            return
        acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: Server(self),
            server_host_keys=[(self.key, certificate)],
            authorized_client_keys=asyncssh.import_authorized_keys(client.export_public_key().decode()),
            process_factory=lambda process: process.exit(0),
            config=[],
        )
        self.port = acceptor.get_port()
        yield self
        acceptor.close()
        await acceptor.wait_closed()


class Switch:
    """The network: an address that leads to whom the attacker wants."""

    def __init__(self) -> None:
        self.target = 0
        self.port = 0
        self._going: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def on(self) -> AsyncIterator[Switch]:
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until every connection that went through has ended."""
        while self._going:
            await asyncio.wait(self._going)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


class Stage:
    """All machines of all cases, started once: for each server and kind of key a node, a gate, another gate and an impostor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = asyncssh.generate_private_key("ssh-ed25519")
        self.client_file = directory / "client"
        self.client.write_private_key(str(self.client_file))
        self.places: dict[tuple[str, str, str], Place] = {}
        self.node, self.gate, self.wrong_door = Switch(), Switch(), Switch()

    @asynccontextmanager
    async def set(self) -> AsyncIterator[Stage]:
        authority, rogue = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        async with AsyncExitStack() as stack:
            for switch in (self.node, self.gate, self.wrong_door):
                await stack.enter_async_context(switch.on())
            for server, kind, role in itertools.product(SERVERS, KINDS, ("node", "gate", "other gate", "impostor")):
                if server == "sshd" and PROGRAM is None:
                    continue
                options: dict[str, Any] = {"key_size": 2048} if kind == "ssh-rsa" else {}
                key = asyncssh.generate_private_key(kind, **options)
                names = ["elsewhere"] if role == "other gate" else ["127.0.0.1", "atlas", "gate"]
                place = Place(key, rogue if role == "impostor" else authority, names)
                await stack.enter_async_context(
                    place.served(self.directory / f"{server}-{kind}-{role}".replace(" ", "-"), self.client, server)
                )
                self.places[server, kind, role] = place
            yield self


def known(trust: str, place: Place, port: int, alias: str) -> str:
    """The line of known_hosts by which a client knows a machine; empty for a pin."""
    key = place.key.export_public_key().decode().strip()
    name = f"[127.0.0.1]:{port}"
    if trust == "plain":
        return f"{name} {key}\n"
    if trust == "alias":
        return f"{alias} {key}\n"
    if trust == "hashed":
        salt = b"0123456789abcdefghij"
        hidden = hmac.new(salt, name.encode(), "sha1").digest()
        return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(hidden).decode()} {key}\n"
    if trust == "authority":
        return f"@cert-authority {name} {place.authority.export_public_key().decode().strip()}\n"
    return ""


async def play(stage: Stage, case: Case, seed: int) -> str:
    """Let the attacker try; returns what went wrong, empty when the client refused and told the attacker nothing."""
    chance = random.Random(f"{seed} {case}")
    node, gate, other_gate = (stage.places[case.server, case.kind, role] for role in ("node", "gate", "other gate"))
    servers = [name for name in SERVERS if (name, case.kind, "node") in stage.places]
    impostor = stage.places[chance.choice(servers), chance.choice(KINDS), "impostor"]
    stage.node.target, stage.gate.target, stage.wrong_door.target = node.port, gate.port, impostor.port
    home = stage.directory / f"home-{seed}-{chance.randrange(1 << 60):x}"
    (home / ".ssh").mkdir(parents=True)
    os.environ["HOME"] = str(home)
    lines = [known("plain" if case.trust == "pin" else case.trust, gate, stage.gate.port, "gate")]
    lines.append(f"[127.0.0.1]:{other_gate.port} {other_gate.key.export_public_key().decode()}")
    if case.attack != "unknown":
        lines.append(known(case.trust, node, stage.node.port, "atlas"))
    if case.attack == "revoked":
        stolen = node.authority if case.trust == "authority" and chance.random() < 0.5 else node.key
        name = chance.choice(["*", "atlas" if case.trust == "alias" else f"[127.0.0.1]:{stage.node.port}"])
        lines.append(f"@revoked {name} {stolen.export_public_key().decode()}")
    (home / ".ssh" / "known_hosts").write_text("".join(chance.sample(lines, len(lines))))
    config = [f"Host gate\n  HostName 127.0.0.1\n  Port {stage.gate.port}\n"]
    config += ["  HostKeyAlias gate\n"] if case.trust == "alias" else []
    config += [f"Host *\n  User {getpass.getuser()}\n  IdentityFile {stage.client_file}\n"]
    config += ["Host 127.0.0.1\n  HostKeyAlias atlas\n"] if case.trust == "alias" else []
    (home / ".ssh" / "config").write_text("".join(config))
    asked: list[LoginPrompt] = []

    async def agree(question: LoginPrompt) -> str:
        asked.append(question)
        return "yes"

    door = stage.wrong_door if case.attack == "wrong port" else stage.node
    spec = NodeSpec(
        "atlas",
        host="127.0.0.1",
        port=door.port,
        jump="gate" if case.route == "jump" else None,
        host_key=node.key.get_fingerprint() if case.trust == "pin" else None,
    )
    if case.attack in ("changed", "swapped jump host"):  # before the attack everything is well
        connection = await open_connection(spec)
        connection.close()
        await connection.wait_closed()
    if case.attack == "changed" or (case.attack == "unknown" and chance.random() < 0.5):
        stage.node.target = impostor.port
    if case.attack == "swapped jump host":
        stage.gate.target = chance.choice([impostor, other_gate]).port
    watched = [impostor, other_gate, *([] if case.attack == "wrong port" else [node])]
    before = [place.logins for place in watched]
    # A port without a key of its own is unknown, so the person decides; here nobody is asked.
    is_unknown = case.attack == "unknown" or (case.attack == "wrong port" and case.trust in ("plain", "hashed", "authority"))
    try:
        connection = await open_connection(spec, ask=None if is_unknown else agree)
    except NodeRefused:
        pass
    else:
        connection.abort()
        await connection.wait_closed()
        return "was let in"
    for switch in (stage.node, stage.gate, stage.wrong_door):
        await switch.quiet()
    if [place.logins for place in watched] != before:
        return "was asked for a login"
    return "a person was asked" if asked else ""
