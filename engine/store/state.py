"""What is true now: frozen values that the reducer replaces and the screens draw. Nothing here changes in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..events import DeviceReading, HostReading, ReadingsRecorded, StragglerEnded, StragglerFound

STALE_AFTER = 5.0
"""Seconds without a report after which an answering node counts as stale."""
FINAL = frozenset({"done", "failed", "cancelled"})
"""States of a run that no later event leaves."""
WAITING = "waiting"
"""What the job that waits for devices is called while it has no run id: no run of ours has this name."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device: its last reading and the recent past of its utilization."""

    reading: DeviceReading
    utilization: tuple[float | None, ...] = ()
    """One entry a report, oldest first, 0 to 1; None: a gap."""
    clocks: tuple[float | None, ...] = ()
    """MHz, of the reports of the last minute, oldest first."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """One machine."""

    name: str
    kind: str = "ssh"
    state: str = "connecting"
    """``connecting``, ``ok``, ``stale``, ``lost`` or ``refused``."""
    reason: str = ""
    hint: str = ""
    attempt: int = 1
    host: HostReading = field(default_factory=HostReading)
    devices: tuple[DeviceState, ...] = ()
    at: float | None = None
    """Last word from it, stream seconds; None: never."""
    hostname: str = ""
    system: str = ""
    python: str = ""
    address: str = ""
    """For training traffic,"""
    interface: str = ""
    """and where it arrives."""
    is_read_only: bool = False
    """Whether nodes.toml says that nothing is started, ended or removed there."""
    kept: tuple[ReadingsRecorded, ...] = ()
    """What its runners wrote down every ten seconds, newest last: for what happened while nobody looked on."""


@dataclass(frozen=True, slots=True)
class RankState:
    """One process of a run, as its last summary line of the current case says."""

    rank: int
    node: str = ""
    device_index: int = 0
    device_name: str = ""
    device_kind: str = ""
    is_joined: bool = False
    local_batch_size: int | None = None
    compute_seconds: float | None = None
    data_seconds: float | None = None
    """Part of the compute seconds: until the batch lay in the device's memory."""
    host_seconds: float | None = None
    """Part of the compute seconds: the host's thread was due to run and did not."""
    wait_seconds: float | None = None
    step_seconds: float | None = None
    samples_per_second: float | None = None
    """Of this rank while it takes part in the run."""
    step: int | None = None
    at: float | None = None
    """Arrival of its last line."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One change of the shares, and what came of it."""

    at: float
    case: str
    step: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    reason: str
    predicted_before: float | None = None
    predicted_after: float | None = None
    measured: float | None = None
    """Mean step seconds of the first ``measured_steps`` steps with the new sizes."""
    measured_steps: int = 0


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rank, or the network, that was slower than its own healthy time."""

    found: StragglerFound
    at: float
    """When it was told, stream seconds."""
    evidence: str = ""
    """What readings of its device or machine say about the cause; empty: its own stamps are all there is."""
    ended: StragglerEnded | None = None
    is_open: bool = True
    """Whether it is still so; it ends with its case at the latest."""


@dataclass(frozen=True, slots=True)
class EpochPoint:
    """One epoch of a case, evaluated over all ranks."""

    at: float
    epoch: int
    step: int | None
    samples: int
    seconds: float
    training_loss: float | None = None
    loss: float | None = None
    metric: float | None = None
    metric_name: str = ""

    @property
    def samples_per_second(self) -> float | None:
        """Throughput from the first step to the last gradient."""
        return self.samples / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class CaseState:
    """One case of a run."""

    name: str
    policy: str = ""
    predicted: float | None = None
    """Samples per second, said before the launch; None: no profile held."""
    state: str = "waiting"
    """``waiting``, ``running``, ``measuring`` (standalone rates) or ``done``."""
    started_at: float | None = None
    ended_at: float | None = None
    local_batch_sizes: tuple[int, ...] = ()
    epoch: int = 0
    """Epochs that are over."""
    step: int | None = None
    throughput: tuple[tuple[float, float], ...] = ()
    """(stream seconds, samples per second of all ranks)."""
    losses: tuple[tuple[float, float], ...] = ()
    """(stream seconds, global training loss)."""
    epochs: tuple[EpochPoint, ...] = ()
    decisions: tuple[Decision, ...] = ()
    stragglers: tuple[Straggler, ...] = ()
    """Oldest first."""
    changes: int = 0
    standalone: tuple[tuple[int, int, float], ...] = ()
    """(rank, local batch size, samples per second alone), as measured after this case; sizes measured before are not repeated."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Trouble with one cause. ``key`` names the cause, so that the same trouble stays one line."""

    key: str
    severity: str
    """``warning`` or ``critical``."""
    text: str
    at: float
    hint: str = ""
    """What a person can do."""
    node: str = ""
    run_id: str = ""
    rank: int | None = None
    """Of the run, whose trouble it is."""
    deed: str = ""
    """What was done about it already."""
    ended_at: float | None = None
    """When it was over; None: it is still so."""


@dataclass(frozen=True, slots=True)
class RunState:
    """One run, folded from its events."""

    run_id: str
    state: str = "starting"
    """``starting``, ``running``, ``done``, ``failed``, ``cancelled`` or ``unreachable``."""
    reason: str = ""
    phase: str = ""
    """What a launch is busy with, one short sentence."""
    fraction: float | None = None
    """Of the phase, 0 to 1."""
    detail: str = ""
    """How much of how much of the phase is done, in words."""
    seconds_left: float | None = None
    """Of the phase, when it was told,"""
    told_at: float = 0.0
    """and when that was, stream seconds."""
    workload: str = ""
    source: str = ""
    cases: tuple[CaseState, ...] = ()
    case: int = 0
    """Index of the case in hand."""
    ranks: dict[int, RankState] = field(default_factory=dict)
    epochs: int = 0
    global_batch_size: int = 0
    samples_per_epoch: int = 0
    is_emulated: bool = False
    is_network_emulated: bool = False
    is_bench: bool = False
    first_at: float = 0.0
    """First word of it, stream seconds."""
    stepping_at: float | None = None
    """First step of it that we saw."""
    last_at: float = 0.0
    ended_at: float | None = None
    unreachable: tuple[str, ...] = ()
    document: dict[str, Any] | None = None
    """Its result, once derived."""

    listed_nodes: tuple[str, ...] = ()
    """Its machines, where it was only found and its plan is not known here."""
    started: float | None = None
    """By its node's clock, seconds since 1970, where it was only found."""
    is_found: bool = False
    """Whether it was found on its nodes, not launched in this session; it may be followed by now."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of its machines, in the order of its ranks."""
        return tuple(dict.fromkeys(rank.node for rank in self.ranks.values() if rank.node)) or self.listed_nodes

    @property
    def is_over(self) -> bool:
        """Whether no process of it is left."""
        return self.state in FINAL

    @property
    def current(self) -> CaseState | None:
        """The case in hand."""
        return self.cases[self.case] if self.case < len(self.cases) else None


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits here until nobody else uses its devices; it is no run yet."""

    workload: str
    is_bench: bool
    nodes: tuple[str, ...]
    in_use: tuple[tuple[str, str], ...]
    """What it waits for: (device, who uses it)."""
    since: float
    """Stream seconds."""


@dataclass(frozen=True, slots=True)
class State:
    """All that the screens know."""

    at: float = 0.0
    """Newest arrival, seconds since the stream began; never goes back."""
    clock: float | None = None
    """Wall clock of the centre at ``clock_at``, seconds since 1970."""
    clock_at: float = 0.0
    path: str = ""
    lab: str = ""
    nodes: dict[str, NodeState] = field(default_factory=dict)
    runs: dict[str, RunState] = field(default_factory=dict)
    run_id: str = ""
    """The run in hand: the one that was prepared or planned last."""
    waiting: WaitingJob | None = None
    """The job that waits for devices."""
    phase: str = ""
    """What is being prepared while there is no run yet."""
    fraction: float | None = None
    seconds_left: float | None = None
    """Of the phase."""
    detail: str = ""
    """How much of how much of it is done, in words."""
    alerts: tuple[Alert, ...] = ()
    """Oldest first."""
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Documents of the verb profile by their workload, the one that was told last being last."""
    events: int = 0
    """How many were reduced."""
    unknown: int = 0
    """How many of them were of a kind that changes nothing here."""

    @property
    def run(self) -> RunState | None:
        """The run in hand."""
        return self.runs.get(self.run_id)
