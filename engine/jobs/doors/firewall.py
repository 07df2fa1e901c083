"""Lines for the firewall of each node of a plan, which let training ports in from the other nodes only. Pure."""

from __future__ import annotations

import ipaddress

from ...plan import NodePlan, Plan

PORTS = "32768-60999"
"""From which the kernel takes the ports of a run, unless net.ipv4.ip_local_port_range says otherwise."""


def firewall_lines(plan: Plan) -> list[str]:
    """Commands of nftables, those of each node after a comment with its name; none on loopback and for a run on one node."""
    lines = []
    for node in plan.nodes if len(plan.nodes) > 1 else ():
        if not is_loopback(node.address):
            lines += [f"# on {node.name}", *_commands(plan, node)]
    return lines


def _commands(plan: Plan, node: NodePlan) -> list[str]:
    family = "ip6" if ":" in node.address else "ip"
    peers = ", ".join(sorted({peer.address for peer in plan.nodes if peer.name != node.name}))
    return [
        "nft add table inet paceline",
        "nft add chain inet paceline input '{ type filter hook input priority 0; }'",
        f"nft add rule inet paceline input iifname {node.interface} tcp dport {PORTS} {family} saddr != '{{ {peers} }}' drop",
    ]


def is_loopback(address: str) -> bool:
    """Whether an address stays on its machine; of a name nothing is known."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name, which the node resolves
        return False
