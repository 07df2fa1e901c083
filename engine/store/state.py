"""The state of a session: frozen values that the reducer replaces and the screens draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..events import BalanceJudged, DeviceReading, HostReading, ReadingsRecorded, StragglerEnded, StragglerFound
from ..states import FINAL, CaseStatus, NodeKind, NodeStatus, RunStatus, Severity

STALE_AFTER = 5.0
"""Seconds without a report after which an answering node counts as stale."""
WAITING_JOB_ID = "waiting"
"""Id of the job that waits for devices and has no run id yet. No run id has this form."""

AlertKey = tuple[str, ...]
"""Identifies the cause of an alert: its kind, such as ``node`` or ``straggler``, then the names of what it concerns."""
EvidenceKind = Literal["shared device", "reduced clock", "throttled", "busy host"]
"""What readings show about a straggler. ``throttled``: the driver gives a reason, but the clock is not reduced."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device: its last reading and its recent utilization and clocks."""

    reading: DeviceReading
    utilization: tuple[float | None, ...] = ()
    """One entry per report, oldest first, 0 to 1; None: a gap."""
    clocks: tuple[float | None, ...] = ()
    """MHz, one entry per report of the last minute, oldest first."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node."""

    name: str
    kind: NodeKind = "ssh"
    state: NodeStatus = "connecting"
    reason: str = ""
    hint: str = ""
    attempt: int = 1
    host: HostReading = field(default_factory=HostReading)
    devices: tuple[DeviceState, ...] = ()
    at: float | None = None
    """Stream time of its last report; None: never."""
    hostname: str = ""
    system: str = ""
    python: str = ""
    address: str = ""
    """IP address for training traffic."""
    interface: str = ""
    """Network interface of that address."""
    is_read_only: bool = False
    """Whether nodes.toml forbids to start, end or remove anything there."""
    clock_ahead: float | None = None
    """Seconds that its clock is ahead of the centre's, by its readings; None: unknown."""
    recorded_readings: tuple[ReadingsRecorded, ...] = ()
    """Readings that its runners recorded every ten seconds while no centre was connected, newest last."""


@dataclass(frozen=True, slots=True)
class RankState:
    """One rank of a run, by its last summary of the current case."""

    rank: int
    node: str = ""
    device_index: int = 0
    device_name: str = ""
    device_kind: str = ""
    is_joined: bool = False
    local_batch_size: int | None = None
    compute_seconds: float | None = None
    input_seconds: float | None = None
    """Part of the compute seconds: loading the batch and copying it to the device."""
    host_seconds: float | None = None
    """Part of the compute seconds: the host thread was runnable but did not run."""
    wait_seconds: float | None = None
    step_seconds: float | None = None
    samples_per_second: float | None = None
    """Of this rank within the run."""
    step: int | None = None
    at: float | None = None
    """Arrival of its last event, stream seconds."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ShareDecision:
    """One change of the shares, with its predicted and measured effect."""

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
class Evidence:
    """The cause of a slow device, as its readings show it."""

    kind: EvidenceKind
    text: str


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rank, or the network, that is slower than its own healthy time."""

    found: StragglerFound
    at: float
    """Stream time at which it was found."""
    evidence: Evidence | None = None
    """What readings of its device or node show about the cause; None: only its own timers are known."""
    ended: StragglerEnded | None = None
    is_open: bool = True
    """Whether it is still slow. It ends with its case at the latest."""


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
    predicted_samples_per_second: float | None = None
    """Predicted before the launch; None: without a valid profile."""
    state: CaseStatus = "waiting"
    """``waiting``, ``running``, ``measuring`` (standalone rates) or ``done``."""
    started_at: float | None = None
    ended_at: float | None = None
    local_batch_sizes: tuple[int, ...] = ()
    epoch: int = 0
    """Number of completed epochs."""
    step: int | None = None
    throughput: tuple[tuple[float, float], ...] = ()
    """(stream seconds, samples per second of all ranks)."""
    losses: tuple[tuple[float, float], ...] = ()
    """(stream seconds, global training loss)."""
    epochs: tuple[EpochPoint, ...] = ()
    decisions: tuple[ShareDecision, ...] = ()
    stragglers: tuple[Straggler, ...] = ()
    """Oldest first."""
    share_changes: int = 0
    standalone: tuple[tuple[int, int, float], ...] = ()
    """(rank, local batch size, standalone samples per second), measured after this case. Sizes measured before are not repeated."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a demo session says to look at now."""

    text: str
    screen: str = ""
    """Name of the screen that shows it; empty: any."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that needs a person's attention. There is one open alert per key."""

    key: AlertKey
    severity: Severity
    text: str
    at: float
    hint: str = ""
    """What a person can do about it."""
    node: str = ""
    run_id: str = ""
    rank: int | None = None
    """Rank of the run that the alert is about."""
    action_taken: str = ""
    """What the balancer has done about it."""
    ended_at: float | None = None
    """Stream time at which its cause ended; None: it is open."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a list says about a run beside its state: from its result, or from its plan while there is none."""

    policies: tuple[str, ...] = ()
    seconds: float | None = None
    """From its start to its end; None: unknown, or it goes on."""
    samples_per_second: float | None = None
    """Throughput of its result; of a benchmark that of the fastest policy."""
    loss: float | None = None
    """Validation loss of the last epoch."""
    metric: float | None = None
    metric_name: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """One run, reduced from its events."""

    run_id: str
    state: RunStatus = "starting"
    reason: str = ""
    phase: str = ""
    """Current phase of the launch, one short sentence."""
    fraction: float | None = None
    """Of the phase, 0 to 1."""
    detail: str = ""
    """Amount done of the phase, such as ``2 of 4 nodes``."""
    seconds_left: float | None = None
    """Time left of the phase, at ``phase_at``."""
    phase_at: float = 0.0
    """Stream time of ``seconds_left``."""
    workload: str = ""
    source: str = ""
    cases: tuple[CaseState, ...] = ()
    case: int = 0
    """Index of the current case."""
    ranks: dict[int, RankState] = field(default_factory=dict)
    epochs: int = 0
    global_batch_size: int = 0
    samples_per_epoch: int = 0
    is_emulated: bool = False
    is_network_emulated: bool = False
    is_bench: bool = False
    first_event_at: float = 0.0
    """Stream time of its first event."""
    first_step_at: float | None = None
    """Stream time of the first step event."""
    last_event_at: float = 0.0
    ended_at: float | None = None
    unreachable_nodes: tuple[str, ...] = ()
    document: dict[str, Any] | None = None
    """Its result document, once derived."""
    balance: BalanceJudged | None = None
    """Of a script: whether its batches follow the shares; None: not known yet, or a workload."""
    metrics: dict[str, tuple[tuple[int, float | None], ...]] = field(default_factory=dict)
    """Values that a script logged, by name: (epoch, value)."""
    baseline: float | None = None
    """Samples per second of the fastest device alone at the global batch; None: not measured yet."""
    checkpoint: tuple[int, int] | None = None
    """Epoch, counted from 0, and step of its newest checkpoint; None: none is known."""

    name: str = ""
    """Name that a person gave it."""
    summary: RunSummary = field(default_factory=RunSummary)
    clocks_ahead: dict[str, float] = field(default_factory=dict)
    """Seconds that the clocks of its nodes are ahead of the centre's, fixed by the first event of each node."""
    runners_started_at: float | None = None
    """Stream time at which its first runner started; None: unknown."""
    runners_ended_at: float | None = None
    """Stream time at which its last runner ended; None: none has."""
    listed_nodes: tuple[str, ...] = ()
    """Its nodes, where the run was discovered and its plan is not known here."""
    node_started_at: float | None = None
    """Start by the clock of its node, seconds since 1970, where the run was discovered."""
    is_discovered: bool = False
    """Whether it was discovered on its nodes instead of launched in this session. It may be followed by now."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of its nodes, in the order of its ranks."""
        return tuple(dict.fromkeys(rank.node for rank in self.ranks.values() if rank.node)) or self.listed_nodes

    @property
    def began_at(self) -> float:
        """Stream time of its start, the same for whoever launched it and for whoever found it."""
        return self.first_event_at if self.runners_started_at is None else self.runners_started_at

    @property
    def is_over(self) -> bool:
        """Whether all its processes have ended."""
        return self.state in FINAL

    @property
    def current(self) -> CaseState | None:
        """The current case."""
        return self.cases[self.case] if self.case < len(self.cases) else None


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits at the centre for devices in use. It is not a run yet."""

    workload: str
    is_bench: bool
    nodes: tuple[str, ...]
    in_use: tuple[tuple[str, str], ...]
    """(device, its user) of the devices it waits for."""
    since: float
    """Stream seconds."""


@dataclass(frozen=True, slots=True)
class State:
    """The whole state of a session."""

    at: float = 0.0
    """Stream time of the newest event, in seconds. It never decreases."""
    clock: float | None = None
    """Wall clock of the centre at ``clock_at``, seconds since 1970."""
    clock_at: float = 0.0
    path: str = ""
    lab: str = ""
    nodes: dict[str, NodeState] = field(default_factory=dict)
    runs: dict[str, RunState] = field(default_factory=dict)
    run_id: str = ""
    """The current run: the one prepared or planned last."""
    waiting: WaitingJob | None = None
    """The job that waits for devices."""
    phase: str = ""
    """Current phase of preparations before a run exists."""
    fraction: float | None = None
    seconds_left: float | None = None
    """Of the phase."""
    detail: str = ""
    """Amount done of the phase, such as ``2 of 4 nodes``."""
    alerts: tuple[Alert, ...] = ()
    """Oldest first."""
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Documents of ``profile`` by workload, the newest last."""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Boards of experiments by name, the newest last."""
    caption: Caption | None = None
    """The newest caption of a demo session; None in any other session."""
    events: int = 0
    """Number of events reduced."""
    unknown: int = 0
    """Number of events that changed nothing here."""

    @property
    def run(self) -> RunState | None:
        """The current run."""
        return self.runs.get(self.run_id)
