"""Happened: one frozen dataclass a kind, and the one table EVENTS that names them all.

Runs on both sides and imports the standard library only. Names are in the past tense; a kind never changes its meaning; every
field has a default, so that old recordings stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events share."""

    at: float = 0.0
    """Arrival at the centre, seconds since the stream began."""
    node_time: float | None = None
    """Clock of the node that wrote it, seconds since 1970; never compared between machines."""
    node: str = ""
    run_id: str = ""


# What is there ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """One telemetry measurement of one device. Unknown is None, never 0."""

    index: int = 0
    name: str = ""
    kind: str = "emulated"
    utilization: float | None = None
    """0 to 1."""
    memory_used: int | None = None
    """Bytes."""
    memory_total: int | None = None
    """Bytes."""
    temperature: float | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts."""
    power_limit: float | None = None
    """Watts."""
    clock: float | None = None
    """MHz, of the streaming multiprocessors."""
    throttle: tuple[str, ...] = ()
    """Reasons why the device clocks down, in words."""
    processes: tuple[ProcessReading, ...] | None = None
    """None: could not be read; (): none."""
    error: str = ""
    """Why the device could not be read."""
    holder: str = ""
    """The run that holds the lock of the device, whoever started it."""
    holder_user: str = ""
    """The user that run belongs to."""
    memory_clock: float | None = None
    """MHz."""
    fan: float | None = None
    """Share of its full speed, 0 to 1; None where the device has none of its own."""
    pcie: tuple[int, ...] = ()
    """Generation and width of its link now, then the most that card and slot allow; (): unknown. An idle link may slow down."""
    ecc_errors: int | None = None
    """Memory errors that could not be corrected since the driver was loaded; None: the device does not count them."""
    performance_state: int | None = None
    """0 is the fastest, 15 the slowest."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """A process that holds memory of a device."""

    pid: int = 0
    user: str = ""
    name: str = ""
    memory: int | None = None
    """Bytes of the device."""
    run_id: str = ""
    """The run of ours it belongs to, if any."""
    is_graphics: bool = False
    """Whether it only draws, as a desktop does: that is no use of the device for computing."""
    rank: int | None = None
    """Of that run; of a foreign job what its launcher says. None: it does not tell, or we may not ask."""


@dataclass(frozen=True, slots=True)
class DiskReading:
    """A file system of a machine."""

    mount: str = ""
    """Where it is found."""
    source: str = ""
    """The device, or the server and its directory."""
    used: int | None = None
    """Bytes; None: it did not answer, as a server that is gone."""
    total: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class LinkReading:
    """A network interface of a machine."""

    interface: str = ""
    received: float | None = None
    """Bytes a second since the last reading."""
    sent: float | None = None
    """Bytes a second since the last reading."""
    speed: float | None = None
    """Bits a second that the link was set up with; None: it does not tell, as virtual ones."""


@dataclass(frozen=True, slots=True)
class HostReading:
    """One measurement of a machine."""

    cpu: float | None = None
    """Utilization of all cores, 0 to 1."""
    memory_used: int | None = None
    memory_total: int | None = None
    disk_free: int | None = None
    """Bytes free where the node keeps its state."""
    cores: int | None = None
    """Processors the system schedules on."""
    load: float | None = None
    """Processes that ran or wanted to, mean of the last minute."""
    swap_used: int | None = None
    """Bytes."""
    swap_total: int | None = None
    """Bytes."""
    uptime: float | None = None
    """Seconds since it was started."""
    disks: tuple[DiskReading, ...] = ()
    links: tuple[LinkReading, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A machine as nodes.toml names it, before it has answered."""

    name: str = ""
    kind: str = "ssh"
    host: str = ""
    devices: tuple[DeviceReading, ...] = ()
    """Declared devices of an embedded node, nothing measured yet; empty where devices are found."""
    is_read_only: bool = False
    """Whether nodes.toml says that nothing is started, ended or removed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRead(Event):
    """The session knows which machines it is about. First event of every stream."""

    path: str = ""
    lab: str = ""
    nodes: tuple[NodeSummary, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked(Event):
    """A second passed."""

    clock: float = 0.0
    """Wall clock of the centre, seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConnecting(Event):
    """A connection is being tried."""

    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConnected(Event):
    """The agent of the node has said hello."""

    hostname: str = ""
    python: str = ""
    system: str = ""
    address: str = ""
    interface: str = ""
    boot_id: str = ""
    torch: str = ""
    """Version beside its Python; empty: unknown, or none is there. So too"""
    driver: str = ""
    """that of its accelerators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDenied(Event):
    """The node answered and refused us, or we refused its key. Not tried again by itself."""

    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost(Event):
    """The link is gone; runs on the node go on."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWarned(Event):
    """The node works, but something of it deserves attention before a long run."""

    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReported(Event):
    """Readings of one node at one moment."""

    host: HostReading = field(default_factory=HostReading)
    devices: tuple[DeviceReading, ...] = ()


# Runs: written at the centre ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RankSummary:
    """Where a rank runs."""

    rank: int = 0
    node: str = ""
    device_index: int = 0
    device_name: str = ""
    device_kind: str = "emulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """A launch or another long task has come further."""

    phase: str = ""
    """One short sentence, such as ``pushing data to 4 nodes``; empty: what was prepared is over."""
    fraction: float | None = None
    """Done so far, 0 to 1; None: unknown."""
    seconds_left: float | None = None
    """Of this phase, at the pace so far; None: unknown."""
    detail: str = ""
    """How much of how much, such as ``3.1 of 12.3 MiB``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something a person should know that stops nothing."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWaited(Event):
    """A job waits at the centre until nobody else uses its devices; nothing of it is on a node yet."""

    workload: str = ""
    is_bench: bool = False
    nodes: tuple[str, ...] = ()
    """Machines that it would run on."""
    devices: tuple[str, ...] = ()
    """What it waits for, such as ``lab1 / RTX 3060``; (): the wait is over."""
    users: tuple[str, ...] = ()
    """Who uses each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlanned(Event):
    """The plan of a run is known, launched just now or found again."""

    workload: str = ""
    cases: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    """Of each case; (): its name."""
    predicted: tuple[float | None, ...] = ()
    """Samples per second of each case, said before the launch; None: no profile held. (): of none."""
    ranks: tuple[RankSummary, ...] = ()
    epochs: int = 0
    global_batch_size: int = 0
    samples_per_epoch: int = 0
    source: str = ""
    is_emulated: bool = False
    is_network_emulated: bool = False
    """Whether the network between its devices is played, too."""
    is_bench: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunListed(Event):
    """A run was found on the nodes that nobody follows here, of today or of another day."""

    state: str = "running"
    reason: str = ""
    workload: str = ""
    nodes: tuple[str, ...] = ()
    started: float | None = None
    """Clock of its node, seconds since 1970."""
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnreachable(Event):
    """Nodes of the run are out of reach: only the view is missing, the run is not touched."""

    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """All nodes of the run have ended."""

    state: str = "done"
    """``done``, ``failed`` or ``cancelled``."""
    reason: str = ""
    rank: int | None = None
    """The rank whose fault it was."""
    failed_node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDerived(Event):
    """The result of a run is written; ``document`` is the result.json."""

    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileStored(Event):
    """A profile lies on the shelf, measured just now or found there; ``document`` is that of the verb profile."""

    document: dict[str, Any] = field(default_factory=dict)
    is_new: bool = False
    """Whether it was measured just now: then what had drifted before is over, unless it is told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(Event):
    """A device takes another time for the same workload than when it was profiled last."""

    device_index: int = 0
    workload: str = ""
    slowdown: float = 1.0
    """Seconds a sample over those of before; below 1 it has become faster."""
    since: float | None = None
    """When it was profiled before, seconds since 1970 by the centre's clock."""
    day: str = ""
    """The day of that, as people of the centre call it: ``3 May``."""
    reason: str = ""
    """What the driver says differently now."""


# Runs: written by the runner into events.jsonl ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStarted(Event):
    """The runner of one node has taken its run directory."""

    pid: int = 0
    boot_id: str = ""
    start_time: int = 0
    """Start of the process in clock ticks since boot; pid, boot id and this name a process for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchStarted(Event):
    """The runner has started torchrun."""

    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingsRecorded(Event):
    """Every 10 s: what the node's readings were, for the nights when no control centre looks on."""

    host: HostReading = field(default_factory=HostReading)
    devices: tuple[DeviceReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost(Event):
    """The runner of another node is gone."""

    peer: str = ""
    ranks: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerEnded(Event):
    """The node's part of the run is over; the same facts stand in exit.json."""

    state: str = "done"
    reason: str = ""
    rank: int | None = None
    failed_node: str = ""
    survivors: tuple[int, ...] = ()
    """Process ids that could not be stopped."""


# Runs: written by each rank into ranks/<rank>.jsonl -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEvent(Event):
    """What all lines of a rank share."""

    rank: int = 0
    case: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOpened(RankEvent):
    """Rank 0 has opened the store by which the group forms; its runner tells the other nodes."""

    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankJoined(RankEvent):
    """The rank is part of the process group."""

    pid: int = 0
    world_size: int = 0
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProbed(RankEvent):
    """The rank has timed its device at two local batch sizes, without communication."""

    local_batch_sizes: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    """Median compute seconds at these sizes."""
    fixed_seconds: float = 0.0
    """a of t = a + c b."""
    seconds_per_sample: float = 0.0
    """c of t = a + c b."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStarted(RankEvent):
    """Rank 0: a case begins, with the model fresh from the seed."""

    policy: str = ""
    local_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsTaken(RankEvent):
    """Steps of one rank since its last line: at most four such lines a second, and one a step around a decision."""

    epoch: int = 0
    step: int = 0
    """Last step of the summary, counted from 0 over the whole case."""
    steps: int = 0
    """How many steps the summary covers."""
    local_batch_size: int = 0
    compute_seconds: float = 0.0
    """All own work up to the last gradient; mean of the steps, as all seconds here."""
    wait_seconds: float = 0.0
    step_seconds: float = 0.0
    data_seconds: float = 0.0
    """Part of the own work: until the batch lay in the host's memory,"""
    copy_seconds: float = 0.0
    """until it lay in the device's,"""
    host_seconds: float = 0.0
    """in which the host's thread was due to run and did not;"""
    backward_seconds: float = 0.0
    """and, of the rest, backward."""
    optimizer_seconds: float = 0.0
    """After the wait."""
    samples: int = 0
    """Of this rank, in these steps."""
    loss: float | None = None
    """Global training loss of the last step."""
    utilization: float | None = None
    """Emulated devices: share of the last second inside paced compute, 0 to 1."""
    memory_used: int | None = None
    """Bytes, of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesChanged(RankEvent):
    """Rank 0: the balancer changed the local batch sizes."""

    step: int = 0
    """First step with the new sizes, counted over the whole case."""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    reason: str = ""
    predicted_before: float | None = None
    """Step seconds, had nothing changed."""
    predicted_after: float | None = None
    """Step seconds with the new sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerFound(RankEvent):
    """Rank 0: a rank works slower than its own healthy time at its local batch size, beyond noise; or the network does."""

    straggler: int | None = None
    """The rank; None: all of them wait for the network."""
    cause: str = "compute"
    """``compute``, ``data``, ``host-to-device``, ``host`` or ``network``: the part of the step that grew most."""
    slowdown: float = 1.0
    """Seconds of own work over healthy ones; of the network: of the whole step."""
    since: int = 0
    """First slow step, counted over the whole case."""
    step: int = 0
    """Step after which it was certain."""
    expected_seconds: float = 0.0
    """Of one step of this rank, healthy, at its local batch size; of the network: of the whole step."""
    seconds: float = 0.0
    """The same as measured: median of the slow steps."""
    part_expected_seconds: float = 0.0
    """Of these, the part that is the cause."""
    part_seconds: float = 0.0
    before: tuple[int, ...] = ()
    """Local batch sizes of all ranks before it began."""
    after: tuple[int, ...] = ()
    """What they were when it was certain: different where the balancer had acted."""
    is_costly: bool = False
    """Whether the others would be faster without this rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerEnded(RankEvent):
    """Rank 0: the rank, or the network, is itself again."""

    straggler: int | None = None
    cause: str = "compute"
    slowdown: float = 1.0
    """Mean over the slow steps for which it was known."""
    since: int = 0
    step: int = 0
    """First healthy step."""
    gain: float | None = None
    """Share of the lost step time that changed shares brought back, 0 to 1; None: nothing was lost, or of the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEpochEnded(RankEvent):
    """One rank's sums over an epoch."""

    epoch: int = 0
    samples: int = 0
    seconds: float = 0.0
    """From the first step to the last gradient, all steps."""
    full_steps: int = 0
    """Steps that trained the whole global batch."""
    full_compute_seconds: float = 0.0
    """Sum over the full steps."""
    full_wait_seconds: float = 0.0
    full_data_seconds: float = 0.0
    """Parts of the compute seconds."""
    full_copy_seconds: float = 0.0
    full_host_seconds: float = 0.0
    full_backward_seconds: float | None = None
    """Part of the compute seconds, stalls of the host in it included; None: not told."""
    full_optimizer_seconds: float | None = None
    """After the wait."""
    communication_seconds: float | None = None
    """Least wait of any rank in a full step, mean over the steps of which it is known: what nobody could hide; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded(RankEvent):
    """Rank 0: an epoch is over and was evaluated; exact over all ranks."""

    epoch: int = 0
    epochs: int = 0
    samples: int = 0
    seconds: float = 0.0
    """From the first step to the last gradient."""
    training_loss: float | None = None
    loss: float | None = None
    """On the validation data."""
    metric: float | None = None
    metric_name: str = ""
    local_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneMeasured(RankEvent):
    """The rank trained alone, others idle, no communication, at the local batch its case ended with."""

    local_batch_size: int = 0
    samples_per_second: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUsed(RankEvent):
    """An emulated device worked outside of any epoch, for a probe or alone for its rate: at most four such lines a second."""

    step: int = -1
    """The one whose scripted faults act; -1: none do."""
    utilization: float | None = None
    """Share of the last second inside paced compute, 0 to 1."""
    memory_used: int | None = None
    """Bytes, of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilingAdvanced(RankEvent):
    """Rank 0: profiling has come to its next part."""

    phase: str = ""
    """What is measured now, in a few words."""
    fraction: float = 0.0
    """Done so far, 0 to 1."""
    seconds_left: float | None = None
    """As long as the rest usually takes."""
    part: int = 0
    """Which one that is, from 1; 0: not told."""
    parts: int = 0
    """How many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfiled(RankEvent):
    """What the rank's device can do, whatever the workload."""

    tflops: dict[str, float] = field(default_factory=dict)
    """10^12 operations a second of a large matrix product, by number format: fp32, tf32, bf16, fp16."""
    memory_bandwidth: float | None = None
    """Bytes a second, read and written; None: emulated devices play none."""
    host_to_device: float | None = None
    """Bytes a second; None: it computes where the data lie."""
    facts: dict[str, str] = field(default_factory=dict)
    """What the driver says."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimesProfiled(RankEvent):
    """How long the rank's device takes for the workload."""

    sizes: tuple[int, ...] = ()
    """Local batch sizes,"""
    seconds: tuple[float, ...] = ()
    """and the median compute seconds of each, without communication."""
    fixed_seconds: float | None = None
    """a of t = a + c b."""
    seconds_per_sample: float | None = None
    """c of t = a + c b."""
    residual: float | None = None
    """Median relative error of that line, 0 to 1."""
    largest_batch: int | None = None
    """Samples that fit at once; None: no limit was found."""
    power: float | None = None
    """Watts while it trained."""
    joules_per_sample: float | None = None
    crowding: float | None = None
    """Seconds of a step while all processors of its machine compute, over those alone; None: it has the machine to itself."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfiled(RankEvent):
    """One rank of a node has measured what it sends to another node."""

    peer: str = ""
    latency: float | None = None
    """Seconds of one hop: half of what a small message and its answer take."""
    bandwidth: float | None = None
    """Bytes a second."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduceProfiled(RankEvent):
    """Rank 0: sums over all ranks on the real backend, seconds = alpha + bytes / beta."""

    world_size: int = 0
    alpha: float | None = None
    beta: float | None = None
    residual: float | None = None
    sizes: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientProfiled(RankEvent):
    """Rank 0: how the gradients of the workload leave a rank, bucket after bucket."""

    bucket_bytes: tuple[int, ...] = ()
    closed_at: tuple[float, ...] = ()
    """The part of backward, 0 to 1, that is done when each closes."""
    forward_share: float | None = None
    """The part of compute seconds before backward."""
    optimizer_seconds: float | None = None
    low_rank_bytes: tuple[int, ...] = ()
    """What PowerSGD would send instead of each."""
    compression_seconds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """What compressing each takes by itself, without any transport: bf16, fp16, powersgd."""
    parameters: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemProfiled(RankEvent):
    """One rank of a node has measured the machine."""

    processor: str = ""
    cores: int | None = None
    memory: int | None = None
    """Bytes."""
    disk_write: float | None = None
    """Bytes a second, past the page cache."""
    disk_read: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    """Versions of what measured."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEnded(RankEvent):
    """Rank 0: a case is over."""

    local_batch_sizes: tuple[int, ...] = ()
    changes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailed(RankEvent):
    """The rank raised; ``is_collateral`` marks a collective that broke because another rank was gone."""

    reason: str = ""
    is_collateral: bool = False


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        InventoryRead,
        Ticked,
        NodeConnecting,
        NodeConnected,
        NodeDenied,
        NodeLost,
        NodeWarned,
        NodeReported,
        Progress,
        Warned,
        JobWaited,
        RunPlanned,
        RunListed,
        RunUnreachable,
        RunEnded,
        ResultDerived,
        ProfileStored,
        DriftFound,
        RunnerStarted,
        LaunchStarted,
        ReadingsRecorded,
        PeerLost,
        RunnerEnded,
        StoreOpened,
        RankJoined,
        DeviceProbed,
        CaseStarted,
        StepsTaken,
        SharesChanged,
        StragglerFound,
        StragglerEnded,
        RankEpochEnded,
        EpochEnded,
        StandaloneMeasured,
        DeviceUsed,
        ProfilingAdvanced,
        DeviceProfiled,
        StepTimesProfiled,
        LinkProfiled,
        AllReduceProfiled,
        GradientProfiled,
        SystemProfiled,
        CaseEnded,
        RankFailed,
    )
}
"""Every kind by its name on the wire."""

FORMER_NAMES: dict[str, type[Event]] = {"RunPrepared": Progress, "ProfileKept": ProfileStored, "ReadingsKept": ReadingsRecorded}
"""Kinds that older versions wrote under another name. Readers take them; nothing writes them."""
