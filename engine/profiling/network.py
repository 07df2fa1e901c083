"""Network profile: latency and bandwidth of every pair of nodes in both directions, and all-reduce on the real backend.

Pairs use plain sockets and are measured before the group forms: a link blocked in one direction would break the group, so its error
is recorded here and the other links are measured. An emulated network (``[link]``) delays every message, as in training.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
import torch.distributed as dist

from ..events import AllReduceProfiled, LinkProfiled
from ..plan import NodePlan, Plan
from ..training.emulation.network import EmulatedLink
from ..training.group.process_group import Group
from .device import synchronize
from .line_fit import fit_line
from .rank_sync import RankSync

LINK_TIMEOUT_S = 4.0
"""Timeout of a connection, and of each answer."""
TOKEN_TIMEOUT_S, MAX_CONNECTIONS = 1.0, 64
"""Seconds within which each part of the token must arrive, and connections at once: one that knows no token costs little."""
PING_BYTES, PING_COUNT = 1, 9
FIRST_MESSAGE_BYTES, MAX_MESSAGE_BYTES = 32 << 10, 16 << 20
"""Sizes of the messages: doubled from the first until one takes longer than MAX_MESSAGE_SECONDS."""
MAX_MESSAGE_SECONDS = 0.1
MESSAGE_REPEATS = 3
ALL_REDUCE_BYTES = tuple(1 << power for power in (10, 12, 14, 16, 18, 20, 22, 24, 25))
"""Sizes of the all-reduce messages, up to more than DDP's largest bucket."""
ALL_REDUCE_REPEATS, SMALL_ALL_REDUCE_REPEATS, SMALL_ALL_REDUCE_BYTES = 7, 25, 256 << 10
"""Repeats of each size, of which the median counts; more for small messages, which a busy host delays longer than they take."""
MAX_ALL_REDUCE_SECONDS = 0.3
"""A larger message is not tried after one that takes longer."""
_TOKEN_CHARS = 32
_HEADER_BYTES = 8


def measure_links(plan: Plan, node: NodePlan, sync: RankSync, write: Callable[[LinkProfiled], None]) -> None:
    """Measure the links of this node, on its first rank: every other node once, in rounds of disjoint pairs."""
    link = None if plan.link is None else EmulatedLink(plan.link, len(plan.ranks), plan.seed)
    token = secrets.token_hex(_TOKEN_CHARS // 2)
    listener = socket.create_server((node.address, 0), family=socket.AF_INET6 if ":" in node.address else socket.AF_INET)
    threading.Thread(target=_serve_echo, args=(listener, token, link), daemon=True).start()
    leaders = [peer_node.ranks[0] for peer_node in plan.nodes]
    sync.publish("links", f"{listener.getsockname()[1]} {token}")
    try:
        addresses = sync.collect("links", leaders, LINK_TIMEOUT_S * 4)
        for number, pairs in enumerate(round_robin_pairs(len(plan.nodes))):
            mine = next((pair for pair in pairs if node.node_rank in pair), None)
            if mine is not None:
                peer = plan.nodes[mine[0] + mine[1] - node.node_rank]
                one, other = leaders[mine[0]], leaders[mine[1]]
                if node.node_rank == mine[1]:  # the first of a pair measures first
                    sync.collect(f"pair {number}", [one], LINK_TIMEOUT_S * 5)
                write(measure_link(peer.name, peer.address, addresses.get(leaders[peer.node_rank], ""), link))
                sync.publish(f"pair {number}")
                sync.collect(f"pair {number}", [one, other], LINK_TIMEOUT_S * 5)
    finally:
        listener.close()


def round_robin_pairs(nodes: int) -> Iterator[list[tuple[int, int]]]:
    """Yield rounds of disjoint pairs that together contain every pair once (round-robin tournament, circle method)."""
    seats: list[int | None] = [*range(nodes), *([None] if nodes % 2 else [])]
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        pairs = zip(seats[:half], reversed(seats[half:]), strict=True)
        yield [(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None]
        seats.insert(1, seats.pop())


def measure_link(peer: str, address: str, listener: str, link: EmulatedLink | None) -> LinkProfiled:
    """Return the link from this node to a peer; a failure is in its ``error``."""
    if not listener:
        return LinkProfiled(peer=peer, error=f"{peer} did not publish its port")
    port, _, token = listener.partition(" ")
    try:
        with socket.create_connection((address, int(port)), LINK_TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(LINK_TIMEOUT_S)
            connection.sendall(token.encode())
            latency, bandwidth = _measure_growing_messages(lambda size: _round_trip_seconds(connection, size, link))
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return LinkProfiled(peer=peer, error=f"{peer} at {address} is unreachable: {reason}")
    return LinkProfiled(peer=peer, latency=latency, bandwidth=bandwidth)


def _measure_growing_messages(seconds: Callable[[int], float]) -> tuple[float, float | None]:
    """Return latency and bandwidth by growing messages, each answered with one byte."""
    sizes, times = [PING_BYTES], [median([seconds(PING_BYTES) for _ in range(PING_COUNT)])]
    size = FIRST_MESSAGE_BYTES
    while size <= MAX_MESSAGE_BYTES and times[-1] <= MAX_MESSAGE_SECONDS:
        sizes.append(size)
        times.append(median([seconds(size) for _ in range(MESSAGE_REPEATS)]))
        size *= 2
    fitted = fit_line(sizes, times)
    return times[0] / 2, 1.0 / fitted.slope if fitted.slope > 0 else None


def _round_trip_seconds(connection: socket.socket, size: int, link: EmulatedLink | None) -> float:
    start = time.perf_counter()
    connection.sendall(size.to_bytes(_HEADER_BYTES, "big") + bytes(size))
    if not connection.recv(1):
        raise ConnectionResetError("the connection was closed")
    if link is not None:
        time.sleep(link.hop_seconds(1))  # the way of the answer
    return time.perf_counter() - start


def _serve_echo(listener: socket.socket, token: str, link: EmulatedLink | None) -> None:
    """Answer the messages of peers that know the token, until the listener is closed. Strangers hold up nobody but each other."""
    places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            _answer_messages(connection, token, link)
        places.release()

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if places.acquire(blocking=False):
            threading.Thread(target=answer, args=(connection,), daemon=True).start()
        else:
            connection.close()


def _answer_messages(connection: socket.socket, token: str, link: EmulatedLink | None) -> None:
    """Answer one connection until its peer closes it. Raises OSError."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(TOKEN_TIMEOUT_S)
    if not hmac.compare_digest(_receive(connection, len(token)), token.encode()):
        return
    connection.settimeout(LINK_TIMEOUT_S)
    while (size := int.from_bytes(_receive(connection, _HEADER_BYTES), "big")) <= MAX_MESSAGE_BYTES:
        _receive(connection, size)
        if link is not None:
            time.sleep(link.hop_seconds(size))
        connection.sendall(b"!")


def _receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly that many bytes. Raises OSError when the peer closes earlier."""
    received = bytearray()
    while len(received) < size:
        part = connection.recv(min(1 << 20, size - len(received)))
        if not part:
            raise ConnectionResetError("the connection was closed")
        received += part
    return bytes(received)


def measure_all_reduce(plan: Plan, group: Group) -> AllReduceProfiled | None:
    """Return the all-reduce profile on the backend of training; None for a single rank. Collective."""
    if group.size < 2:
        return None
    link = None if plan.link is None else EmulatedLink(plan.link, group.size, plan.seed)
    backend = dist.distributed_c10d._get_default_group()

    def seconds(buffer: torch.Tensor) -> float:
        synchronize(group.device)
        start = time.perf_counter()
        done = backend.allreduce([buffer]).get_future()
        if link is not None:
            done = link.deliver_after(done, link.ring_seconds(buffer.nbytes))
        done.wait()
        synchronize(group.device)
        return time.perf_counter() - start

    sizes: list[int] = []
    times: list[float] = []
    for size in ALL_REDUCE_BYTES:
        buffer = torch.zeros(size // 4, device=group.device)
        seconds(buffer)  # not measured: connections are cold and ranks arrive late
        own = median(
            [seconds(buffer) for _ in range(SMALL_ALL_REDUCE_REPEATS if size <= SMALL_ALL_REDUCE_BYTES else ALL_REDUCE_REPEATS)]
        )
        slowest = max(row[0] for row in group.gather([own]))  # the same on every rank, so all ranks stop at the same size
        sizes.append(size)
        times.append(slowest)
        if slowest > MAX_ALL_REDUCE_SECONDS:
            break
    fitted = fit_line(sizes, times)
    beta = 1.0 / fitted.slope if fitted.slope > 0 else None
    return AllReduceProfiled(
        world_size=group.size,
        alpha=fitted.offset,
        beta=beta,
        residual=fitted.residual,
        sizes=tuple(sizes),
        seconds=tuple(times),
        error="" if beta is not None else "all-reduce does not take longer for larger messages",
    )
