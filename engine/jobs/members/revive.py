"""Nodes whose runner is gone, as after a reboot: proved dead to the others of the run, which may then go on, and brought back.

The centre is the third machine here: it reads what the dead runner had promised from the disk of its node. See
docs/design/members.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import NodeUnreachable, UsageError, WorkFailed
from ...protocol.messages import Body
from ...ssh.fleet import Fleet
from ...ssh.link import ASK_TIMEOUTS
from ..doors.certificates import make_certificates
from ..gather import gather_all, gather_answers
from ..retry import call_with_retry, require_int

MEMBER_PATIENCE_S = 3.0
"""Seconds to wait for a connection to a node that is asked about its runner."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a node tells about its part in a run."""

    name: str
    is_alive: bool
    """Whether its runner is."""
    is_over: bool
    has_members: bool
    """Whether the run outlives its devices."""
    address: str
    life: int | None
    """Which runner of its node the last one is; None: nothing is left of what it knew."""
    record: Mapping[str, Any] | None
    """What it has promised, and the generation that it knows."""

    @property
    def is_dead(self) -> bool:
        """Whether its runner is gone without having ended its part."""
        return not self.is_alive and not self.is_over

    def members(self) -> tuple[int, dict[str, int]]:
        """Number of the newest generation that it knows, and the life of each of its members."""
        generation = (self.record or {}).get("generation") or {}
        members = {str(one["name"]): int(one.get("life", 0)) for one in generation.get("members", ())}
        return int(generation.get("number", -1)), members


async def read_parts(run_id: str, nodes: Collection[str], fleet: Fleet) -> dict[str, Part]:
    """The parts of the nodes that answer and know the run."""
    questions = {node: call_with_retry(fleet, node, "member_facts", MEMBER_PATIENCE_S, run_id=run_id) for node in nodes}
    answers, _ = await gather_answers(questions)
    return {node: _part(node, answer) for node, answer in answers.items() if answer.get("is_known")}


def newest_members(parts: Mapping[str, Part]) -> dict[str, int]:
    """Life of each member of the newest generation that a living runner knows, by node. Pure."""
    known = [part.members() for part in parts.values() if part.is_alive]
    return max(known, key=lambda pair: pair[0])[1] if known else {}


async def prove_deaths(run_id: str, parts: Mapping[str, Part], fleet: Fleet) -> tuple[str, ...]:
    """Tell the living runners which members are dead, by their records. Returns their names. What a node does not take is passed
    over: the next look tells it again."""
    members = newest_members(parts)
    dead = [part for part in parts.values() if part.is_dead and part.life is not None and members.get(part.name) == part.life]
    for part in dead:
        word = {"member": part.name, "life": part.life, "record": part.record}
        living = [name for name, one in parts.items() if one.is_alive]
        await gather_answers({n: call_with_retry(fleet, n, "bury", MEMBER_PATIENCE_S, run_id=run_id, **word) for n in living})
    return tuple(part.name for part in dead)


async def revive(run_id: str, node: str, parts: Mapping[str, Part], fleet: Fleet, env: Mapping[str, str]) -> Body:
    """Start a runner in the place of one that is gone, which joins the others at a step boundary: its answer, {ranks}.

    ``env``: of the node, for its processes. Raises UsageError where nobody is left to join, NodeUnreachable where a member that it
    would have to meet does not answer, and what the nodes refuse.
    """
    living = {name: part for name, part in parts.items() if part.is_alive and name != node}
    if not living:
        hint = f"paceline cancel {run_id}, then paceline resume {run_id} goes on from its newest checkpoint"
        raise UsageError(f"no runner of run {run_id} is left in reach", hint=hint)
    if missing := sorted(newest_members(parts).keys() - parts.keys() - {node}):
        raise NodeUnreachable(f"{node} would have to meet it again", node=missing[0], hint="try again when it answers")
    own = make_certificates(run_id, [node])[node]

    async def open_door(name: str) -> tuple[str, list[Any], str]:
        word = {"member": node, "authority": own["authority"]}
        answer = await call_with_retry(fleet, name, "open_door", MEMBER_PATIENCE_S, run_id=run_id, **word)
        return name, [living[name].address, require_int(answer, "port", name)], str(answer.get("authority"))

    opened = await gather_all(map(open_door, sorted(living)))
    link = await fleet.link(node, patience=MEMBER_PATIENCE_S)
    try:
        return await link.ask(
            "rejoin",
            run_id=run_id,
            peers={name: place for name, place, _ in opened},
            certificates=own,
            authorities=sorted({authority for _, _, authority in opened}),
            env=dict(env),
        )
    except NodeUnreachable as error:
        hint = f"it may have happened all the same, within {ASK_TIMEOUTS['rejoin']:.0f} s: see paceline jobs"
        raise NodeUnreachable(error.reason, node=node, hint=hint) from None


def _part(node: str, answer: Body) -> Part:
    """Raises WorkFailed for an answer without sense."""
    life, record, address = answer.get("life"), answer.get("record"), answer.get("address")
    is_known = isinstance(life, int) and isinstance(record, dict)
    part = Part(
        node,
        answer.get("is_alive") is True,
        answer.get("is_over") is True,
        answer.get("has_members") is True,
        address if isinstance(address, str) else "",
        life if is_known else None,
        record if is_known else None,
    )
    try:
        part.members()
    except (AttributeError, KeyError, TypeError, ValueError):
        raise WorkFailed("its record of the run's members cannot be read", node=node) from None
    return part
