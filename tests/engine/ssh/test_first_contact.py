"""A first contact with odd machines: connected as ssh connects, or refused with the reason that ssh shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.ssh.first_contacts import Contact, contacts, fault_of
from tests.support.ssh.sshd import needs_sshd

pytestmark = [needs_sshd, pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh: apt-get install openssh-client")]
CASES = contacts()


def test_there_are_eighty_kinds() -> None:
    assert len(CASES) >= 80 or not shutil.which("fish"), "with the shells of apt-get install zsh fish tcsh ksh mksh busybox yash"
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_machine_is_reached_as_ssh_reaches_it(case: Contact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert await fault_of(tmp_path, case) == ""
