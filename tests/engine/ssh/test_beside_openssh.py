"""ssh configurations and known_hosts beside OpenSSH's own client: the same host, user, port, keys, proxy and verdict of trust."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from paceline.engine.errors import NodeRefused
from paceline.engine.ssh.config import read_config
from paceline.engine.ssh.openssh import config_file
from paceline.engine.ssh.openssh.config_file import HostConfig, HostQuery, read_host
from paceline.engine.ssh.openssh.config_lines import ConfigError, matches_list, matches_pattern, seconds_of, split_words

from tests.support.ssh.beside_openssh import TrustSample, differences, host
from tests.support.ssh.config_samples import ConfigSample

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh: apt-get install openssh-client")
Write = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    """A file as a person has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def read(home: Path, name: str = "atlas") -> HostConfig:
    return read_host(HostQuery(name), home, lambda host: False)


@needs_ssh
def test_random_configurations_give_what_ssh_gives(tmp_path: Path) -> None:
    # The first number was drawn at random: a ProxyCommand after ``ProxyJump none``.
    for number in (1464612793, *range(40)):
        assert differences(ConfigSample(number, tmp_path / str(number) / ".ssh")) == [], f"seed {number}"


@needs_ssh
@pytest.mark.slow
def test_two_thousand_random_configurations_give_what_ssh_gives(tmp_path: Path) -> None:
    for number in range(2000):
        assert differences(ConfigSample(number, tmp_path / str(number) / ".ssh")) == [], f"seed {number}"


@needs_ssh
async def test_random_known_hosts_give_the_verdict_of_ssh(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    async with host(key) as port:
        for number in range(12):
            sample = TrustSample(seed + number, tmp_path / str(number), port, key)
            monkeypatch.setenv("HOME", str(sample.home))
            verdict, ours = await sample.of_ssh(), await sample.of_ours()
            is_stricter = ours == "revoked" and verdict in ("trusted", "changed")  # revoked for the bare name counts for all ports
            assert ours == verdict or is_stricter, f"seed {seed + number}"


def test_included_files_are_read_in_lexical_order_and_hidden_ones_not_at_all(home: Path) -> None:
    names = [f"{number:02d}-lab" for number in range(1, 31)]
    random.Random(7).shuffle(names)
    for name in names:
        write(home / ".ssh" / "config.d" / name, f"Host atlas\n  Port {2222 if name == '01-lab' else 2223}\n")
    write(home / ".ssh" / "config.d" / ".lab.swp", b"b0VIM\x00\xff\xfe Host\x00")
    write(home / ".ssh" / "config.d" / ".old", "Port 1\n")
    write(home / ".ssh" / "config", "Include config.d/*\n")
    assert read(home).get("port") == 2222


def test_a_block_goes_on_behind_an_include(home: Path) -> None:
    write(home / ".ssh" / "more", "Host boreas\n  Port 1\n")
    write(home / ".ssh" / "config", "Host boreas\n  Include more\n  Port 2\nHost *\n  Port 3\n")
    assert read(home).get("port") == 3
    assert read(home, "boreas").get("port") == 1


def test_the_tokens_of_match_exec_are_filled_in(home: Path) -> None:
    script = write(home / "check.sh", '#!/bin/sh\n[ "$*" = "atlas 127.0.0.1 2222 lab" ]\n')
    script.chmod(0o700)
    write(
        home / ".ssh" / "config",
        f"HostName 127.0.0.1\nPort 2222\nUser lab\nMatch exec '{script} %n %h %p %r'\n  HostKeyAlias met\n",
    )
    assert read(home).get("hostkeyalias") is None, "single quotes do not hold words together in Match"
    write(
        home / ".ssh" / "config",
        f'HostName 127.0.0.1\nPort 2222\nUser lab\nMatch exec "{script} %n %h %p %r"\n  HostKeyAlias met\n',
    )
    assert read(home).get("hostkeyalias") == "met"


def test_a_command_runs_only_where_all_conditions_before_it_hold(home: Path) -> None:
    write(home / ".ssh" / "config", f'Match originalhost other exec "touch {home}/ran"\nMatch !all exec "touch {home}/ran"\n')
    read(home)
    assert not (home / "ran").exists()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ServerAliveInterval 1m\nConnectTimeout 30s", {"serveraliveinterval": 60, "connecttimeout": 30}),
        ("PubkeyAuthentication host-bound", {"pubkeyauthentication": True}),
        ("User LAB\\user1", {"user": "LAB\\user1"}),
        ("Host atlas # the big one\n  Port 2222 # high", {"port": 2222}),
        ("ProxyCommand none\nProxyJump gate", {"proxycommand": "none"}),
        ("ProxyJump gate\nProxyCommand nc %h %p", {"proxyjump": "gate"}),
        ('Match originalhost other exec "test x = x"\n  User nobody', {}),
        (b"# caf\xe9 rack\nPort 2222", {"port": 2222}),
        ("Port=2222\nUser = lab", {"port": 2222, "user": "lab"}),
        ("Port 1\r\nUser lab\r\n", {"port": 1, "user": "lab"}),
        ("IdentityFile a\nIdentityFile a\nIdentityFile b", {"identityfile": ["a", "b"]}),
        ("Match final\n  User late\nMatch all\n  User early", {"user": "early"}),
        ("Tag lab\nMatch tagged la*\n  User met", {"tag": "lab", "user": "met"}),
        ("UnknownOption of tomorrow", {}),
    ],
)
def test_what_ssh_takes_is_taken(home: Path, text: str | bytes, options: dict[str, object]) -> None:
    write(home / ".ssh" / "config", text)
    found = read(home).options
    assert {name: value for name, value in found.items() if name != "hostname"} == options


def test_a_block_under_an_unknown_kind_of_match_is_left_out_and_named(home: Path) -> None:
    config = write(home / ".ssh" / "config", "Match localnetwork 192.168.0.0/16\n  User never\nHost atlas\n  Port 2222\n")
    found = read(home)
    assert (found.get("user"), found.get("port")) == (None, 2222)
    assert found.warnings == [f"{config}:1: Match localnetwork is not known here: its block is left out"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Include *\nHost atlas", "too many recursive configuration includes"),
        ("Port many", r"config:1: port: 'many' is no port"),
        ("Port 0", "is no port"),
        ("IdentitiesOnly perhaps", "expected yes or no, got 'perhaps'"),
        ("ConnectTimeout 1 hour", None),
        ("ConnectTimeout hour", "'hour' is no time"),
        ('User "x', "a quote does not end"),
        ("Port", "value is missing"),
        ("HostName %x", "unknown token %x"),
        ("Match", "Match without a condition"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_line(home: Path, text: str, reason: str | None) -> None:
    write(home / ".ssh" / "config", text)
    if reason is None:
        assert read(home).get("connecttimeout") == 1
        return
    with pytest.raises(ConfigError, match=reason):
        read(home)


def test_a_file_that_others_may_write_is_refused_in_the_words_of_ssh(home: Path) -> None:
    write(home / ".ssh" / "config", "Port 2222\n").chmod(0o622)
    with pytest.raises(ConfigError, match=f"Bad owner or permissions on {home}/.ssh/config"):
        read(home)


def test_the_configuration_of_the_system_counts_behind_that_of_the_person(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "SYSTEM_CONFIG", home / "etc" / "ssh_config")
    write(home / "etc" / "ssh_config", "Include extra/*.conf\nHost *\n  User system\n  Port 1\n")
    write(home / "etc" / "extra" / "a.conf", "HostKeyAlias extra\n")
    write(home / ".ssh" / "config", "Port 2222\n")
    found = read(home)
    assert (found.get("port"), found.get("user"), found.get("hostkeyalias")) == (2222, "system", "extra")


def test_a_canonical_name_is_looked_for_and_the_files_are_read_again(home: Path) -> None:
    text = "CanonicalizeHostname yes\nCanonicalDomains a.lab b.lab\nHost atlas.b.lab\n  Port 2222\n"
    write(home / ".ssh" / "config", text)
    found = read_host(HostQuery("atlas"), home, lambda name: name == "atlas.b.lab")
    assert (found.host, found.get("port")) == ("atlas.b.lab", 2222)
    write(home / ".ssh" / "config", f"ProxyJump gate\n{text}")
    assert read_host(HostQuery("atlas"), home, lambda name: True).host == "atlas", "a proxy resolves names itself"


async def test_a_proxy_command_never_gets_shell_characters_of_a_host(home: Path) -> None:
    write(home / ".ssh" / "config", "ProxyCommand nc %h %p\n")
    assert (await read_config("atlas")).proxy_command == (os.environ.get("SHELL") or "/bin/sh", "-c", "exec nc atlas 22")
    for name in ("$(touch x)", "a;b", "a b", "`x`", "a|b", "a&b"):
        with pytest.raises(NodeRefused, match="a shell would read it"):
            await read_config(name)


async def test_tokens_and_uris_of_a_jump_host_are_understood(home: Path) -> None:
    write(home / ".ssh" / "config", "Host atlas\n  User lab\n  ProxyJump %r@gate\nHost boreas\n  ProxyJump ssh://lab@gate:2222\n")
    assert (await read_config("atlas")).proxy_jump == "lab@gate"
    assert (await read_config("boreas")).proxy_jump == "ssh://lab@gate:2222"


async def test_algorithms_that_are_not_known_here_are_left_out(home: Path) -> None:
    write(home / ".ssh" / "config", "KexAlgorithms sntrup999,curve25519-sha256\nCiphers +made-up,aes128-ctr\nMACs umac-64*\n")
    options = (await read_config("atlas")).options
    assert (options["kex_algs"], options["encryption_algs"], options["mac_algs"]) == (
        "curve25519-sha256",
        "+aes128-ctr",
        "umac-64*",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("'a b'c d", ["a bc", "d"]),
        ("a\\ b", ["a b"]),
        ("LAB\\user", ["LAB\\user"]),
        ('"a\\"b"', ['a"b']),
        ("a # b", ["a"]),
        ("a#b", ["a#b"]),
        ("", []),
    ],
)
def test_words_are_split_as_ssh_splits_them(text: str, words: list[str]) -> None:
    assert split_words(text, "x") == words


def test_patterns_know_two_signs_and_end_in_time() -> None:
    assert matches_pattern("[a]tlas", "[a]tlas")
    assert not matches_pattern("atlas", "[a]tlas")
    assert matches_pattern("abc", "a?c*")
    assert not matches_pattern("a" * 2000, "*a" * 500 + "b")
    assert matches_list("atlas", "at*,!boreas")
    assert not matches_list("atlas", "*,!atlas")
    assert not matches_list("atlas", "!boreas")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1m30s", 90), ("2H", 7200), ("1w", 604800), ("", None), ("m", None), ("-1", None)]
)
def test_times_are_read_in_the_formats_of_ssh(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds
