"""Paths between the nodes of a plan that a firewall closes, found before anything is sent to them.

Every node listens for some seconds and all others try it, in both directions: gloo's ranks and the runners connect either way.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import PlanImpossible, WorkFailed
from ...events import NodeConnected
from ...plan import Plan
from ...ssh.fleet import Fleet
from ..gather import gather_answers
from ..retry import require_int
from .firewall import PORTS, is_loopback

TRY_S, LAST_TRY_S = 3.0, 6.0
"""Seconds for one node to reach another: at first, and once more before the plan is refused."""
OPEN_MARGIN_S = 6.0
"""Seconds that a port is open longer: centre and nodes are some way from each other."""
LINK_PATIENCE_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClosedPath:
    """One node does not reach another."""

    source: str
    target: str
    address: str
    """Training address of ``target``."""
    why: str

    def __str__(self) -> str:
        return f"{self.source} does not reach {self.target} at {self.address}: {self.why}"


async def find_closed_paths(fleet: Fleet, plan: Plan, facts: Mapping[str, NodeConnected]) -> list[ClosedPath]:
    """All closed paths between the nodes of a plan, in its order. Nothing is known of nodes that do not answer; they are left out.

    ``facts``: the hello of each node; nodes of one machine that meet on its loopback need no trial.

    Raises PlanImpossible, naming the node, where one cannot listen on its address.
    """
    addresses = {node.name: node.address for node in plan.nodes}
    boots = {hello.boot_id if (hello := facts.get(name)) else name for name in addresses}
    if len(addresses) < 2 or (len(boots) == 1 and all(is_loopback(address) for address in addresses.values())):
        return []
    closed = await _try_paths(fleet, addresses, TRY_S)
    return await _try_paths(fleet, addresses, LAST_TRY_S) if closed else []


async def refuse_closed_paths(fleet: Fleet, plan: Plan, facts: Mapping[str, NodeConnected]) -> None:
    """Raise PlanImpossible where nodes of a plan do not reach each other."""
    if paths := await find_closed_paths(fleet, plan, facts):
        raise PlanImpossible(closed_text(paths), hint=opening_hint(paths, plan))


def closed_text(paths: Sequence[ClosedPath]) -> str:
    """One line for closed paths; at least one."""
    first, *others = paths
    return f"{first}" + (f"; also {len(others)} more" if others else "")


def opening_hint(paths: Sequence[ClosedPath], plan: Plan) -> str:
    """What to type on a node, or set in nodes.toml."""
    addresses = {node.name: node.address for node in plan.nodes}
    first = paths[0]
    ports = PORTS.replace("-", ":")
    command = f"ufw allow proto tcp from {addresses[first.source]} to any port {ports}"
    return f"on {first.target}, if a firewall closes it: {command}; or set address and interface in nodes.toml"


async def _try_paths(fleet: Fleet, addresses: dict[str, str], seconds: float) -> list[ClosedPath]:
    key = secrets.token_hex(32)
    limit = seconds + OPEN_MARGIN_S

    async def listen(name: str) -> int:
        link = await fleet.link(name, LINK_PATIENCE_S)
        answer = await link.ask("open_path_probe", address=addresses[name], key=key, seconds=limit)
        return require_int(answer, "port", name)

    ports, failures = await gather_answers({name: listen(name) for name in addresses}, limit)
    for error in failures.values():
        if isinstance(error, PlanImpossible):
            raise error

    async def reach(name: str) -> dict[str, str]:
        peers = {peer: [addresses[peer], port] for peer, port in ports.items() if peer != name}
        link = await fleet.link(name, LINK_PATIENCE_S)
        answer = (await link.ask("try_paths", peers=peers, key=key, seconds=seconds)).get("closed")
        if not isinstance(answer, dict):
            raise WorkFailed("its answer has no valid closed", node=name)
        return {str(peer): str(why)[:200] for peer, why in answer.items() if peer in peers}

    answers, silent = await gather_answers({name: reach(name) for name in ports}, limit)
    for error in (*failures.values(), *silent.values()):
        logger.debug("paths not tried: %s", error)
    return [ClosedPath(name, peer, addresses[peer], why) for name in addresses for peer, why in answers.get(name, {}).items()]
