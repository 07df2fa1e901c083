"""Odd machines for a first contact, each beside OpenSSH's own client: shells and start files, settings of sshd, ssh configurations.

Each case is a real sshd whose sessions are run by a real shell with a home of its own, as sshd would for a user with that shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh
from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, NodeReported
from paceline.engine.specs import DeviceSpec, NodeSpec
from paceline.engine.ssh.link import Link

from tests.support.ssh.sshd import sshd

SFTP_SERVER = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec:/usr/lib/ssh") or "sftp-server"
DEVICES = (DeviceSpec("a declared one", 1.0, 1 << 30),)
ME = pwd.getpwuid(os.getuid()).pw_name
HASTY_SERVER_TRIES = 4
"""A server that hangs up may do so before its last words are read; the fleet tries again, too."""
EXTERNAL = {"Subsystem": f"sftp {SFTP_SERVER}"}
"""As Debian and Red Hat ship it: the login shell starts the program, behind its start files."""


@dataclass(frozen=True)
class Contact:
    """One machine, and what a person has configured for it."""

    name: str
    shell: str = "bash"
    files: dict[str, str] = field(default_factory=dict)
    """Start files of the home directory."""
    sshd: dict[str, str] = field(default_factory=dict)
    config: str = ""
    """Lines of the person's configuration, in front of the machine's block. ``PORT``, ``HOME`` and ``ME`` stand for values."""
    block: str = ""
    """Lines in the block, in front of the usual ones."""
    told: str = ""
    """Of what ssh refuses: words that the reason or its hint must have."""
    as_command: str = ""
    """Options that OpenSSH's client needs to run a command here."""
    trust: str = "known"
    """The host key in known_hosts: ``known``, ``unknown``, ``changed`` or ``revoked``."""
    python: str = ""
    """A wrapper around Python, as a script."""
    key: str = "ssh-ed25519"
    """Kind of the host key."""


BASH = {
    "words without a line end": "printf 'Loading modules... '",
    "a window title": r"printf '\033]0;%s\007' lab",
    "words with a line end": "echo Welcome to the lab",
    "a banner of thousand lines": "seq 1 1000",
    "bytes that are no text": r"printf '\377\376\000\001\n'",
    "another directory": "cd /",
    "a directory that is gone": "mkdir -p ~/x; cd ~/x; rmdir ~/x",
    "a line is read": "read -t 1 answer",
    "a line is read without a limit": "read answer",
    "a menu": "select p in one two; do break; done < /dev/null",
    "a child in the background": "sleep 60 &",
    "words on standard error": "echo trouble >&2",
    "three lines of many kinds": "echo one\nif true; then\n  cd /tmp\nfi\nread -t 1 a",
    "a quiet end for programs": "case $- in *i*) ;; *) return;; esac\necho never",
    "the terminal is asked": "stty erase '^H'; tput reset; tty",
    "an error stops": "set -u",
    "a trap at the end": "trap 'echo bye' EXIT",
    "aliases and functions of our words": "alias exec=false cd=false; cd() { builtin cd /tmp; }; python3() { false; }",
    "an odd separator": "IFS=/; CDPATH=/:/tmp; export IFS CDPATH",
    "an odd language": "export LANG=xx_YY.klingon LC_ALL=C",
    "an odd umask": "umask 0777; umask 022",
    "few open files": "ulimit -n 64",
    "a slow start": "sleep 2",
    "variables of Python": "export PYTHONSTARTUP=/nowhere PYTHONINSPECT=1 PYTHONUNBUFFERED=x PYTHONPATH=/nowhere",
    "variables of a run": "export RANK=3 WORLD_SIZE=x MASTER_ADDR=h OMP_NUM_THREADS=4,2 TMPDIR=/nowhere",
    "a preload of nothing": "export LD_PRELOAD=/nothing.so",
    "lines that look like ours": "echo 'paceline home'; echo paceline home x; echo '{\"hello\": 3'",
    "an error in the file": "if then fi (",
    "another shell instead": '[ -n "$ONCE" ] || { export ONCE=1; exec dash -c "$BASH_EXECUTION_STRING"; }',
    "standard error is closed": "exec 2>&-",
    "all of it": "printf x; cd /tmp; sleep 60 & read -t 1 a; echo '[1, 2]'; printf 'y '",
}
ZSH = {
    "words without a line end": "printf 'Loading '",
    "another directory": "cd /",
    "a line is read": "read -t 1 answer",
    "odd options": "setopt NO_NOMATCH SH_WORD_SPLIT KSH_ARRAYS EXTENDED_GLOB; unsetopt EQUALS",
    "a child in the background": "sleep 60 &!",
    "an alias of sh": "alias -g sh=false printf=false",
}
FISH = {
    "words without a line end": "printf 'Loading '",
    "another directory": "cd /",
    "a line is read": "read answer",
    "a function of our words": "function cd; builtin cd /tmp; end",
    "a child in the background": "sleep 60 &",
    "an error": "if true",
}
TCSH = {
    "words without a line end": "printf 'Loading '",
    "another directory": "cd /",
    "a line is read": "set answer = $<",
    "history and exclamation marks": "set history = 100; set prompt = '! '; set histchars = '!^'",
    "an alias of exec": "alias cd 'chdir /tmp'",
    "a child in the background": "sleep 60 &",
}
QUIET = ("dash", "bash", "zsh", "fish", "tcsh", "ksh", "mksh", "busybox ash", "yash")
SETTINGS: list[Contact] = [
    Contact("one session", sshd={"MaxSessions": "1"}),
    Contact("no subsystem for files", sshd={"Subsystem": "other /bin/false"}),
    Contact("no terminals", sshd={"PermitTTY": "no"}),
    Contact("no forwarding", sshd={"DisableForwarding": "yes"}),
    Contact("a banner", sshd={"Banner": "/etc/hostname"}),
    Contact("an odd version line", sshd={"VersionAddendum": "lab of odd machines"}),
    Contact("new keys every megabyte", sshd={"RekeyLimit": "100K 5s"}),
    Contact("late compression", sshd={"Compression": "delayed"}),
    Contact("no compression", sshd={"Compression": "no"}),
    Contact("one try", sshd={"MaxAuthTries": "1"}),
    Contact(
        "two methods", sshd={"AuthenticationMethods": "publickey,password", "PasswordAuthentication": "yes"}, told="authentication"
    ),
    Contact("no keys", sshd={"PubkeyAuthentication": "no", "PasswordAuthentication": "yes"}, told="authentication"),
    Contact("another user only", sshd={"AllowUsers": "somebody"}, told="authentication"),
    Contact("this user not", sshd={"DenyUsers": ME}, told="authentication"),
    Contact("keys of another kind", sshd={"PubkeyAcceptedAlgorithms": "rsa-sha2-512"}, told="authentication"),
    Contact("an old cipher", sshd={"Ciphers": "aes128-cbc"}, told="cipher"),
    Contact("one new cipher", sshd={"Ciphers": "chacha20-poly1305@openssh.com"}),
    Contact("one exchange", sshd={"KexAlgorithms": "ecdh-sha2-nistp521"}),
    Contact("an old exchange", sshd={"KexAlgorithms": "diffie-hellman-group14-sha1"}, told="kex"),
    Contact("one checksum", sshd={"MACs": "umac-128-etm@openssh.com", "Ciphers": "aes128-ctr"}),
    Contact("a host key of RSA", key="ssh-rsa"),
    Contact("a host key of ECDSA", key="ecdsa-sha2-nistp384"),
    Contact("lines kept alive", sshd={"ClientAliveInterval": "1", "TCPKeepAlive": "no"}),
    Contact("nologin", sshd={"ForceCommand": "echo This account is currently not available.; exit 1"}, told="not available"),
    Contact("a menu instead of a shell", sshd={"ForceCommand": "printf 'menu: 1 mail 2 quit '"}, told="menu: 1 mail 2 quit"),
    Contact(
        "an account that has expired",
        sshd={"ForceCommand": "echo Your account has expired >&2; exit 1"},
        told="account has expired",
    ),
    Contact("files only", sshd={"ForceCommand": "internal-sftp"}, told="sftp connections only"),
    Contact("a command that says nothing", sshd={"ForceCommand": "/bin/true"}, told="ForceCommand"),
]
CONFIGURATIONS: list[Contact] = [
    Contact("a terminal for everything", block="RequestTTY force"),
    Contact("a command for everything", block="RemoteCommand bash -l", as_command="-o RemoteCommand=none"),
    Contact("times with units", block="ServerAliveInterval 1m\nConnectTimeout 30s\nPubkeyAuthentication host-bound"),
    Contact("a user of a domain", block="User LAB\\user1", told="authentication"),
    Contact("a jump host with a token", block="ProxyJump %r@gate", config="Host gate\n  HostName localhost\n  Port PORT"),
    Contact("a jump host as address", block="ProxyJump ssh://ME@localhost:PORT"),
    Contact(
        "a jump host that forbids it",
        block="ProxyJump ME@localhost:PORT",
        sshd={"AllowTcpForwarding": "no"},
        told="AllowTcpForwarding",
    ),
    Contact("a proxy command", block='ProxyCommand bash -c "exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3"'),
    Contact("a proxy command that fails", block="ProxyCommand sh -c 'echo no way >&2; exit 1'", told="connection"),
    Contact(
        "no jump host, and then a command", block='ProxyJump none\nProxyCommand bash -c "exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3"'
    ),
    Contact("a command in Match", config='Match exec "test %n = odd"\n  ServerAliveCountMax 4'),
    Contact("a sign in quotes", config='Match originalhost other exec "test x = x"\n  User nobody'),
    Contact("comments behind words", block="ServerAliveInterval 30 # seconds"),
    Contact("a comment in Latin-1", config="# caf\xe9 rack"),
    Contact("an alias of its key", block="HostKeyAlias other", told="unknown"),
    Contact("small letters and signs", block="serveraliveinterval=30\nCOMPRESSION = yes"),
    Contact("an option of tomorrow", config="IgnoreUnknown Tomorrow", block="Tomorrow yes"),
    Contact("its own ciphers", block="Ciphers aes128-ctr,aes256-ctr\nMACs hmac-sha2-256"),
    Contact("ciphers of nobody", block="KexAlgorithms curve25519-sha256,sntrup761x25519-sha512@openssh.com"),
    Contact("a shared connection", block="ControlMaster auto\nControlPath HOME/%C\nControlPersist 1"),
    Contact("variables for the node", block="SetEnv LAB=1\nSendEnv LC_*"),
    Contact("strict, and known", block="StrictHostKeyChecking yes"),
    Contact("the old protocol's words", block="Protocol 2\nUsePrivilegedPort no\nCipher 3des"),
    Contact("names that are made canonical", block="CanonicalizeHostname no\nCanonicalDomains lab"),
    Contact("a bound address", block="BindAddress 127.0.0.1\nAddressFamily inet"),
    Contact("a port that is none", block="Port 70000", told="port"),
    Contact("an include of itself", config="Include HOME/.ssh/config", told="recursive"),
    Contact("an unknown key", trust="unknown", told="unknown"),
    Contact("a changed key", trust="changed", told="changed"),
    Contact("a revoked key", trust="revoked", told="revoked"),
]


def contacts() -> list[Contact]:
    """All cases whose shells are installed here."""
    found = [Contact(f"{shell}: nothing odd", shell) for shell in QUIET]
    for shell, file, texts in (
        ("bash", ".bashrc", BASH),
        ("zsh", ".zshenv", ZSH),
        ("fish", ".config/fish/config.fish", FISH),
        ("tcsh", ".tcshrc", TCSH),
    ):
        found += [Contact(f"{shell}: {name}", shell, {file: text}, EXTERNAL) for name, text in texts.items()]
    found += [
        Contact("rbash: nothing but itself", "rbash", told="restricted"),
        Contact("bash: a file behind the login", files={".ssh/rc": "printf 'no newline'"}),
        Contact("bash: a wrapper around Python", python="echo Activating; printf 'conda: '"),
        Contact("bash: PYTHONHOME of another Python", files={".bashrc": "export PYTHONHOME=/nowhere"}, told="Fatal Python error"),
        Contact("bash: a start file that ends the shell", files={".bashrc": "echo Out of order; exit 3"}, told="Out of order"),
    ]
    found += [replace(case, name=f"sshd: {case.name}") for case in SETTINGS]
    found += [replace(case, name=f"ssh: {case.name}") for case in CONFIGURATIONS]
    return [case for case in found if shutil.which(case.shell.split()[0])]


@contextlib.asynccontextmanager
async def machine(place: Path, case: Contact) -> AsyncIterator[NodeSpec]:
    """The machine of a case, and ``place/.ssh`` of the person who meets it; the node to be reached as ``odd``."""
    client, host = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key(case.key)
    ssh, home = place / ".ssh", place / "home"
    for directory in (ssh, home):
        directory.mkdir(mode=0o700, parents=True)
    (ssh / "id").write_bytes(client.export_private_key())
    (ssh / "id").chmod(0o600)
    for name, text in case.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text + "\n")
    shell = place / "shell"
    program = " ".join([str(shutil.which(case.shell.split()[0])), *case.shell.split()[1:]])
    shell.write_text(
        f"#!/bin/sh\nHOME={home}; export HOME; cd; unset SHLVL\n"
        f"case $SSH_ORIGINAL_COMMAND in\ninternal-sftp) exec {SFTP_SERVER};;\n"
        f'*/sftp-server) ;;\n*) [ ! -f .ssh/rc ] || /bin/sh .ssh/rc;;\nesac\nexec {program} -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    shell.chmod(0o755)
    python = place / "python"
    python.write_text(f'#!/bin/sh\n{case.python}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    async with sshd(place / "sshd", [host], client, (), **{"ForceCommand": str(shell), "LogLevel": "INFO", **case.sshd}) as server:
        _write_trust(ssh, case.trust, server.port, host)
        values = {"PORT": str(server.port), "HOME": str(place), "ME": ME}
        usual = ["HostName 127.0.0.1", f"Port {server.port}", f"User {ME}"]
        every = [f"IdentityFile {ssh}/id", "IdentitiesOnly yes", f"UserKnownHostsFile {ssh}/known_hosts"]
        if case.trust == "revoked":
            every.append(f"RevokedHostKeys {ssh}/revoked")
        block = [_filled(line, values) for line in case.block.splitlines()]
        lines = [_filled(case.config, values), "Host odd", *block, *usual, "Host *", *every]
        (ssh / "config").write_bytes("\n".join([*lines, ""]).encode("latin-1"))
        (ssh / "config").chmod(0o600)
        yield NodeSpec(
            "odd", python=str(python) if case.python else sys.executable, devices=DEVICES, state_dir=str(place / "state")
        )


def named_in_full(spec: NodeSpec, place: Path) -> NodeSpec:
    """The machine of ``place`` with all that nodes.toml can say, so that no configuration is needed."""
    known = (place / ".ssh" / "known_hosts").read_text()
    host, _, line = known.partition(" ")
    pin = asyncssh.import_public_key(line).get_fingerprint()
    port = int(host.rpartition(":")[2])
    return replace(spec, host="127.0.0.1", port=port, user=ME, key=str(place / ".ssh" / "id"), host_key=pin)


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _write_trust(ssh: Path, trust: str, port: int, host: asyncssh.SSHKey) -> None:
    shown = asyncssh.generate_private_key("ssh-ed25519") if trust == "changed" else host
    line = shown.export_public_key().decode()
    known = "" if trust == "unknown" else f"[127.0.0.1]:{port},[localhost]:{port} {line}"
    (ssh / "known_hosts").write_text(known)
    (ssh / "revoked").write_text(line if trust == "revoked" else "")


async def of_ssh(place: Path, case: Contact) -> tuple[bool, str]:
    """Whether OpenSSH's client starts Python there by /bin/sh, and the last line that it shows."""
    command = "/bin/sh -c " + shlex.quote(f"""exec {sys.executable} -c 'print("it-is-connected")'""")
    options = ["-F", str(place / ".ssh" / "config"), "-o", "BatchMode=yes", *case.as_command.split()]
    process = await asyncio.create_subprocess_exec(
        "ssh",
        *options,
        "odd",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(b"\n")  # what a person who is asked would type
    heard = b""
    is_connected = False
    try:
        async with asyncio.timeout(20.0):
            while chunk := await process.stdout.read(65536):
                heard += chunk
                if is_connected := b"it-is-connected" in heard:
                    break  # a child of a start file may hold the connection open
            errors = b"" if is_connected else await process.stderr.read()
    except TimeoutError:
        errors = b"no answer"
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    lines = errors.decode(errors="replace").strip().splitlines()
    return is_connected, lines[-1] if lines else ""


async def of_ours(spec: NodeSpec) -> PacelineError | None:
    """None: the agent runs and reports its devices; else why not."""
    reported: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def listen(event: Event) -> None:
        if isinstance(event, NodeReported) and not reported.done():
            reported.set_result([device.name for device in event.devices])

    try:
        link = await Link.open(spec, None, listen, 0.2)
    except PacelineError as error:
        return error
    try:
        async with asyncio.timeout(20.0):
            names = await reported
    finally:
        await link.close()
    return None if names == [device.name for device in DEVICES] else PacelineError(f"other devices: {names}")


async def fault_of(place: Path, case: Contact) -> str:
    """What is wrong with a first contact beside ssh; empty: nothing. HOME must be ``place``."""
    async with machine(place, case) as spec:
        is_connected, shown = await of_ssh(place, case)
        if is_connected == bool(case.told):
            return f"the case is not what it says: ssh {'connects' if is_connected else f'shows {shown!r}'}"
        first = await of_ours(spec)
        if case.told:
            for _ in range(HASTY_SERVER_TRIES):
                if first is None or case.told.lower() in f"{first.reason} {first.hint}".lower():
                    break
                first = await of_ours(spec)
            text = "" if first is None else f"{first.reason} {first.hint}"
            return "" if case.told.lower() in text.lower() else f"ssh shows {shown!r}, we tell {text or 'nothing: connected'!r}"
        again = await of_ours(spec) if first is None else first
        if again is not None:
            return f"ssh connects, we tell {again}"
        left = [str(path) for path in (place / "state").rglob(".*")]
        return f"temporary files stay: {left}" if left else ""
