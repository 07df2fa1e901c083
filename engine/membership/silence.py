"""Who is silent: blame from what every runner has heard, of its own ranks and of the others. Pure.

One runner alone cannot tell a dead machine from a dead path. So each tells the others whom it hears: a node that somebody else
hears is alive, and the path between the two is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

BEAT_INTERVAL_S = 0.5
"""Seconds between two signs of life, of a rank to its runner and of a runner to the others."""
SILENCE_S = 3.0
"""Seconds without one after which somebody is called silent."""
STOPPED_SILENCE_S = 2.0
"""The same of a process that the system calls stopped: nothing but silence will come of it."""
SLOW_SILENCE_S = 10.0
"""The same of a process that the system does not call stopped: a long call into a library keeps a thread from speaking, too."""
WITNESS_S = SILENCE_S / 2
"""Seconds within which a third node must have heard somebody for its word to count: all notice a death almost at once."""
_STOPPED = {"T": "stopped by a signal", "t": "held by a debugger"}
_WAITS = "waits for a disk or a file server"
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class HeardBy:
    """What one runner has heard."""

    peers: Mapping[str, float] = field(default_factory=dict)
    """Seconds since the last word of each other node."""
    ranks: Mapping[int, float] = field(default_factory=dict)
    """Seconds since the last sign of life of each rank here; only ranks that ever gave one."""
    states: Mapping[int, str] = field(default_factory=dict)
    """What the system calls the process of a rank: one letter (proc_pid_stat(5)); empty or missing: unknown."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Somebody is silent, or the path between two nodes."""

    node: str
    """The silent machine, or that of the silent rank; empty for a path between two nodes."""
    rank: int | None
    """None: a whole node or a path."""
    seconds: float
    reason: str
    path: tuple[str, str] | None = None

    @property
    def key(self) -> tuple[str, int | None, tuple[str, str] | None]:
        """What it is about, whatever its duration."""
        return self.node, self.rank, self.path


def find_silences(own: str, view: HeardBy, others: Mapping[str, HeardBy]) -> list[Silence]:
    """All silences that the runner of ``own`` can know, surest first. ``others``: what the nodes it hears have told last."""
    heard = {node for node, seconds in view.peers.items() if seconds < SILENCE_S}
    silent = {node: seconds for node, seconds in view.peers.items() if node not in heard}
    found = [*_silent_ranks(own, view)]
    for node in sorted(heard & others.keys()):
        found += _silent_ranks(node, others[node])
    if len(silent) > 1 and not heard:
        seconds = min(silent.values())
        return [*found, Silence(own, None, seconds, f"{own} hears none of the other nodes: its own link is down, or all of them")]
    for node, seconds in sorted(silent.items()):
        witness = min((other for other in heard if _hears(others.get(other), node)), default=None)
        found.append(_unheard(own, node, seconds, witness))
    for other in sorted(heard & others.keys()):
        for node, seconds in sorted(others[other].peers.items()):
            if view.peers.get(node, inf) < WITNESS_S and seconds >= SILENCE_S:
                found.append(_unheard(other, node, seconds, own))
    return list({silence.key: silence for silence in reversed(found)}.values())[::-1]


def is_told_by(own: str, silence: Silence, view: HeardBy) -> bool:
    """Whether the runner of ``own`` is the one that writes a silence down: each is written once, by the lowest name that knows."""
    if silence.rank is not None:
        return silence.node == own
    heard = (node for node, seconds in view.peers.items() if seconds < SILENCE_S)
    return own <= min(heard, default=_LAST)


def pick_cause(silences: Iterable[Silence]) -> Silence | None:
    """The silence that explains a broken collective best: of a rank before a node before a path, the longest; None without any."""
    return min(
        silences,
        key=lambda silence: (silence.rank is None, silence.path is not None, -silence.seconds),
        default=None,
    )


def _silent_ranks(node: str, view: HeardBy) -> list[Silence]:
    found = []
    for rank, seconds in sorted(view.ranks.items()):
        state = view.states.get(rank, "")
        if seconds >= (STOPPED_SILENCE_S if state in _STOPPED else SLOW_SILENCE_S):
            why = _WAITS if state == "D" else f"is {_STOPPED.get(state, 'silent')}"
            found.append(Silence(node, rank, seconds, f"its process {why}"))
    return found


def _hears(view: HeardBy | None, node: str) -> bool:
    return view is not None and view.peers.get(node, inf) < WITNESS_S


def _unheard(by: str, node: str, seconds: float, witness: str | None) -> Silence:
    """One node does not hear another: to blame is the path where a third one hears it, else its machine."""
    if witness is None:
        return Silence(node, None, seconds, f"{node} is silent: its machine, its runner, or the network to it has stopped")
    low, high = sorted((by, node))
    return Silence("", None, seconds, f"no word between {low} and {high}, both of which {witness} hears", (low, high))
