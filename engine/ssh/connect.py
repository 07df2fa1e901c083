"""Opening SSH connections: whom to ask, through which machines, and within which time.

Every machine on the way is verified and logged into in the same manner. What nodes.toml says of a node wins over ~/.ssh/config, and
that over [defaults]. Foreign exceptions end here.
"""

from __future__ import annotations

import asyncio
import functools
import getpass
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncssh

from ..errors import NodeRefused, NodeUnreachable, PacelineError
from ..specs import NodeSpec
from .config import Settings, read_config
from .embedded import EmbeddedNode
from .greeting import GreetingTap
from .host_keys import HostKeyCheck, HostKeyRefused, add_known_host
from .login import HINT, Client, Keys, Login, read_keys, unlock
from .prompts import AskPerson, LoginPrompt, PromptBroker

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connection and the key exchange of one hop."""
LOGIN_TIMEOUT = 15.0
"""Seconds for authentication at one hop, without the time in which a person thinks."""
KEEPALIVE_INTERVAL = 3.0
KEEPALIVE_COUNT = 2
"""A dead peer shows after interval * (count + 1) = 9 s."""
MAX_JUMPS = 8
MAX_ENTERING = 8
"""Logins at one jump host at one time: sshd drops more than MaxStartups (10) at random."""
_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Asked for first: to open a packet of 3 kB takes one call and a fifth of the time of ChaCha20, which is put together in Python."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Target:
    """One machine on the way, as far as nodes.toml decides; None: ~/.ssh/config decides."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    pin: str | None = None
    inherited: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Hop:
    """One machine on the way, all that was said of it put together."""

    host: str
    port: int
    user: str
    pin: str | None
    settings: Settings
    keys: Keys
    has_usual_keys: bool
    """Whether nobody named its keys."""

    @property
    def place(self) -> str:
        return f"{self.user}@{self.host}"


class Connector:
    """Opens connections for one control process; bounds the logins at each jump host and shares what a person answers."""

    def __init__(self, ask: AskPerson | None = None) -> None:
        self._ask = PromptBroker(ask) if ask is not None else None
        self._entering: dict[tuple[str, int], asyncio.Semaphore] = {}

    def unattended(self) -> Connector:
        """The same doors with nobody to ask: no more log in at a jump host at one time for it."""
        doors = Connector()
        doors._entering = self._entering
        return doors

    async def open(
        self, spec: NodeSpec, embedded: EmbeddedNode | None = None, heard: Callable[[], None] = lambda: None
    ) -> asyncssh.SSHClientConnection:
        """Connect to a node. Raises NodeRefused or NodeUnreachable with the node's name.

        ``heard`` is called when the first machine on the way has spoken, or a person is asked: from then on it is not silent.
        """
        try:
            if embedded is not None:
                return await _retry_host_key_once(lambda: _connect_embedded(embedded, heard))
            asked = _Target(spec.host or spec.name, spec.port, spec.user, spec.key, spec.jump, spec.host_key, spec.inherited)
            return await _Attempt(spec.name, self._ask, heard, self._entering).go(await _route(asked, False, MAX_JUMPS))
        except PacelineError as error:
            error.node = spec.name
            raise


class _Attempt:
    """One attempt at one node."""

    def __init__(
        self, node: str, ask: AskPerson | None, heard: Callable[[], None], entering: dict[tuple[str, int], asyncio.Semaphore]
    ) -> None:
        self._node = node
        self._person = ask
        self._ask = self._put if ask is not None else None
        self._heard = heard
        self._entering = entering

    async def _put(self, question: LoginPrompt) -> str | None:
        assert self._person is not None
        self._heard()
        return await self._person(question)

    async def go(self, route: list[_Hop]) -> asyncssh.SSHClientConnection:
        """Log in at one machine after the other, each through the one before."""
        for hop in route:
            await unlock(hop.keys, hop.settings, self._node, hop.host, hop.has_usual_keys, self._ask)
        here: asyncssh.SSHClientConnection | None = None
        for hop in route:
            try:
                async with AsyncExitStack() as gate:
                    if hop is not route[-1]:
                        place = (hop.settings.host, hop.port)
                        await gate.enter_async_context(self._entering.setdefault(place, asyncio.Semaphore(MAX_ENTERING)))
                    there = await _retry_host_key_once(functools.partial(self._enter, hop, here))
            except BaseException:
                if here is not None:
                    here.abort()
                raise
            if here is not None:
                there.set_tunnel(here)  # closes with it
            here = there
        assert here is not None
        return here

    async def _enter(
        self, hop: _Hop, tunnel: asyncssh.SSHClientConnection | None, tried: tuple[asyncssh.SSHKey, ...] = ()
    ) -> asyncssh.SSHClientConnection:
        """Connect to one machine and log in, once its key is trusted.

        ``tried``: keys that it has shown and its pin does not mean: it is asked for other kinds before those.
        """
        check = HostKeyCheck(hop.host, hop.settings, hop.port, hop.pin, tried)
        try:
            return await self._attempt(hop, check, tunnel)
        except PacelineError:
            if check.shown is None:
                raise
        if hop.pin is not None and not check.has_shown_all:
            return await self._enter(hop, tunnel, (*tried, check.shown))
        if not check.is_unknown or self._ask is None:
            raise check.refusal()
        fingerprint = f"{check.shown.get_algorithm()} {check.shown.get_fingerprint()}"
        text = f"The host key of {hop.host} is unknown: {fingerprint}"
        if await self._ask(LoginPrompt(self._node, hop.host, "host key", text, is_secret=False)) != "yes":
            raise check.refusal()
        add_known_host(hop.settings, hop.port, check.shown)
        return await self._enter(hop, tunnel)  # it is known now: another key would be a changed one

    async def _attempt(
        self, hop: _Hop, check: HostKeyCheck, tunnel: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        street = GreetingTap(hop.settings, self._heard) if tunnel is None and not hop.settings.has_command else None
        keys = hop.keys
        options: dict[str, Any] = {
            "tunnel": tunnel if tunnel is not None else street,
            "username": hop.user,
            "known_hosts": check.known_hosts,
            "server_host_key_algs": () if hop.settings.has_host_key_kinds and hop.pin is None else check.algorithms,
            "encryption_algs": () if hop.settings.has_ciphers else _CIPHERS,
            # An iterator, for it counts as something: asyncssh replaces an empty list by the usual keys.
            "client_keys": keys.ready or iter(()),
            "client_certs": hop.settings.certificates,
            "agent_path": None if keys.identities == [] else hop.settings.agent,
            "agent_identities": keys.identities,
        }
        login = Login(self._node, hop.place, self._ask)
        try:
            return await _translated(hop.host, lambda: _connect(hop.host, hop.port, login, check, self._heard, **options))
        except NodeRefused:
            if login.is_unanswered:
                raise NodeRefused(f"nobody answered what {hop.host} asked", hint=HINT) from None
            raise
        except NodeUnreachable as error:
            raise street.explained(error, hop.host) if street is not None else error from None


async def open_connection(
    spec: NodeSpec, embedded: EmbeddedNode | None = None, ask: AskPerson | None = None
) -> asyncssh.SSHClientConnection:
    """Connect to one node. ``ask`` puts questions to a person; None: what would need one is refused.

    Raises NodeRefused or NodeUnreachable with the node's name.
    """
    return await Connector(ask).open(spec, embedded)


async def _retry_host_key_once(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """A key that is not the known one is looked at once more: one byte that fell over in the exchange looks the same."""
    try:
        return await attempt()
    except HostKeyRefused:
        return await attempt()


async def _connect_embedded(embedded: EmbeddedNode, heard: Callable[[], None]) -> asyncssh.SSHClientConnection:
    options: dict[str, Any] = {"config": [], "agent_path": None, "client_keys": [embedded.client_key], "username": "paceline"}
    known: Any = ([embedded.host_key.convert_to_public()], [], [])
    login = Login("", "paceline@127.0.0.1", None)
    return await _translated(
        "127.0.0.1", lambda: _connect("127.0.0.1", embedded.port, login, None, heard, known_hosts=known, **options)
    )


async def _route(asked: _Target, is_behind: bool, jumps_left: int) -> list[_Hop]:
    """All machines on the way to one, itself last. Nothing is connected yet. Raises NodeRefused.

    ``is_behind``: another machine before it was named together with it, so that its own ProxyJump does not count.
    """
    host = asked.host
    if jumps_left < 0:
        raise NodeRefused(f"more than {MAX_JUMPS} jump hosts on the way to {host}", hint="look for a circle of ProxyJump")
    settings = await _translated(host, lambda: read_config(host, None if "user" in asked.inherited else asked.user))
    if asked.pin is None:
        settings.refuse_switching_off(host)

    def chosen(name: str, configured: Any) -> Any:
        own = getattr(asked, name)
        return configured if own is None or (name in asked.inherited and configured is not None) else own

    key = asked.key if "key" not in asked.inherited or settings.keys is None else None
    keys = await _translated(host, lambda: asyncio.to_thread(read_keys, settings, key))
    way: list[_Hop] = []
    jump = None if is_behind else chosen("jump", settings.jump)
    if jump is not None and jump.lower() != "none":
        for step in jump.split(","):
            way += await _route(_parse_jump(step), bool(way), jumps_left - 1)
    port = chosen("port", settings.port) or asyncssh.DEFAULT_PORT
    user = chosen("user", settings.user) or getpass.getuser()
    return [*way, _Hop(host, port, user, asked.pin, settings, keys, key is None and settings.keys is None)]


async def _connect(
    host: str, port: int, login: Login, check: HostKeyCheck | None, heard: Callable[[], None], **options: Any
) -> asyncssh.SSHClientConnection:
    """One connection and login; the time of each phase is ours to count, for asyncssh would count a person's thinking too."""
    loop = asyncio.get_running_loop()
    has_begun = False
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT) as limit:

            def timing(goes_on: bool) -> None:
                nonlocal has_begun
                if not has_begun:
                    heard()
                has_begun = True
                if not limit.expired():
                    limit.reschedule(loop.time() + LOGIN_TIMEOUT if goes_on else None)

            connection: asyncssh.SSHClientConnection = await asyncssh.connect(
                host,
                port,
                client_factory=lambda: Client(login, check, timing),
                connect_timeout=None,
                login_timeout=0,
                keepalive_interval=KEEPALIVE_INTERVAL,
                keepalive_count_max=KEEPALIVE_COUNT,
                utf8_decode_errors="backslashreplace",
                gss_kex=False,  # it would take the word of a Kerberos server instead of the host key
                x509_trusted_certs=None,
                **options,
            )
            return connection
    except TimeoutError:
        if has_begun:
            raise NodeUnreachable(f"{host} did not let us in within {LOGIN_TIMEOUT:.0f} s", hint="is it overloaded?") from None
        raise NodeUnreachable(
            f"{host} does not answer within {CONNECT_TIMEOUT:.0f} s", hint="is it up, and the address right?"
        ) from None


def _parse_jump(text: str) -> _Target:
    """``user@host:port``, ``host``, ``[ipv6]:port``."""
    user, _, place = text.strip().rpartition("@")
    host, _, port = place.rpartition(":") if place.count(":") == 1 or "]:" in place else (place, "", "")
    if not host or host.startswith("-") or (port and not port.isdigit()):
        raise NodeRefused(f"not a jump host: {text!r}", hint="expected user@host:port")
    return _Target(host.strip("[]"), int(port) if port else None, user or None)


async def _translated(host: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Await an attempt; what goes wrong in it becomes one of our errors."""
    try:
        return await attempt()
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyRefused(f"the host key of {host} was refused: {error.reason}", hint="see known_hosts") from None
    except asyncssh.PermissionDenied as error:
        raise NodeRefused(
            f"authentication at {host} failed: {error.reason}", hint=f"check user and key in nodes.toml; {HINT}"
        ) from None
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        raise _unreadable(host, error) from None
    except asyncssh.ConfigParseError as error:
        raise NodeRefused(f"~/.ssh/config: {error}", hint="ssh -G HOST shows what is wrong") from None
    except asyncssh.Error as error:
        if "Too many authentication failures" in error.reason:
            raise NodeRefused(f"authentication at {host} failed: {error.reason}", hint=f"too many keys? {HINT}") from None
        raise NodeUnreachable(f"{host}: {error.reason or type(error).__name__}") from None
    except OSError as error:
        if error.filename is not None:  # a file of ours, not the network
            raise _unreadable(host, error) from None
        raise NodeUnreachable(f"{host}: {error.strerror or error}", hint="is it up, and the address right?") from None
    except ValueError as error:  # asyncssh's word for an impossible setting
        raise NodeRefused(f"{host}: {error}", hint="check ~/.ssh/config") from None


def _unreadable(host: str, error: Exception) -> NodeRefused:
    return NodeRefused(f"the key for {host} cannot be read: {error}", hint="check key in nodes.toml; ssh-add unlocks a passphrase")
