"""The fleet: links to all nodes of a lab. A lost node is reconnected; a node that refused the login is not.

Every node has a task of its own, so a node that is down delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import random
import resource
from collections.abc import Callable
from pathlib import Path

import asyncssh

from ..errors import NodeRefused, NodeUnreachable, PacelineError, StorageFailed, UsageError
from ..events import Event, NodeConnecting, NodeDenied, NodeLost, NodeReported, NodeWarned
from ..specs import Inventory, NodeSpec
from ..telemetry.bus import Publish
from ..telemetry.progress import TransferProgress
from .connect import Connector
from .embedded import EmbeddedNode
from .link import Link
from .prompts import AskPerson
from .reconnect import MAX_SILENT_ATTEMPTS, Reconnect
from .slot_link import SlotLink, slot_reading

MAX_CONNECTING = 128
"""Connections that are opened concurrently, of all nodes together."""
SILENT_SLOT_TIMEOUT = 0.5
"""Seconds after which an attempt without an answer frees its connect slot, so that unreachable nodes do not delay the others."""
BACKOFF_RANGE = (0.5, 30.0)
"""Seconds between a failed attempt and the next: minimum and maximum."""
SECOND_LINK_INTERVAL = 3600.0
"""Seconds between readings on a second link, whose readings are discarded."""
STABLE_AFTER = 10.0
"""Seconds that a link must last before the back-off is reset."""
RECONNECT_INTERVAL = 1.2
"""Seconds between attempts at a lost node that does not answer."""
SLOT_INTERVAL = 2.0
"""Least seconds between two reports of the declared devices of a slot, which never change."""
MAX_RECONNECTS_PER_SECOND = 40.0
"""Limit of these attempts for all nodes together. Each costs milliseconds, and an unreachable lab must not slow down the UI."""

logger = logging.getLogger(__name__)


class _Member:
    """The state of one node in the fleet."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.link: Link | None = None
        self.reconnect: Reconnect[Link] | None = None
        """Set while the node is reconnected after a loss."""
        self.was_connected = False
        self.error: PacelineError | None = None
        """Error of the last attempt."""
        self.is_settled = False
        """Whether the node has reported, refused or failed at least once."""

    @property
    def is_decided(self) -> bool:
        """Whether waiting longer for the link is pointless: it is open, or the node refused, or its disk is full."""
        return self.link is not None or isinstance(self.error, (NodeRefused, StorageFailed))


class Fleet:
    """The links to all nodes of an inventory. Publishes their events."""

    def __init__(self, inventory: Inventory, publish: Publish, interval: float = 1.0, ask: AskPerson | None = None) -> None:
        """``interval``: seconds between readings. ``ask`` shows prompts to a person; None: a login that needs one is refused."""
        self._directory = Path(inventory.path).parent / "logs" / "nodes"
        self._members = {spec.name: _Member(spec) for spec in inventory.nodes}
        self._publish = publish
        self._interval = interval
        self._tasks: list[asyncio.Task[None]] = []
        self._embedded: list[EmbeddedNode] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._connect_slots = asyncio.Semaphore(MAX_CONNECTING)
        self._connector = Connector(ask, lambda node, text: publish(NodeWarned(node=node, reason=text)))
        self._upload_progress = TransferProgress("sending Paceline's modules to the nodes", publish)
        self._random = random.Random()

    async def start(self) -> None:
        """Start connecting to every node. Returns without waiting."""
        _raise_open_file_limit(len(self._members) * (MAX_SILENT_ATTEMPTS + 2))
        client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._tasks = [asyncio.ensure_future(self._supervise(member, client_key)) for member in self._members.values()]

    async def link(self, name: str, patience: float = 30.0) -> Link:
        """The link of a node, after waiting up to ``patience`` seconds for it.

        Raises UsageError for an unknown node, else NodeUnreachable, NodeRefused or StorageFailed.
        """
        member = self._members.get(name)
        if member is None:
            raise UsageError(f"no node {name!r} in nodes.toml")
        await self._wait_until(lambda: member.is_decided, patience)
        if member.link is not None:
            return member.link
        raise member.error or NodeUnreachable(f"no answer within {patience:g} s", node=name)

    def login_of(self, name: str) -> str | None:
        """The login node of a slot; None: the node is reached itself, or unknown."""
        member = self._members.get(name)
        return member.spec.slot.login if member is not None and member.spec.slot is not None else None

    async def open_second_link(self, name: str) -> Link:
        """A second link to a node, for the caller to close. Its readings are discarded.

        It never prompts: a person who has answered once does not expect the same prompt again, and confirmed host keys are known by
        now. Raises NodeRefused where the login needs a person, else NodeUnreachable or StorageFailed.
        """
        connector = self._connector.unattended()
        return await Link.open(self._members[name].spec, None, lambda event: None, SECOND_LINK_INTERVAL, connector=connector)

    async def wait_settled(self, patience: float = 30.0) -> None:
        """Wait until every node has reported, refused or failed once; at most ``patience`` seconds."""
        await self._wait_until(lambda: all(member.is_settled for member in self._members.values()), patience)

    async def cut_power(self, name: str) -> None:
        """Close the server of an embedded node: it is lost until ``restore_power``. Raises UsageError for any other node."""
        await self._server(name).close()

    def restore_power(self, name: str) -> None:
        """Let the next attempt to connect open the server of an embedded node again."""
        self._server(name).port = 0

    def _server(self, name: str) -> EmbeddedNode:
        server = next((one for one in self._embedded if one.directory.name == name), None)
        if server is None:
            raise UsageError(f"{name} is no embedded node that is served")
        return server

    async def close(self) -> None:
        """Close every link and every embedded server. Returns when all have ended. Raises an internal error of a node's task."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._embedded))
        for end in ends:
            if isinstance(end, Exception):  # an internal error, already published for its node
                raise end

    async def _wait_until(self, is_true: Callable[[], bool], patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not is_true():
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    await waiter

    def _wake_waiters(self) -> None:
        """Let every waiter check its condition again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _supervise(self, member: _Member, client_key: asyncssh.SSHKey) -> None:
        """Keep one node connected until it refuses the login."""
        try:
            await self._reconnect_forever(member, client_key)
        except NodeRefused as error:
            self._mark_refused(member, error)
        except Exception as error:
            self._mark_refused(
                member, NodeRefused(f"internal error of Paceline: {type(error).__name__}: {error}", node=member.spec.name)
            )
            raise

    def _mark_refused(self, member: _Member, error: NodeRefused) -> None:
        logger.warning("%s: refused, not tried again: %r", member.spec.name, error.reason)
        member.error = error
        member.is_settled = True
        self._publish(NodeDenied(node=member.spec.name, reason=error.reason, hint=error.hint or ""))
        self._wake_waiters()

    async def _follow_login(self, member: _Member, login: _Member) -> None:
        """Keep a slot connected for as long as its login node is. Raises NodeRefused where that refuses."""
        name = member.spec.name
        while True:
            await self._wait_until(lambda: login.link is not None or login.error is not None, math.inf)
            if login.link is None:
                error = login.error
                if isinstance(error, NodeRefused):
                    raise NodeRefused(f"its login node {login.spec.name}: {error.reason}", node=name, hint=error.hint)
                reason = f"its login node {login.spec.name}: {error.reason if error else 'lost'}"
                self._mark_lost(member, NodeUnreachable(reason, node=name, hint=error.hint if error else None))
                await self._wait_until(functools.partial(_has_news, login, error), math.inf)
                continue
            link = member.link = SlotLink(member.spec, login.link)
            member.error, member.is_settled = None, True
            self._publish(link.hello)
            self._wake_waiters()
            while not link.lost.done():
                self._publish(slot_reading(member.spec))
                await asyncio.wait({link.lost}, timeout=max(self._interval, SLOT_INTERVAL))
            self._mark_lost(member, NodeUnreachable(f"the link was lost: {link.lost.result()}", node=name))
            await self._wait_until(lambda: login.link is None or not login.link.lost.done(), math.inf)

    async def _reconnect_forever(self, member: _Member, client_key: asyncssh.SSHKey) -> None:
        name = member.spec.name
        if member.spec.slot is not None:
            await self._follow_login(member, self._members[member.spec.slot.login])
            return
        embedded: EmbeddedNode | None = None
        if member.spec.kind == "embedded":
            embedded = EmbeddedNode(self._directory / name, client_key)
            self._embedded.append(embedded)
        failures = attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            attempt += 1
            logger.debug("%s: attempt %d", name, attempt)
            self._publish(NodeConnecting(node=name, attempt=attempt))
            link: Link | None = None
            is_stable = False
            try:
                link = member.link = await self._connect(member, embedded)
                connected_at = loop.time()
                logger.info("%s: connected at attempt %d", name, attempt)
                self._wake_waiters()
                reason = await link.lost
                is_stable = loop.time() - connected_at >= STABLE_AFTER
                self._mark_lost(member, NodeUnreachable(f"the link was lost: {reason}", node=name))
            except NodeRefused:
                raise
            except PacelineError as error:
                self._mark_lost(member, error)
            finally:
                member.link = None
                if link is not None:
                    await link.close()
            failures = 0 if is_stable else failures + 1
            shortest, longest = (
                0.0 if is_stable else BACKOFF_RANGE[0],
                min(BACKOFF_RANGE[1], BACKOFF_RANGE[0] * 2.0 ** min(failures, 8)),
            )
            delay = self._random.uniform(shortest, longest)
            logger.debug("%s: next attempt in %.1f s", name, delay)
            await asyncio.sleep(delay)

    async def _connect(self, member: _Member, embedded: EmbeddedNode | None) -> Link:
        """Open the link. A node that was connected before gets concurrent attempts, so that it is back as soon as it answers."""
        if not member.was_connected:
            link = await self._open(member, embedded, lambda: None)
            member.was_connected = True
            return link
        member.reconnect = Reconnect(lambda on_contact: self._open(member, embedded, on_contact))
        try:
            link = await member.reconnect.find(self._reconnect_interval, lambda error: self._mark_lost(member, error))
        finally:
            member.reconnect = None
        for other in self._members.values():
            if other.reconnect is not None:  # the same outage may have cut it off
                other.reconnect.retry_now(self._random.uniform(0.0, BACKOFF_RANGE[0]))
        return link

    def _reconnect_interval(self) -> float:
        """Seconds until the next attempt at a lost node."""
        lost_nodes = sum(member.reconnect is not None for member in self._members.values())
        return self._random.uniform(0.8, 1.2) * min(
            BACKOFF_RANGE[1], max(RECONNECT_INTERVAL, lost_nodes / MAX_RECONNECTS_PER_SECOND)
        )

    def _mark_lost(self, member: _Member, error: PacelineError) -> None:
        """Publish that a node is lost, once per reason."""
        is_news = member.link is not None or member.error is None or member.error.reason != error.reason
        member.link = None
        member.error = error
        member.is_settled = True
        if is_news or member.reconnect is None:
            logger.warning("%s: lost: %r", member.spec.name, error.reason)
            self._publish(NodeLost(node=member.spec.name, reason=error.reason, hint=error.hint or ""))
        self._wake_waiters()

    async def _open(self, member: _Member, embedded: EmbeddedNode | None, on_contact: Callable[[], None]) -> Link:
        """One attempt to open the link. It holds a connect slot until it ends, or for ``SILENT_SLOT_TIMEOUT`` without an answer."""
        await self._connect_slots.acquire()
        with contextlib.ExitStack() as slot:
            slot.callback(self._connect_slots.release)
            timer = asyncio.get_running_loop().call_later(SILENT_SLOT_TIMEOUT, slot.close)
            slot.callback(timer.cancel)

            def hold_slot() -> None:
                timer.cancel()
                on_contact()

            if embedded is not None and embedded.port == 0:
                await embedded.start()
            return await Link.open(
                member.spec,
                embedded,
                functools.partial(self._on_event, member),
                self._interval,
                connector=self._connector,
                on_contact=hold_slot,
                upload_progress=self._upload_progress,
            )

    def _on_event(self, member: _Member, event: Event) -> None:
        self._publish(event)
        if isinstance(event, NodeReported) and not member.is_settled:
            member.is_settled = True
            self._wake_waiters()


def _has_news(login: _Member, told: PacelineError | None) -> bool:
    """Whether a login node is connected, or fails for another reason than the one its slots have told."""
    return login.link is not None or login.error is not told


def _raise_open_file_limit(connections: int) -> None:
    """Raise the soft limit of open files to what the connections may need, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 1024
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard))
