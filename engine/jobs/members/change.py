"""The verbs ``drain`` and ``grow``: a node is taken out of a run that goes on, or comes back into it, at a step boundary.

The runner on that node does it with the others; the centre only asks, and may go away at any moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ...errors import NodeUnreachable, PacelineError, UsageError, WorkFailed
from ...inventory.nodeset import expand_node_set
from ...reports.document_type import Document
from ...ssh.fleet import Fleet
from ...ssh.link import ASK_TIMEOUTS
from ...states import ENDED_STATUSES
from ..retry import require_int
from .revive import prove_deaths, read_parts, revive

CHANGE_PATIENCE_S = 5.0
"""Seconds to wait for a connection to the node."""
DRAINED = "drained by a person"


async def drain(
    node: str, rows: Sequence[Document], fleet: Fleet, *, run_id: str | None = None, read_only: Collection[str] = ()
) -> Document:
    """Take a node out of its runs (rows of ``list_runs``), or of one: {node, runs: [{run_id, ranks, left}]}.

    Its processes of these runs have ended then, and its devices are free. Raises UsageError where no run is there, a run would end,
    or the node is read_only; NodeUnreachable and WorkFailed.
    """
    _check_writable([node], read_only, "drain")
    going = [row for row in rows if row["state"] not in ENDED_STATUSES and run_id in (None, row["run_id"])]
    there = [row for row in going if node in row["nodes"]]  # also where another node of it cannot be reached
    if not there:
        what = f"run {run_id} does not run" if run_id is not None else "no run is"
        raise UsageError(f"{what} on {node}", hint="see paceline jobs")
    done: list[Document] = []
    for row in there:
        try:
            answer = await _ask(fleet, node, "drain", row["run_id"], reason=DRAINED)
        except PacelineError as error:
            also = f"; drained of {', '.join(one['run_id'] for one in done)}" if done else ""
            raise type(error)(f"run {row['run_id']}: {error.reason}{also}", node=node, hint=error.hint) from None
        done.append({"run_id": row["run_id"], "ranks": _ranks(answer, node), "left": require_int(answer, "left", node)})
    return {"type": "drain", "node": node, "runs": done}


async def grow(
    row: Document,
    devices: str | None,
    fleet: Fleet,
    *,
    read_only: Collection[str] = (),
    env: Mapping[str, Mapping[str, str]] | None = None,
) -> Document:
    """Bring nodes back into a run (a row of ``list_runs``): {run_id, joining: [{node, ranks}]}. They join once they are ready.

    ``devices``: a set of nodes, such as ``lab[1-3]``; None: all that were drained or whose runner is gone, as after a reboot.
    ``env``: of each node. Raises UsageError where one was never part of
    the run or takes part already; DeviceInUse, NodeUnreachable, WorkFailed.
    """
    names = sorted(row["nodes"] if devices is None else expand_node_set(devices))
    _check_writable(names, read_only, "grow")
    if row["state"] in ENDED_STATUSES:
        hint = f"paceline resume {row['run_id']} --devices {devices or 'SET'} goes on with them"
        raise UsageError(f"run {row['run_id']} is {row['state']}: only a running one grows", hint=hint)
    if foreign := [name for name in names if name not in row["nodes"]]:
        hint = f"paceline cancel {row['run_id']}, then paceline resume {row['run_id']} --devices SET goes on with any devices"
        raise UsageError(f"{', '.join(foreign)} was not part of run {row['run_id']} when it began", hint=hint)
    parts = await read_parts(row["run_id"], row["nodes"], fleet)
    await prove_deaths(row["run_id"], parts, fleet)
    answers: list[tuple[str, Document]] = []
    for name in names:
        try:
            if name in parts and parts[name].is_dead:
                answer = await revive(row["run_id"], name, parts, fleet, (env or {}).get(name, {}))
                parts = await read_parts(row["run_id"], row["nodes"], fleet)
            else:
                answer = await _ask(fleet, name, "come_back", row["run_id"])
            answers.append((name, answer))
        except UsageError:
            if devices is not None:
                raise
    if not answers:
        raise UsageError(f"all nodes of run {row['run_id']} take part in it", hint="paceline drain NODE takes one out")
    return {
        "type": "grow",
        "run_id": row["run_id"],
        "joining": [{"node": name, "ranks": _ranks(answer, name)} for name, answer in answers],
    }


def _check_writable(nodes: Sequence[str], read_only: Collection[str], verb: str) -> None:
    if refused := [name for name in nodes if name in read_only]:
        raise UsageError(f"{', '.join(refused)} {'is' if len(refused) == 1 else 'are'} read_only in nodes.toml: {verb} refused")


def _ranks(answer: Document, node: str) -> list[int]:
    ranks = answer.get("ranks")
    if not isinstance(ranks, list) or not all(isinstance(rank, int) for rank in ranks):
        raise WorkFailed("its answer has no valid list of ranks", node=node, hint="is its agent of this version?")
    return ranks


async def _ask(fleet: Fleet, node: str, word: str, run_id: str, **fields: str) -> Document:
    """One request, never repeated by itself: a node that was drained and has come back must not be drained again."""
    link = await fleet.link(node, patience=CHANGE_PATIENCE_S)
    try:
        return await link.ask(word, run_id=run_id, **fields)
    except NodeUnreachable as error:
        limit = ASK_TIMEOUTS.get(word, 0.0)
        hint = f"it may have happened all the same, within {limit:.0f} s: see paceline jobs"
        raise NodeUnreachable(error.reason, node=node, hint=hint) from None
