"""How fast nodes reach each other: latency and bandwidth of every pair both ways, and sums over all ranks on the real backend.

Pairs use plain sockets of their own and come before the group forms: a link that is blocked one way would break that, and so is
said here, and the rest goes on. A played network (``[link]``) is met on every message, as training meets it.
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
from ..training.group import Group
from .device import wait
from .line_fit import fit_line
from .turns import Turns

LIMIT = 4.0
"""Seconds in which a connection must stand, and each answer come."""
SMALL, PINGS = 1, 9
FIRST, LARGEST = 32 << 10, 16 << 20
"""Bytes of messages: doubled from the first until one takes longer than LONG."""
LONG = 0.1
REPEATS = 3
SUMS = tuple(1 << power for power in (10, 12, 14, 16, 18, 20, 22, 24, 25))
"""Bytes of the sums over all ranks, to beyond the largest bucket of DDP."""
SUM_REPEATS, SMALL_SUM_REPEATS, SMALL_SUM = 7, 25, 256 << 10
"""Of each size, of which the median counts: more of up to so many bytes, which a busy host delays by more than they take."""
LONGEST_SUM = 0.3
"""Seconds of a sum beyond which no larger one is tried."""
_TOKEN = 32
_LENGTH = 8


def measure_links(plan: Plan, node: NodePlan, turns: Turns, tell: Callable[[LinkProfiled], None]) -> None:
    """For the first rank of every node: meet every other node once, in rounds of pairs that do not share a node."""
    link = None if plan.link is None else EmulatedLink(plan.link, len(plan.ranks), plan.seed)
    token = secrets.token_hex(_TOKEN // 2)
    listener = socket.create_server((node.address, 0), family=socket.AF_INET6 if ":" in node.address else socket.AF_INET)
    threading.Thread(target=_answer_all, args=(listener, token, link), daemon=True).start()
    leaders = [place.ranks[0] for place in plan.nodes]
    turns.say("links", f"{listener.getsockname()[1]} {token}")
    try:
        heard = turns.hear("links", leaders, LIMIT * 4)
        for number, pairs in enumerate(rounds(len(plan.nodes))):
            mine = next((pair for pair in pairs if node.node_rank in pair), None)
            if mine is not None:
                peer = plan.nodes[mine[0] + mine[1] - node.node_rank]
                one, other = leaders[mine[0]], leaders[mine[1]]
                if node.node_rank == mine[1]:  # the first of the pair measures first
                    turns.hear(f"pair {number}", [one], LIMIT * 5)
                tell(measure_link(peer.name, peer.address, heard.get(leaders[peer.node_rank], ""), link))
                turns.say(f"pair {number}")
                turns.hear(f"pair {number}", [one, other], LIMIT * 5)
    finally:
        listener.close()


def rounds(nodes: int) -> Iterator[list[tuple[int, int]]]:
    """Every pair once, in rounds in which each node has one partner at most: a tournament's circle."""
    seats: list[int | None] = [*range(nodes), *([None] if nodes % 2 else [])]
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        pairs = zip(seats[:half], reversed(seats[half:]), strict=True)
        yield [(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None]
        seats.insert(1, seats.pop())


def measure_link(peer: str, address: str, opened: str, link: EmulatedLink | None) -> LinkProfiled:
    """From here to one peer; whatever is wrong with that is in ``error``."""
    if not opened:
        return LinkProfiled(peer=peer, error=f"{peer} did not say where it listens")
    port, _, token = opened.partition(" ")
    try:
        with socket.create_connection((address, int(port)), LIMIT) as line_to:
            line_to.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line_to.settimeout(LIMIT)
            line_to.sendall(token.encode())
            latency, bandwidth = _measure(lambda size: _send(line_to, size, link))
    except OSError as error:
        reason = "nothing came back in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return LinkProfiled(peer=peer, error=f"no way to {peer} at {address}: {reason}")
    return LinkProfiled(peer=peer, latency=latency, bandwidth=bandwidth)


def _measure(seconds: Callable[[int], float]) -> tuple[float, float | None]:
    """Latency and bandwidth by messages that grow; each is answered with one byte."""
    sizes, times = [SMALL], [median([seconds(SMALL) for _ in range(PINGS)])]
    size = FIRST
    while size <= LARGEST and times[-1] <= LONG:
        sizes.append(size)
        times.append(median([seconds(size) for _ in range(REPEATS)]))
        size *= 2
    fitted = fit_line(sizes, times)
    return times[0] / 2, 1.0 / fitted.slope if fitted.slope > 0 else None


def _send(connection: socket.socket, size: int, link: EmulatedLink | None) -> float:
    begun = time.perf_counter()
    connection.sendall(size.to_bytes(_LENGTH, "big") + bytes(size))
    if not connection.recv(1):
        raise ConnectionResetError("the connection was closed")
    if link is not None:
        time.sleep(link.hop_seconds(1))  # the answer's way
    return time.perf_counter() - begun


def _answer_all(listener: socket.socket, token: str, link: EmulatedLink | None) -> None:
    """Answer those who know the token, one after another, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(LIMIT)
            if hmac.compare_digest(_receive(connection, len(token)), token.encode()):
                while True:
                    size = int.from_bytes(_receive(connection, _LENGTH), "big")
                    if size > LARGEST:
                        break
                    _receive(connection, size)
                    if link is not None:
                        time.sleep(link.hop_seconds(size))
                    connection.sendall(b"!")


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes. Raises OSError when the other side ends before."""
    got = bytearray()
    while len(got) < size:
        part = connection.recv(min(1 << 20, size - len(got)))
        if not part:
            raise ConnectionResetError("the connection was closed")
        got += part
    return bytes(got)


def measure_all_reduce(plan: Plan, group: Group) -> AllReduceProfiled | None:
    """Collective. Sums of growing size on the backend that training uses; None: this rank is alone."""
    if group.size < 2:
        return None
    link = None if plan.link is None else EmulatedLink(plan.link, group.size, plan.seed)
    backend = dist.distributed_c10d._get_default_group()

    def seconds(buffer: torch.Tensor) -> float:
        wait(group.device)
        begun = time.perf_counter()
        done = backend.allreduce([buffer]).get_future()
        if link is not None:
            done = link.carry(done, link.ring_seconds(buffer.nbytes))
        done.wait()
        wait(group.device)
        return time.perf_counter() - begun

    sizes: list[int] = []
    times: list[float] = []
    for size in SUMS:
        buffer = torch.zeros(size // 4, device=group.device)
        seconds(buffer)  # the first meets cold connections, and ranks that come late
        own = median([seconds(buffer) for _ in range(SMALL_SUM_REPEATS if size <= SMALL_SUM else SUM_REPEATS)])
        slowest = max(row[0] for row in group.gather([own]))  # alike on every rank, so all go on or none
        sizes.append(size)
        times.append(slowest)
        if slowest > LONGEST_SUM:
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
        error="" if beta is not None else "sums do not take longer when they grow",
    )
