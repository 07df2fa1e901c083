"""Man-in-the-middle attacks against real servers: each is refused before anything is sent."""

from __future__ import annotations

import collections
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio
from paceline.engine.specs import NodeSpec
from paceline.engine.ssh.connect import open_connection
from paceline.engine.ssh.host_keys import Changed, HostKeys, NotPinned, Trusted, Unknown, refusal

from tests.support.ssh import impostors
from tests.support.ssh.impostors import Case, Stage, play

QUICK = 40
SEEDS = range(3)


@pytest_asyncio.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    async with Stage(tmp_path).set() as made:
        yield made


async def _refused(stage: Stage, chosen: list[tuple[Case, int]]) -> None:
    wrong = {}
    for case, seed in chosen:
        if trouble := await play(stage, case, seed):
            wrong[case, seed] = trouble
    counts = collections.Counter(case.attack for case, _ in chosen)
    print("men in the middle:", ", ".join(f"{attack} {counts[attack]}" for attack in impostors.ATTACKS), "| succeeded:", len(wrong))
    assert not wrong


async def test_a_login_at_an_impostor_would_be_seen(stage: Stage) -> None:
    for (_, _, role), place in stage.places.items():
        if role == "impostor":
            spec = NodeSpec(
                "atlas", "ssh", "127.0.0.1", place.port, host_key=place.key.get_fingerprint(), key=str(stage.client_file)
            )
            connection = await open_connection(spec)
            connection.abort()
            await connection.wait_closed()
            assert place.logins > 0


async def test_no_impostor_is_let_in_or_told_anything(stage: Stage) -> None:
    chosen = random.Random(1).sample(impostors.cases(), QUICK)
    await _refused(stage, [(case, 0) for case in chosen])


@pytest.mark.slow
async def test_no_impostor_is_let_in_or_told_anything_in_any_combination(stage: Stage) -> None:
    await _refused(stage, [(case, seed) for seed in SEEDS for case in impostors.cases()])


def test_the_verdict_on_a_key_is_a_value() -> None:
    key, other = (asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(2))
    pin = key.get_fingerprint()
    pinned = HostKeys("atlas", "atlas", pin, keys=(), authorities=(), revoked=(), is_known=True)
    assert pinned.verdict(key) == Trusted()
    assert pinned.verdict(other) == NotPinned("atlas", pin, (other,))
    known = HostKeys("atlas", "atlas", None, keys=(other,), authorities=(), revoked=(), is_known=True)
    assert known.verdict(key) == Changed("atlas", "atlas", key)
    assert HostKeys("atlas", "atlas", None, (), (), (), is_known=False).verdict(key) == Unknown("atlas", key)
    assert pin in refusal(Changed("atlas", "atlas", key)).reason


def test_a_pinned_host_is_asked_for_another_type_of_key_until_one_comes_twice() -> None:
    ed25519, again = (asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(2))
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256").convert_to_public()
    assert NotPinned("atlas", "SHA256:x", (ed25519,)).has_new_type
    assert NotPinned("atlas", "SHA256:x", (ed25519, ecdsa)).has_new_type
    assert not NotPinned("atlas", "SHA256:x", (ed25519, ecdsa, again)).has_new_type
    host_keys = HostKeys("atlas", "atlas", "SHA256:x", (), (), (), is_known=True, shown=(ed25519,))
    assert host_keys.algorithms[0] != "ssh-ed25519"
    assert host_keys.algorithms[-1] == "ssh-ed25519"
