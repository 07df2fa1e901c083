"""A pod's part of a plan: which node it is, and the plan with what only pods know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import UsageError
from ...plan import Plan


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs."""

    address: str
    """IP of the pod."""
    interface: str
    """Its network interface."""
    python: str = "python3"
    """Its interpreter."""


def own_node(nodes: Sequence[str], index: str) -> str:
    """The node of the plan that the pod with this index among its like is. Raises UsageError."""
    number = int(index) if index.isascii() and index.isdecimal() else -1
    if not 0 <= number < len(nodes):
        raise UsageError(f"pod {index!r} is none of the {len(nodes)} planned ones", hint="export the job again; edit no counts")
    return nodes[number]


def trial_plan(plan: Plan, index: str) -> Plan:
    """The plan of one trial of a search, alone on one device of its own pod. Raises UsageError."""
    trials = plan.script.trials if plan.script is not None else ()
    own_node([str(trial.number) for trial in trials], index)
    assert plan.script is not None
    trial, device = trials[int(index)], plan.ranks[int(index) % len(plan.ranks)]
    name = trial_node(trial.number)
    node = replace(plan.nodes[device.node_rank], name=name, node_rank=0, ranks=(0,))
    rank = replace(device, rank=0, node=name, node_rank=0, local_rank=0)
    script = replace(plan.script, args=trial.args, trials=(trial,))
    return replace(plan, nodes=(node,), ranks=(rank,), script=script, link=None)


def trial_node(number: int) -> str:
    """Name of the node that a trial of a search has for itself."""
    return f"trial-{number}"


def placed_plan(plan: Plan, places: Mapping[str, Place]) -> Plan:
    """The plan with the places of its pods. A pod sees its own GPUs only, from index 0 on, and nobody else may use them."""
    nodes = tuple(
        replace(node, address=place.address, interface=place.interface, python=place.python)
        for node in plan.nodes
        for place in (places[node.name],)
    )
    ranks = tuple(replace(rank, device_index=rank.local_rank) if rank.device_kind == "cuda" else rank for rank in plan.ranks)
    is_shared = plan.is_shared or any(rank.device_kind != "emulated" for rank in ranks)  # the cluster has given them to this pod
    return replace(plan, nodes=nodes, ranks=ranks, is_shared=is_shared)
