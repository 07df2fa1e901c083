"""The closed sets of words that code compares: states, kinds, causes, policies, and the table of a run's legal transitions.

Runs on both sides and imports the standard library only. Specs, plans and the centre's state are typed with these sets. Events
carry ``str``, because another version may have written them: ``member`` narrows such a word where it enters the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar, get_args

T = TypeVar("T")

RunStatus = Literal["queued", "waiting", "starting", "running", "unreachable", "done", "failed", "cancelled"]
"""``queued``: by the scheduler of a cluster; ``waiting``: at the centre, for devices; ``unreachable``: only the view is missing."""
EndedStatus = Literal["done", "failed", "cancelled"]
"""States that RUN_TRANSITIONS never leaves."""
CaseStatus = Literal["waiting", "running", "measuring", "done"]
"""``measuring``: of standalone rates, each device alone."""
NodeStatus = Literal["connecting", "ok", "stale", "lost", "refused"]
"""``stale``: connected, but silent; ``lost``: the link is gone; ``refused``: authentication or host key."""
Severity = Literal["warning", "critical"]
"""Of an alert."""
DeviceStatus = Literal["connecting", "ok", "stale", "lost", "refused", "warning", "critical"]
"""Of a device: the status of its node, or the severity of its own trouble."""

NodeKind = Literal["ssh", "embedded", "slurm", "kubernetes"]
DeviceKind = Literal["cuda", "cpu", "emulated"]

Policy = Literal["equal", "proportional", "dynamic", "hybrid"]
"""Rule that shares a global batch between ranks."""
Compression = Literal["none", "bf16", "fp16", "powersgd"]
"""Of gradients in transit: half as many bytes, or matrices of low rank (PowerSGD)."""
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Number format of matrix products; weights, gradients and the optimizer stay in float32."""
Program = Literal["training", "profiling", "script"]
"""What a run starts once per device: the module ``paceline.engine.<program>``."""
TaskKind = Literal["classification", "regression"]
Backend = Literal["gloo", "nccl"]

WorkCause = Literal["compute", "data", "host-to-device", "host"]
"""Parts of a rank's own work, each of which can slow it down."""
SlowdownCause = Literal["compute", "data", "host-to-device", "host", "network"]
"""Of a straggler; ``network``: all ranks wait for it."""
FaultCause = Literal["thermal", "compute", "backward", "data", "host-to-device", "host", "network"]
"""Of a scripted fault. ``thermal``: the device lowers its clocks; ``compute``: it is slow and its readings show no reason;
``backward``: slow in backward only; ``data``, ``host-to-device``, ``host``: a slow loader, copy or host thread; ``network``:
gradients leave the node late."""

NodeFetchStatus = Literal["ok", "lost", "refused", "failed"]
"""Of one node's part of a fetch or a clean."""
FileStatus = Literal["fetched", "present", "kept", "refused", "skipped", "failed"]
"""Of one file of a fetch. ``present``: the same bytes were here; ``kept``: other bytes were here and stay; ``refused``: an unsafe
name or size; ``skipped``: not a regular file."""
PromptKind = Literal["host key", "passphrase", "password", "code"]
"""What a connection asks a person for."""

ENDED_STATUSES: tuple[EndedStatus, ...] = get_args(EndedStatus)
VerdictKind = Literal["pays", "no difference", "does not pay", "one device", "unknown"]
"""Whether distributed training pays."""

RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
NODE_KINDS: tuple[NodeKind, ...] = get_args(NodeKind)
DEVICE_KINDS: tuple[DeviceKind, ...] = get_args(DeviceKind)
POLICIES: tuple[Policy, ...] = get_args(Policy)
"""Simplest first."""
ADAPTIVE_POLICIES: tuple[Policy, ...] = ("dynamic", "hybrid")
"""Those whose shares follow measurements."""
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
WORK_CAUSES: tuple[WorkCause, ...] = get_args(WorkCause)
FAULT_CAUSES: tuple[FaultCause, ...] = get_args(FaultCause)

_REACHABLE: frozenset[RunStatus] = frozenset({"starting", "running", "unreachable", *ENDED_STATUSES})
RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    "queued": _REACHABLE | {"waiting"},
    "waiting": _REACHABLE | {"queued"},
    "starting": (_REACHABLE - {"starting"}) | {"queued", "waiting"},
    "running": (_REACHABLE - {"starting", "running"}) | {"queued"},
    "unreachable": (_REACHABLE - {"unreachable"}) | {"queued"},
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""States that a run may enter next; back into the queue when a scheduler takes its machines away. Ended runs stay ended; after
``unreachable`` a run is where its events show it."""
FINAL: frozenset[RunStatus] = frozenset(state for state, following in RUN_TRANSITIONS.items() if not following)
"""States of a run that no later event leaves."""


def is_legal(current: RunStatus, proposed: RunStatus) -> bool:
    """Whether a run may be in the proposed state next; it may always stay in its state."""
    return proposed == current or proposed in RUN_TRANSITIONS[current]


def next_status(current: RunStatus, proposed: RunStatus) -> RunStatus:
    """The proposed state where the table allows it, else the current one."""
    return proposed if is_legal(current, proposed) else current


def member(word: object, words: tuple[T, ...]) -> T | None:
    """The word as a member of a closed set; None where it is none of them, such as a word of a newer version."""
    return next((known for known in words if known == word), None)
