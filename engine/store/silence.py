"""What a silence and a loss are called: of a rank, of a node, of the path between two nodes. Pure."""

from __future__ import annotations

from ..events import GroupReformed, PeerSilent


def silence_text(event: PeerSilent) -> str:
    """One sentence: who is silent for how long and why, or is heard again."""
    who = event.peer or "a node"
    if event.path:
        who = f"the path between {' and '.join(event.path)}"
    elif len(event.ranks) == 1 and event.peer not in event.reason:
        who = f"rank {event.ranks[0]} on {event.peer}"
    if event.is_over:
        return f"{who} is heard again"
    return f"{who} has been silent for {event.seconds:.0f} s" + (f": {event.reason}" if event.reason else "")


def reformed_text(event: GroupReformed) -> str:
    """One sentence: who trains on without whom, why, and what it cost."""
    lost = f" without rank {_listed(event.lost)}" if event.lost else ""
    why = f" ({event.reason})" if event.reason else ""
    return f"the training goes on with rank {_listed(tuple(sorted(event.ranks)))}{lost} after {event.seconds:.1f} s{why}"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
