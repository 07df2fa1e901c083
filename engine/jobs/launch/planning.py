"""Make a plan from a spec and the nodes that answered: ranks, addresses, cases. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...errors import PlanImpossible, UsageError
from ...events import DeviceReading
from ...inventory.nodeset import expand_node_set
from ...plan import CasePlan, CheckpointPlan, DataPlan, Emulation, NodePlan, Plan, RankPlan, ScriptPlan
from ...specs import LinkSpec, NodeSpec, ScriptSpec, TrainSpec
from ...states import DEVICE_KINDS, Policy, member
from ...workloads import Workload


@dataclass(frozen=True, slots=True)
class NodeCandidate:
    """A node that answered, with its devices."""

    spec: NodeSpec
    devices: tuple[DeviceReading, ...]
    address: str
    interface: str
    python: str


def make_plan(
    spec: TrainSpec,
    run_id: str,
    nodes: Sequence[NodeCandidate],
    data: DataPlan,
    workload: Workload | None,
    link: LinkSpec | None = None,
) -> Plan:
    """A plan with one rank per device, in the order of nodes.toml. CPU devices take part only where the run has no accelerator.

    The global batch is at most the training samples. ``workload``: None for a script, whose epochs and global batch are its own.
    ``link`` is emulated where all devices of the run are emulated; otherwise the run uses the real network.
    Raises PlanImpossible when the global batch has fewer samples than there are ranks, or no device is left.
    """
    has_accelerator = any(device.kind != "cpu" for node in nodes for device in node.devices)
    ranks: list[RankPlan] = []
    node_plans: list[NodePlan] = []
    for candidate in nodes:
        devices = [d for d in candidate.devices if not d.error and (d.kind != "cpu" or not has_accelerator)]
        if devices:
            node_plan = _node_plan(candidate, len(node_plans), range(len(ranks), len(ranks) + len(devices)))
            node_plans.append(node_plan)
            ranks += [
                _rank(rank, node_plan.node_rank, local_rank, candidate, device, spec.seed)
                for local_rank, (rank, device) in enumerate(zip(node_plan.ranks, devices, strict=True))
            ]
    asked = (spec.global_batch_size or workload.global_batch_size) * spec.accumulation if workload is not None else 0
    batch = min(asked, data.training_rows or asked)
    if not ranks:
        raise PlanImpossible("no device can take part", hint="see paceline status")
    if workload is not None and batch < len(ranks):
        raise PlanImpossible(f"a global batch of {batch} cannot be shared by {len(ranks)} ranks", hint="raise --global-batch-size")
    if spec.is_norm_synchronized and (other := next((rank for rank in ranks if rank.device_kind != "cuda"), None)) is not None:
        reason = f"--sync-batch-norm needs CUDA devices, and {other.device_name} of {other.node} is none"
        raise PlanImpossible(reason, hint="GroupNorm in the model normalises alike on every device")
    if spec.min_devices is not None:
        _check_elastic(spec, ranks)
    if spec.spare:
        node_plans = _with_spares(spec, node_plans)
    return Plan(
        run_id=run_id,
        workload=spec.workload,
        cases=tuple(make_case(policy, repeat) for repeat in range(spec.repeats) for policy in spec.policies),
        nodes=tuple(node_plans),
        ranks=tuple(ranks),
        data=data,
        epochs=0 if workload is None else spec.epochs or workload.epochs,
        global_batch_size=batch,
        requested_batch_size=asked if batch < asked else None,
        seed=spec.seed,
        backend="nccl" if all(rank.device_kind == "cuda" for rank in ranks) else "gloo",
        is_bench=spec.is_bench,
        link=link if all(rank.emulation is not None for rank in ranks) else None,
        compression=spec.compression,
        local_steps=spec.local_steps,
        precision=spec.precision,
        is_norm_synchronized=spec.is_norm_synchronized,
        is_shared=spec.is_shared,
        name=spec.name,
        checkpoints=None if spec.is_bench else checkpoint_plan(spec.checkpoint_every),
        resume=spec.resume,
        min_devices=spec.min_devices,
        program="training" if spec.script is None else "script",
        script=None if spec.script is None else _script(spec.script),
    )


def _check_elastic(spec: TrainSpec, ranks: Sequence[RankPlan]) -> None:
    """Raise PlanImpossible where a run cannot go on without some of its devices."""
    cuda = next((rank for rank in ranks if rank.device_kind == "cuda"), None)
    what = ""
    if (spec.min_devices or 0) > len(ranks):
        what = f"--min-devices {spec.min_devices} with {len(ranks)} devices"
    elif spec.script is not None or spec.is_bench:
        what = f"--min-devices with {'a script' if spec.script is not None else 'a bench'}"
    elif cuda is not None:
        what = f"--min-devices with {cuda.device_name} of {cuda.node}, a CUDA device"
    elif spec.local_steps > 1:
        what = "--min-devices with --local-steps"
    if what:
        hint = "a lost device ends the run without it, and paceline resume goes on from its newest checkpoint"
        raise PlanImpossible(f"{what}: groups form again for workloads on processors and emulated devices only", hint=hint)


def hours_warning(plan: Plan) -> str | None:
    """A sentence about nodes whose hours a run does not keep, as it cannot go on without them; None where there are none."""
    names = [node.name for node in plan.nodes if node.hours]
    if not names or plan.min_devices is not None:
        return None
    what = "has" if len(names) == 1 else "have"
    return (
        f"{', '.join(names)} {what} hours in nodes.toml, which this run does not keep: --min-devices N lets it go on without them"
    )


def _with_spares(spec: TrainSpec, nodes: Sequence[NodePlan]) -> list[NodePlan]:
    """The nodes with the spares among them marked. Raises PlanImpossible where a run cannot rest them."""
    spares = expand_node_set(spec.spare)
    if spec.min_devices is None:
        raise PlanImpossible("--spare without --min-devices: a run without it ends with the first device that it loses")
    if foreign := sorted(spares - {node.name for node in nodes}):
        raise PlanImpossible(f"--spare {', '.join(foreign)}: no device of it takes part", hint="see paceline status")
    left = sum(len(node.ranks) for node in nodes if node.name not in spares)
    if left < spec.min_devices:
        raise PlanImpossible(f"{left} devices beside the spares, and --min-devices {spec.min_devices}", hint="name fewer spares")
    return [replace(node, is_spare=node.name in spares) for node in nodes]


def checkpoint_plan(every: str) -> CheckpointPlan | None:
    """When checkpoints are written; None: never. Raises UsageError for a text that is no interval."""
    if every == "never":
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?) ?(s|min|h|steps?)", every)
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0 or (match[2].startswith("step") and number % 1):
        raise UsageError(f"--checkpoint-every {every[:40]!r} is no interval", hint='such as "60 s", "5 min", "200 steps" or never')
    if match[2].startswith("step"):
        return CheckpointPlan(every_steps=int(number))
    return CheckpointPlan(every_seconds=number * {"s": 1, "min": 60, "h": 3600}[match[2]])


def _node_plan(candidate: NodeCandidate, node_rank: int, ranks: range) -> NodePlan:
    """A node of the plan. The address and interface of nodes.toml win over those of the node."""
    return NodePlan(
        name=candidate.spec.name,
        node_rank=node_rank,
        ranks=tuple(ranks),
        address=candidate.spec.address or candidate.address,
        interface=candidate.spec.interface or candidate.interface,
        python=candidate.python,
        paths=dict(candidate.spec.paths),
        image=candidate.spec.image or "",
        hours=candidate.spec.hours,
    )


def _script(script: ScriptSpec) -> ScriptPlan:
    return ScriptPlan(
        target=script.path,
        args=script.args,
        digest=script.digest,
        is_module=script.is_module,
        workdir=script.workdir or ".",
        is_strict=script.is_strict,
        rate=script.rate,
        trials=script.trials,
    )


def make_case(policy: Policy, repeat: int) -> CasePlan:
    """The case of a policy in a round, counted from 0."""
    return CasePlan(f"{policy} {repeat + 1}" if repeat else policy, policy, repeat)


def _rank(rank: int, node_rank: int, local_rank: int, candidate: NodeCandidate, device: DeviceReading, seed: int) -> RankPlan:
    emulation = None
    if device.kind == "emulated":
        declared = candidate.spec.devices[device.index]
        faults = tuple(fault for fault in candidate.spec.faults if fault.device == device.index)
        emulation = Emulation(declared.speed, faults, declared.noise, declared.outliers, seed, declared.fixed, declared.rate)
    return RankPlan(
        rank=rank,
        node=candidate.spec.name,
        node_rank=node_rank,
        local_rank=local_rank,
        device_index=device.index,
        device_kind=member(device.kind, DEVICE_KINDS) or "cpu",
        device_name=device.name,
        memory=device.memory_total,
        emulation=emulation,
    )
