"""All nodes of a lab, kept connected: what is lost is tried again, what refused us is not.

Every node has one task of its own, so a node that is down delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import resource
from collections.abc import Callable
from pathlib import Path

import asyncssh

from ..errors import NodeRefused, NodeUnreachable, PacelineError, StorageFailed, UsageError
from ..events import Event, NodeConnecting, NodeDenied, NodeLost, NodeReported
from ..specs import Inventory, NodeSpec
from ..telemetry.progress import TransferProgress
from .connect import Connector
from .embedded import EmbeddedNode
from .link import Link
from .prompts import AskPerson
from .reconnect import BESIDE, Reconnect

MAX_CONNECTING = 128
"""Connections being opened at one time, in all."""
SILENCE = 0.5
"""Seconds after which an attempt that hears nothing gives its place to another: a black hole shall hold up nobody."""
BACK_OFF = (0.5, 30.0)
"""Seconds until the next attempt where the last one failed: at least and at most."""
VISIT_INTERVAL = 3600.0
"""Seconds between readings that nobody hears."""
STABLE = 10.0
"""Seconds a link must hold until the back-off starts over."""
FRESH = 1.2
"""Seconds between attempts at a node that was connected and is silent now, so that it is found when its link is back."""
MAX_SEARCHING = 40.0
"""Such attempts a second, in all: each costs some milliseconds, and nothing else may suffer from a lab that is out of reach."""


class _Member:
    """What the fleet knows of one node."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.link: Link | None = None
        self.search: Reconnect[Link] | None = None
        """While it is looked for, having been connected before."""
        self.was_connected = False
        self.trouble: PacelineError | None = None
        """What the last attempt ended with."""
        self.is_settled = False
        """Whether it has reported, refused, or failed once."""

    @property
    def is_decided(self) -> bool:
        """Whether waiting longer for its link is of no use: it is there, or it said no, or has no space for us."""
        return self.link is not None or isinstance(self.trouble, (NodeRefused, StorageFailed))


class Fleet:
    """The connections to all nodes of an inventory. ``publish`` hears everything that happens to them."""

    def __init__(
        self, inventory: Inventory, publish: Callable[[Event], None], interval: float = 1.0, ask: AskPerson | None = None
    ) -> None:
        """``ask`` puts what a login needs to a person; None: what would need one is refused."""
        self._directory = Path(inventory.path).parent / "logs" / "nodes"
        self._members = {spec.name: _Member(spec) for spec in inventory.nodes}
        self._publish = publish
        self._interval = interval
        self._tasks: list[asyncio.Task[None]] = []
        self._embedded: list[EmbeddedNode] = []
        self._waiting: set[asyncio.Future[None]] = set()
        self._connecting = asyncio.Semaphore(MAX_CONNECTING)
        self._doors = Connector(ask)
        self._parcels = TransferProgress("bringing our modules to the nodes", publish)
        self._random = random.Random()

    async def start(self) -> None:
        """Begin to connect to every node; returns at once."""
        _make_room(len(self._members) * (BESIDE + 2))
        client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._tasks = [asyncio.ensure_future(self._keep(member, client_key)) for member in self._members.values()]

    async def link(self, name: str, patience: float = 30.0) -> Link:
        """The link of a node, waited for up to ``patience`` seconds. Raises NodeUnreachable, NodeRefused or StorageFailed."""
        member = self._members.get(name)
        if member is None:
            raise UsageError(f"nodes.toml names no node {name!r}")
        await self._wait_until(lambda: member.is_decided, patience)
        if member.link is not None:
            return member.link
        raise member.trouble or NodeUnreachable(f"no answer within {patience:g} s", node=name)

    async def connect_again(self, name: str) -> Link:
        """A second connection to a node, for the caller to close; its readings are not heard.

        Nobody is asked: who has answered once does not expect the same question again, and accepted host keys are known by now.
        So a login that needs a person raises NodeRefused; else NodeUnreachable or StorageFailed.
        """
        return await Link.open(self._members[name].spec, None, lambda event: None, VISIT_INTERVAL, self._doors.unattended())

    async def wait_settled(self, patience: float = 30.0) -> None:
        """Wait until every node has reported, refused us, or failed once; at most ``patience`` seconds."""
        await self._wait_until(lambda: all(member.is_settled for member in self._members.values()), patience)

    async def close(self) -> None:
        """End every connection and every embedded server; returns when nothing of them is left."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in self._embedded))
        for end in ends:
            if isinstance(end, Exception):  # a fault of ours, which its node has shown already
                raise end

    async def _wait_until(self, is_true: Callable[[], bool], patience: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not is_true():
                    woken = asyncio.get_running_loop().create_future()
                    self._waiting.add(woken)
                    await woken

    def _tell(self) -> None:
        """Something changed: whoever waits looks again."""
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(None)
        self._waiting.clear()

    async def _keep(self, member: _Member, client_key: asyncssh.SSHKey) -> None:
        """Connect, hold, and connect again, until refused."""
        try:
            await self._try_again_and_again(member, client_key)
        except NodeRefused as error:
            self._give_up(member, error)
        except Exception as error:
            self._give_up(
                member, NodeRefused(f"a fault of Paceline itself: {type(error).__name__}: {error}", node=member.spec.name)
            )
            raise

    def _give_up(self, member: _Member, error: NodeRefused) -> None:
        member.trouble = error
        member.is_settled = True
        self._publish(NodeDenied(node=member.spec.name, reason=error.reason, hint=error.hint or ""))
        self._tell()

    async def _try_again_and_again(self, member: _Member, client_key: asyncssh.SSHKey) -> None:
        name = member.spec.name
        embedded: EmbeddedNode | None = None
        if member.spec.kind == "embedded":
            embedded = EmbeddedNode(self._directory / name, client_key)
            self._embedded.append(embedded)
        failures = attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            attempt += 1
            self._publish(NodeConnecting(node=name, attempt=attempt))
            link: Link | None = None
            is_stable = False
            try:
                link = member.link = await self._reach(member, embedded)
                began = loop.time()
                self._tell()
                reason = await link.lost
                is_stable = loop.time() - began >= STABLE
                self._lose(member, NodeUnreachable(f"the link was lost: {reason}", node=name))
            except NodeRefused:
                raise
            except PacelineError as error:
                self._lose(member, error)
            finally:
                member.link = None
                if link is not None:
                    await link.close()
            failures = 0 if is_stable else failures + 1
            least, longest = 0.0 if is_stable else BACK_OFF[0], min(BACK_OFF[1], BACK_OFF[0] * 2.0 ** min(failures, 8))
            await asyncio.sleep(self._random.uniform(least, longest))

    async def _reach(self, member: _Member, embedded: EmbeddedNode | None) -> Link:
        """Open the link; of a node that was connected before as soon as it can be."""
        if not member.was_connected:
            link = await self._open(member, embedded, lambda: None)
            member.was_connected = True
            return link
        member.search = Reconnect(lambda heard: self._open(member, embedded, heard))
        try:
            link = await member.search.find(self._pace, lambda error: self._lose(member, error))
        finally:
            member.search = None
        for other in self._members.values():
            if other.search is not None:  # it may have been lost with this one
                other.search.retry_now(self._random.uniform(0.0, BACK_OFF[0]))
        return link

    def _pace(self) -> float:
        """Seconds until the next attempt at one of those that are looked for."""
        searching = sum(member.search is not None for member in self._members.values())
        return self._random.uniform(0.8, 1.2) * min(BACK_OFF[1], max(FRESH, searching / MAX_SEARCHING))

    def _lose(self, member: _Member, trouble: PacelineError) -> None:
        """Say that a node is out of reach, once for every reason."""
        is_news = member.link is not None or member.trouble is None or member.trouble.reason != trouble.reason
        member.link = None
        member.trouble = trouble
        member.is_settled = True
        if is_news or member.search is None:
            self._publish(NodeLost(node=member.spec.name, reason=trouble.reason))
        self._tell()

    async def _open(self, member: _Member, embedded: EmbeddedNode | None, heard: Callable[[], None]) -> Link:
        """One attempt, which needs one of the places; while nobody speaks it keeps it for a moment only."""
        await self._connecting.acquire()
        with contextlib.ExitStack() as place:
            place.callback(self._connecting.release)
            silence = asyncio.get_running_loop().call_later(SILENCE, place.close)
            place.callback(silence.cancel)

            def spoke() -> None:
                silence.cancel()
                heard()

            if embedded is not None and embedded.port == 0:
                await embedded.start()
            hear = functools.partial(self._hear, member)
            return await Link.open(member.spec, embedded, hear, self._interval, self._doors, spoke, self._parcels)

    def _hear(self, member: _Member, event: Event) -> None:
        self._publish(event)
        if isinstance(event, NodeReported) and not member.is_settled:
            member.is_settled = True
            self._tell()


def _make_room(wanted: int) -> None:
    """Allow as many open files as the nodes may need, where the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted += 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
