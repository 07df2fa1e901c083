"""SSH connections: the route to a node, hop by hop, each hop verified and logged into within a time limit.

Jump hosts are treated like nodes. nodes.toml takes precedence over ~/.ssh/config, and that over [defaults]. Foreign exceptions are
translated here.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncssh

from ..errors import NodeRefused, NodeUnreachable, PacelineError
from ..specs import NodeSpec
from .config import HostSettings, read_config
from .embedded import EmbeddedNode
from .greeting import GreetingTap
from .host_keys import HostKeys, NotPinned, Rejected, Unknown, Untrusted, add_known_host, known_hosts_warnings, refusal
from .login import AUTHENTICATION_HINT, Client, ClientKeys, Login, read_keys, unlock
from .openssh.config_file import local_user
from .prompts import AskPerson, LoginPrompt, PromptBroker

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connection and the key exchange of one hop."""
LOGIN_TIMEOUT = 15.0
"""Seconds for authentication at one hop, without the time a person takes to answer."""
KEEPALIVE_INTERVAL = 3.0
KEEPALIVE_COUNT = 2
"""A dead peer is detected after interval * (count + 1) = 9 s."""
MAX_JUMPS = 8
MAX_LOGINS_PER_JUMP_HOST = 8
"""Concurrent logins at one jump host: sshd drops connections beyond MaxStartups (10) at random."""
_PREFERRED_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Decrypting a packet of 3 kB takes one call and a fifth of the time of ChaCha20, which asyncssh assembles in Python."""
_EXCHANGES = "-*-sha1"
"""asyncssh offers exchanges with SHA-1, OpenSSH does so only where a person asks for them."""

logger = logging.getLogger(__name__)

Attempt = Callable[[tuple[asyncssh.SSHKey, ...]], Awaitable[asyncssh.SSHClientConnection | Untrusted]]
"""One attempt to connect and log in. Takes the keys that the host has shown and its pin does not match."""


@dataclass(frozen=True)
class _Target:
    """One machine on the route, as nodes.toml describes it. None: ~/.ssh/config decides."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    pin: str | None = None
    inherited: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Hop:
    """One machine on the route, with nodes.toml and ~/.ssh/config combined."""

    host: str
    port: int
    user: str
    pin: str | None
    settings: HostSettings
    keys: ClientKeys
    has_default_keys: bool
    """Whether neither file names its keys."""

    @property
    def address(self) -> str:
        return f"{self.user}@{self.host}"


class Connector:
    """Opens the connections of one control process. Limits the logins at each jump host and shares a person's answers."""

    def __init__(self, ask: AskPerson | None = None, warn: Callable[[str, str], None] = lambda node, text: None) -> None:
        """``warn(node, text)`` is called once for each line of ssh's files that is left out."""
        self._ask = PromptBroker(ask) if ask is not None else None
        self._warn = warn
        self._warned: set[str] = set()
        self._login_slots: dict[tuple[str, int], asyncio.Semaphore] = {}

    def unattended(self) -> Connector:
        """A connector that asks nobody and shares the login slots of this one."""
        connector = Connector()
        connector._login_slots = self._login_slots
        return connector

    async def open(
        self, spec: NodeSpec, embedded: EmbeddedNode | None = None, on_contact: Callable[[], None] = lambda: None
    ) -> asyncssh.SSHClientConnection:
        """Connect to a node. Raises NodeRefused or NodeUnreachable with the node's name.

        ``on_contact`` is called when the first machine on the route sends a byte, and when a person is asked.
        """
        attempt = _NodeLogin(spec.name, self._ask, on_contact, self._login_slots)
        logger.debug("%s: connecting", spec.name)
        try:
            if embedded is not None:
                connection = await attempt.open_embedded(embedded)
            else:
                target = _Target(spec.host or spec.name, spec.port, spec.user, spec.key, spec.jump, spec.host_key, spec.inherited)
                route = await _route(target, False, MAX_JUMPS)
                self._warn_of(spec.name, route)
                connection = await attempt.open_route(route)
        except PacelineError as error:
            error.node = spec.name
            logger.debug("%s: connection failed: %s: %r", spec.name, type(error).__name__, error.reason)
            raise
        logger.debug("%s: logged in", spec.name)
        return connection

    def _warn_of(self, node: str, route: list[_Hop]) -> None:
        """Tell what of ssh's files was left out. Raises NodeRefused for a known_hosts that cannot be read."""
        for hop in route:
            for text in (*hop.settings.warnings, *known_hosts_warnings(hop.settings)):
                if text not in self._warned:
                    self._warned.add(text)
                    self._warn(node, text)


class _NodeLogin:
    """One attempt to reach one node and log in."""

    def __init__(
        self,
        node: str,
        ask: AskPerson | None,
        on_contact: Callable[[], None],
        login_slots: dict[tuple[str, int], asyncio.Semaphore],
    ) -> None:
        self._node = node
        self._broker = ask
        self._ask = self._ask_person if ask is not None else None
        self._on_contact = on_contact
        self._login_slots = login_slots

    async def open_route(self, route: list[_Hop]) -> asyncssh.SSHClientConnection:
        """Log in at one machine after the other, each through the one before."""
        for hop in route:
            await unlock(hop.keys, hop.settings, self._node, hop.host, hop.has_default_keys, self._ask)
        connection: asyncssh.SSHClientConnection | None = None
        for hop in route:
            try:
                async with AsyncExitStack() as slot:
                    if hop is not route[-1]:
                        jump_host = (hop.settings.host, hop.port)
                        slots = self._login_slots.setdefault(jump_host, asyncio.Semaphore(MAX_LOGINS_PER_JUMP_HOST))
                        await slot.enter_async_context(slots)
                    logger.debug("%s: logging in at %r port %d", self._node, hop.address, hop.port)
                    attempt = functools.partial(self._attempt, hop, connection)
                    next_connection = await self._open_trusted(attempt, functools.partial(self._confirm_host_key, hop))
            except BaseException:
                if connection is not None:
                    connection.abort()
                raise
            if connection is not None:
                next_connection.set_tunnel(connection)  # closes with it
            connection = next_connection
        assert connection is not None
        return connection

    async def open_embedded(self, embedded: EmbeddedNode) -> asyncssh.SSHClientConnection:
        """Log in at an embedded node, whose host key this process has made itself."""
        known: Any = ([embedded.host_key.convert_to_public()], [], [])
        options: dict[str, Any] = {"config": [], "agent_path": None, "client_keys": [embedded.client_key], "username": "paceline"}

        async def attempt(shown: tuple[asyncssh.SSHKey, ...]) -> asyncssh.SSHClientConnection | Untrusted:
            login = Login("", "paceline@127.0.0.1", None)
            with _translated_errors("127.0.0.1"):
                return await _connect("127.0.0.1", embedded.port, login, None, self._on_contact, known_hosts=known, **options)

        async def decline(verdict: Unknown) -> bool:
            return False

        return await self._open_trusted(attempt, decline)

    async def _open_trusted(self, attempt: Attempt, confirm: Callable[[Unknown], Awaitable[bool]]) -> asyncssh.SSHClientConnection:
        """Repeat an attempt until the host key is trusted. The only place that acts on host-key verdicts.

        A pinned host is asked for every type of key before it is refused. An unknown key is accepted if ``confirm`` returns True.
        A wrong key is tried once more, because a flipped bit in the key exchange looks the same. Raises NodeRefused.
        """
        shown: tuple[asyncssh.SSHKey, ...] = ()
        is_second_try = False
        while True:
            match await attempt(shown):
                case asyncssh.SSHClientConnection() as connection:
                    return connection
                case NotPinned(has_new_type=True) as verdict:
                    shown = verdict.shown
                case Unknown() as verdict:
                    if not await confirm(verdict):
                        raise refusal(verdict)
                    shown = ()  # it is known now: another key would be a changed one
                case verdict:
                    error = refusal(verdict)
                    logger.info("%s: host key not trusted: %s: %r", self._node, type(verdict).__name__, error.reason)
                    if is_second_try:
                        raise error
                    shown, is_second_try = (), True

    async def _confirm_host_key(self, hop: _Hop, verdict: Unknown) -> bool:
        """Ask a person about an unknown key, and add a confirmed one to known_hosts. False: not confirmed. Raises NodeRefused."""
        if self._ask is None:
            return False
        fingerprint = f"{verdict.key.get_algorithm()} {verdict.key.get_fingerprint()}"
        text = f"The host key of {hop.host} is unknown: {fingerprint}"
        if await self._ask(LoginPrompt(self._node, hop.host, "host key", text, is_secret=False)) != "yes":
            return False
        add_known_host(hop.settings, hop.port, verdict.key)
        logger.info("%s: host key of %r confirmed by a person: %s", self._node, hop.host, fingerprint)
        return True

    async def _attempt(
        self, hop: _Hop, tunnel: asyncssh.SSHClientConnection | None, shown: tuple[asyncssh.SSHKey, ...]
    ) -> asyncssh.SSHClientConnection | Untrusted:
        """Connect to one machine and log in, if its host key is trusted."""
        host_keys = HostKeys.read(hop.host, hop.settings, hop.port, hop.pin, shown)
        is_direct = tunnel is None and hop.settings.proxy_command is None
        greeting_tap = GreetingTap(hop.settings, self._on_contact) if is_direct else None
        keys = hop.keys
        algorithms = hop.settings.host_key_algorithms if hop.pin is None else None
        options: dict[str, Any] = {
            "encryption_algs": _PREFERRED_CIPHERS,
            "kex_algs": _EXCHANGES,
            **hop.settings.options,
            "config": [],  # asyncssh's own reader differs from ssh
            "tunnel": tunnel if tunnel is not None else greeting_tap,
            "proxy_command": hop.settings.proxy_command if tunnel is None else None,
            "username": hop.user,
            "known_hosts": host_keys.known_hosts,
            "host_key_alias": hop.settings.known_hosts_name if hop.settings.has_alias else None,
            "server_host_key_algs": host_keys.algorithms if algorithms is None else algorithms,
            # An iterator instead of an empty list, which asyncssh would replace by the default keys.
            "client_keys": keys.ready or iter(()),
            "client_certs": hop.settings.certificate_files,
            "agent_path": None if keys.identities == [] else hop.settings.agent_path,
            "agent_identities": keys.identities,
        }
        login = Login(self._node, hop.address, self._ask)
        try:
            with _translated_errors(hop.host):
                return await _connect(hop.settings.host, hop.port, login, host_keys, self._on_contact, **options)
        except NodeRefused:
            if login.is_unanswered:
                raise NodeRefused(f"the login prompt of {hop.host} was not answered", hint=AUTHENTICATION_HINT) from None
            raise
        except NodeUnreachable as error:
            raise greeting_tap.explain(error, hop.host) if greeting_tap is not None else error from None

    async def _ask_person(self, prompt: LoginPrompt) -> str | None:
        assert self._broker is not None
        self._on_contact()
        return await self._broker(prompt)


async def open_connection(
    spec: NodeSpec, embedded: EmbeddedNode | None = None, ask: AskPerson | None = None
) -> asyncssh.SSHClientConnection:
    """Connect to one node. ``ask`` shows prompts to a person. None: a login that needs a person is refused.

    Raises NodeRefused or NodeUnreachable with the node's name.
    """
    return await Connector(ask).open(spec, embedded)


async def _route(target: _Target, is_behind_jump_host: bool, jumps_left: int) -> list[_Hop]:
    """All machines on the route to a target, the target last. Connects to none of them. Raises NodeRefused.

    ``is_behind_jump_host``: the target follows another host in the same list of jump hosts, so its own ProxyJump does not apply.
    """
    host = target.host
    if jumps_left < 0:
        raise NodeRefused(f"more than {MAX_JUMPS} jump hosts on the way to {host}", hint="look for a cycle of ProxyJump")
    own = {name: getattr(target, name) for name in ("user", "port") if name not in target.inherited}
    settings = await read_config(host, own.get("user"), own.get("port"))
    if target.pin is None:
        settings.refuse_unsafe_options(host)

    def effective(name: str, configured: Any) -> Any:
        own = getattr(target, name)
        return configured if own is None or (name in target.inherited and configured is not None) else own

    key = target.key if "key" not in target.inherited or settings.identity_files is None else None
    with _translated_errors(host):
        keys = await asyncio.to_thread(read_keys, settings, key)
    hops: list[_Hop] = []
    jump = None if is_behind_jump_host else effective("jump", settings.proxy_jump)
    if jump is not None and "jump" not in target.inherited and target.jump is not None:
        settings = replace(settings, proxy_command=None)  # a jump host of nodes.toml wins over a ProxyCommand
    if jump is not None and jump.lower() != "none":
        for jump_host in jump.split(","):
            hops += await _route(_parse_jump(jump_host), bool(hops), jumps_left - 1)
    port = effective("port", settings.port) or asyncssh.DEFAULT_PORT
    user = effective("user", settings.user) or local_user()
    return [*hops, _Hop(host, port, user, target.pin, settings, keys, key is None and settings.identity_files is None)]


async def _connect(
    host: str, port: int, login: Login, host_keys: HostKeys | None, on_contact: Callable[[], None], **options: Any
) -> asyncssh.SSHClientConnection | Untrusted:
    """One connection and login, or the verdict on a host key that is not trusted.

    ``host_keys``: None where no key but those of the option ``known_hosts`` is acceptable. The timeouts are counted here, because
    asyncssh would count the time that a person takes to answer.
    """
    loop = asyncio.get_running_loop()
    timeout = asyncio.timeout(CONNECT_TIMEOUT)
    name = host if host_keys is None else host_keys.host
    has_begun_login = False

    def set_timer(is_running: bool) -> None:
        nonlocal has_begun_login
        if not has_begun_login:
            on_contact()
        has_begun_login = True
        if not timeout.expired():
            timeout.reschedule(loop.time() + LOGIN_TIMEOUT if is_running else None)

    client = Client(login, host_keys, set_timer)
    try:
        async with timeout:
            connection: asyncssh.SSHClientConnection = await asyncssh.connect(
                host,
                port,
                client_factory=lambda: client,
                connect_timeout=None,
                login_timeout=0,
                keepalive_interval=KEEPALIVE_INTERVAL,
                keepalive_count_max=KEEPALIVE_COUNT,
                utf8_decode_errors="backslashreplace",
                gss_kex=False,  # it would accept a Kerberos server's word instead of the host key
                x509_trusted_certs=None,
                **options,
            )
            return connection
    except (asyncssh.Error, OSError, ValueError) as error:
        if client.untrusted is not None:  # whatever ended the connection afterwards
            return client.untrusted
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return Rejected(name, error.reason)
        if not isinstance(error, TimeoutError):
            raise
        if has_begun_login:
            raise NodeUnreachable(f"login at {name} timed out after {LOGIN_TIMEOUT:.0f} s", hint="is it overloaded?") from None
        raise NodeUnreachable(
            f"{name} does not answer within {CONNECT_TIMEOUT:.0f} s", hint="is it up, and the address right?"
        ) from None


def _parse_jump(text: str) -> _Target:
    """``user@host:port``, ``host``, ``[ipv6]:port``, ``ssh://user@host:port``. Raises NodeRefused."""
    user, _, address = text.strip().removeprefix("ssh://").rstrip("/").rpartition("@")
    host, _, port = address.rpartition(":") if address.count(":") == 1 or "]:" in address else (address, "", "")
    if not host or host.startswith("-") or (port and not port.isdigit()):
        raise NodeRefused(f"not a jump host: {text!r}", hint="expected user@host:port")
    return _Target(host.strip("[]"), int(port) if port else None, user or None)


@contextmanager
def _translated_errors(host: str) -> Iterator[None]:
    """Raise NodeRefused or NodeUnreachable in place of exceptions of asyncssh and the operating system."""
    try:
        yield
    except asyncssh.PermissionDenied as error:
        raise NodeRefused(
            f"authentication at {host} failed: {error.reason}", hint=f"check user and key in nodes.toml; {AUTHENTICATION_HINT}"
        ) from None
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        raise _unreadable_key(host, error) from None
    except asyncssh.Error as error:
        if "Too many authentication failures" in error.reason:  # OpenSSH's text; the protocol has no code for it
            raise NodeRefused(
                f"authentication at {host} failed: {error.reason}", hint=f"too many keys? {AUTHENTICATION_HINT}"
            ) from None
        raise NodeUnreachable(f"{host}: {error.reason or type(error).__name__}", hint=_hint_of(error)) from None
    except OSError as error:
        if error.filename is not None:  # a local file, not the network
            raise _unreadable_key(host, error) from None
        raise NodeUnreachable(f"{host}: {error.strerror or error}", hint="is it up, and the address right?") from None
    except ValueError as error:  # what asyncssh raises for an invalid setting
        raise NodeRefused(f"{host}: {error}", hint="check ~/.ssh/config") from None


def _hint_of(error: asyncssh.Error) -> str | None:
    """What to look at for an error of the protocol; None: its text says all."""
    if isinstance(error, asyncssh.ChannelOpenError):
        if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            return "the jump host forbids forwarding: AllowTcpForwarding or PermitOpen of its sshd"
        return "the jump host does not reach it: is it up, and the address right from there?"
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return "it and this machine have no such algorithm in common: KexAlgorithms, HostKeyAlgorithms or Ciphers in ~/.ssh/config"
    return None


def _unreadable_key(host: str, error: Exception) -> NodeRefused:
    return NodeRefused(f"the key for {host} cannot be read: {error}", hint="check key in nodes.toml; ssh-add unlocks a passphrase")
