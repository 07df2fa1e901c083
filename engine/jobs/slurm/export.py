"""A plan as a batch script that a person submits by hand: the job that ``train`` would submit, but for modules and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import PlanImpossible, UsageError
from ...plan import Plan
from ...slurm.script import exported_script
from ...specs import NodeSpec, SlotSpec, TrainSpec
from ...wire import dumps, to_plain

OUTPUT_NAME = "job.sh"


def slurm_script(
    plan: Plan,
    spec: TrainSpec,
    nodes: Sequence[NodeSpec],
    certificates: Mapping[str, Mapping[str, str]],
    bundle: str,
    root: str | None = None,
) -> str:
    """The batch script of a plan. ``bundle``: file name of the modules; ``root``: the state directory of the login node, if known.

    Raises PlanImpossible for emulated GPUs of machines that are no slots: Slurm would be asked for real ones. Pure.
    """
    by_name = {node.name: node for node in nodes}
    slots = [_slot(by_name[node.name], plan) for node in plan.nodes if node.name in by_name]
    if len(slots) != len(plan.nodes):
        raise UsageError("the plan names nodes that nodes.toml does not know", hint="plan and nodes.toml must belong together")
    # addresses, interfaces and interpreters are those of the machines that Slurm will give
    plan = replace(plan, nodes=tuple(replace(node, address="", interface="", python="") for node in plan.nodes))
    data = [plan.data, *(plan.script.data if plan.script is not None else ())]
    request = {
        "spec": to_plain(spec),
        "plan": to_plain(plan),
        "certificates": certificates,
        "env": {node.name: by_name[node.name].env for node in plan.nodes},
        "holder": "sbatch",
    }
    needed = [f"bundles/{bundle}", *(f"data/{one.digest}" for one in data)]
    if plan.resume is not None:
        needed.append(f"data/{plan.resume.digest}")
    comment = f"Paceline run {plan.run_id}: {plan.workload} on {len(plan.ranks)} devices of {len(plan.nodes)} machines.\n"
    comment += "It holds the keys by which the machines of this run know each other: chmod 600.\n"
    comment += "PACELINE_STATE: directory that all machines share; PACELINE_PYTHON: interpreter with torch.\n"
    comment += f"Before sbatch, bring there: {', '.join(needed)}"
    return exported_script(plan.run_id, slots, dumps(request), needed, root, comment)


def _slot(node: NodeSpec, plan: Plan) -> SlotSpec:
    """What is asked for in place of a node: its slot, else as many GPUs as the plan has there."""
    if node.slot is not None:
        return node.slot
    ranks = [rank for rank in plan.ranks if rank.node == node.name]
    gpus = sum(rank.device_kind == "cuda" for rank in ranks)
    if not gpus and len(ranks) > 1 and any(rank.device_kind == "emulated" for rank in ranks):
        raise PlanImpossible(f"{node.name} has {len(ranks)} emulated devices", hint="choose nodes with one, or real ones")
    return SlotSpec(login="", gpus=gpus, gres=f"gpu:{gpus}" if gpus else "")
