"""Which pods a plan needs: its nodes in groups of one shape, in the order of the plan. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PlanImpossible
from ..plan import Plan, RankPlan
from ..states import DeviceKind
from .names import MAX_GROUP_CHARS, dns_label


@dataclass(frozen=True, slots=True)
class PodGroup:
    """Pods of one shape."""

    name: str
    """A DNS label, unique among the groups of a plan."""
    nodes: tuple[str, ...]
    """Nodes of the plan, one a pod."""
    kind: DeviceKind
    device_name: str
    """Of all its devices; of emulated ones of the first."""
    devices: int
    """Of each pod."""


def pod_groups(plan: Plan) -> tuple[PodGroup, ...]:
    """The groups of a plan, those of unlike devices apart. Raises PlanImpossible for a node with GPUs of two kinds."""
    groups: dict[tuple[str, ...], list[str]] = {}
    first: dict[tuple[str, ...], RankPlan] = {}
    for node in plan.nodes:
        devices = [plan.ranks[rank] for rank in node.ranks]
        names = {device.device_name for device in devices}
        if len(names) > 1 and devices[0].device_kind == "cuda":
            reason = f"{node.name} has GPUs of {len(names)} kinds ({', '.join(sorted(names))}), and a pod gets one kind"
            raise PlanImpossible(reason, hint=f"choose with --devices {node.name}:{devices[0].device_index}")
        shape = (devices[0].device_kind, *(device.device_name for device in devices))
        groups.setdefault(shape, []).append(node.name)
        first.setdefault(shape, devices[0])
    taken: set[str] = set()
    found = []
    for shape, nodes in groups.items():
        name = _free_name(dns_label(first[shape].device_name)[:MAX_GROUP_CHARS].strip("-"), taken)
        taken.add(name)
        found.append(PodGroup(name, tuple(nodes), first[shape].device_kind, first[shape].device_name, len(shape) - 1))
    return tuple(found)


def is_alike(plan: Plan) -> bool:
    """Whether all pods have one shape, and all their devices are of one kind."""
    return len(pod_groups(plan)) == 1 and len({rank.device_name for rank in plan.ranks}) == 1


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = next(number for number in range(2, len(taken) + 3) if f"{name[: MAX_GROUP_CHARS - 4]}-{number}" not in taken)
    return f"{name[: MAX_GROUP_CHARS - 4]}-{number}"
