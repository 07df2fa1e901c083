"""The mesh of runners: who is let in, who is not, and what twenty kinds of strangers can do to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from paceline.engine.agent.runner.door import MAX_OPEN_HANDSHAKES
from paceline.engine.agent.runner.identity import Identity
from paceline.engine.agent.runner.knock import knock
from paceline.engine.agent.runner.peer_mesh import PeerMesh
from paceline.engine.errors import WorkFailed
from paceline.engine.jobs.doors.certificates import make_certificates

from tests.support import attackers
from tests.support.waiting import loop_turns, until

NODES = ("n0", "n1", "n2")


class Meshes:
    """The meshes of the runners of one run, in this process."""

    def __init__(self, path: Path, nodes: tuple[str, ...] = NODES) -> None:
        self.certificates = make_certificates("a run", nodes)
        self.identities = {node: Identity(path / node, own) for node, own in self.certificates.items()}
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.strangers: list[tuple[str, str]] = []
        self.of = {node: PeerMesh(node, nodes, self.identities[node], self._hear, self._count) for node in nodes}
        self.ports = {node: mesh.listen("127.0.0.1") for node, mesh in self.of.items()}
        self.peers = {node: ["127.0.0.1", port] for node, port in self.ports.items()}

    def _hear(self, peer: str, message: dict[str, Any]) -> None:
        self.heard.append((peer, message))

    def _count(self, address: str, reason: str) -> None:
        self.strangers.append((address, reason))

    async def join(self, told: tuple[str, ...] = NODES) -> None:
        """Tell some of them where all are, and join all."""
        for node in told:
            if node in self.of:
                self.of[node].introduce(self.peers)
        nodes = list(self.of)
        await asyncio.gather(*(mesh.join(nodes[: nodes.index(node)], 60.0) for node, mesh in self.of.items()))

    async def close(self) -> None:
        for mesh in self.of.values():
            await mesh.close()


async def greet(port: int, identity: Identity, hello: object) -> bytes:
    """Connect with an identity, say hello, and return the answer; empty where there is none."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    try:
        await knock(connection, identity.knock_keys[0])
        reader, writer = await asyncio.open_connection(sock=connection, ssl=identity.client, server_hostname="")
        writer.write(json.dumps(hello).encode() + b"\n")
        answer = await reader.readline()
        writer.close()
    except OSError:
        return b""
    return answer


async def test_peers_hear_each_other_and_the_ports_are_closed_once_all_are_connected(tmp_path: Path) -> None:
    meshes = Meshes(tmp_path)
    await meshes.join()
    meshes.of["n2"].send({"word": 1})
    meshes.of["n0"].send({"word": 2}, "n1")
    await until(lambda: len(meshes.heard) == 3)
    assert sorted(meshes.heard, key=str) == [("n0", {"word": 2}), ("n2", {"word": 1}), ("n2", {"word": 1})]
    for port in meshes.ports.values():
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    assert meshes.strangers == []
    await meshes.close()


async def test_a_peer_that_the_centre_did_not_tell_hears_the_addresses_from_the_others(tmp_path: Path) -> None:
    for told in NODES:
        meshes = Meshes(tmp_path / told)
        await meshes.join((told,))
        await meshes.close()


async def test_a_certificate_opens_for_its_own_name_and_run_only(tmp_path: Path) -> None:
    meshes = Meshes(tmp_path)
    port = meshes.ports["n0"]
    hello = {"hello": "n1", "peers": meshes.peers}
    other, authority = make_certificates("a run", ["n1"])["n1"], meshes.certificates["n0"]["authority"]
    assert await greet(port, Identity(tmp_path / "other", other), hello) == b""  # it cannot even knock
    foreign = Identity(tmp_path / "foreign", {**other, "authority": authority})
    assert await greet(port, foreign, hello) == b""
    assert await greet(port, meshes.identities["n0"], hello) == b""  # the name is that of the certificate, and it is its own
    wrong: object
    for wrong in ([], {}, {"hello": "n1"}, {"hello": "n1", "peers": {}}, {"hello": "n1", "peers": {"n0": 1}}):
        assert await greet(port, meshes.identities["n1"], wrong) == b"", wrong
    await until(lambda: len(meshes.strangers) == 8)
    assert meshes.strangers[0] == ("127.0.0.1", "it does not know the run")
    assert meshes.strangers[1] == ("127.0.0.1", "certificate verify failed")
    assert not meshes.of["n0"].peers.done()
    assert b"welcome" in await greet(port, meshes.identities["n1"], {"introduce": "n1", "peers": meshes.peers})
    assert meshes.of["n0"].peers.done()
    await meshes.close()


async def test_a_second_connection_of_one_node_is_refused(tmp_path: Path) -> None:
    meshes = Meshes(tmp_path)
    hello = {"hello": "n1", "peers": meshes.peers}
    assert b"welcome" in await greet(meshes.ports["n0"], meshes.identities["n1"], hello)
    assert await greet(meshes.ports["n0"], meshes.identities["n1"], hello) == b""
    assert [reason for _, reason in meshes.strangers] == ["n1 is connected already"]
    await meshes.close()


async def test_a_runner_that_answers_in_place_of_another_is_named(tmp_path: Path) -> None:
    meshes = Meshes(tmp_path)
    meshes.peers["n0"] = meshes.peers["n2"]
    meshes.of["n1"].introduce(meshes.peers)
    with pytest.raises(WorkFailed, match=r"no connection with the runner of n0 at 127\.0\.0\.1: its certificate is of 'n2'"):
        await meshes.of["n1"].join(["n0"], 60.0)
    await meshes.close()


async def test_a_node_that_another_centre_adds_is_believed_once_its_authority_is_trusted(tmp_path: Path) -> None:
    meshes = Meshes(tmp_path)
    later = make_certificates("a run", ["n1"])["n1"]
    identity = Identity(tmp_path / "later", later)
    hello = {"introduce": "n1", "peers": meshes.peers}
    assert await greet(meshes.ports["n0"], identity, hello) == b""
    meshes.identities["n0"].trust(later["authority"])
    assert await greet(meshes.ports["n0"], identity, hello) == b""  # it does not believe n0
    identity.trust(meshes.certificates["n0"]["authority"])
    assert b"welcome" in await greet(meshes.ports["n0"], identity, hello)
    await meshes.close()


def test_a_certificate_is_valid_whatever_a_clock_says_and_its_key_is_not_left_on_disk(tmp_path: Path) -> None:
    certificates = make_certificates("a run", ["n_0"])["n_0"]
    for name in ("certificate", "authority"):
        certificate = x509.load_pem_x509_certificate(certificates[name].encode())
        assert (certificate.not_valid_before_utc.year, certificate.not_valid_after_utc.year) == (1970, 9999)
    identity = Identity(tmp_path, certificates)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (identity.server.minimum_version, identity.server.verify_mode) == (ssl.TLSVersion.TLSv1_3, ssl.CERT_REQUIRED)
    assert "PRIVATE KEY" not in json.dumps({name: text for name, text in certificates.items() if name != "key"})


@pytest.mark.parametrize("name", attackers.ATTACKS)
async def test_no_stranger_keeps_the_runners_from_each_other(name: str, tmp_path: Path) -> None:
    meshes = Meshes(tmp_path, ("n0", "n1"))
    marker = tmp_path / "marker"
    attack = attackers.ATTACKS[name]
    attacking = [asyncio.ensure_future(attack(("127.0.0.1", port), marker)) for port in meshes.ports.values()]
    await loop_turns()
    doors = [mesh._door for mesh in meshes.of.values() if mesh._door is not None]
    # A drip is in the middle of its handshake, all others have failed or been thrown out.
    await until(lambda: meshes.strangers if name != "drip" else all(door._handshakes for door in doors))
    assert all(len(door._handshakes) <= MAX_OPEN_HANDSHAKES for door in doors)
    await meshes.join()
    for task in attacking:
        task.cancel()
    await asyncio.gather(*attacking, return_exceptions=True)
    meshes.of["n0"].send({"word": 1})
    await until(lambda: meshes.heard)
    assert meshes.heard == [("n0", {"word": 1})]
    assert {address for address, _ in meshes.strangers} <= {"127.0.0.1"}
    assert not marker.exists()
    await meshes.close()
