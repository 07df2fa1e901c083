"""Happened: one frozen dataclass per kind of event, and EVENTS, the table of all kinds.

Runs on both sides and imports the standard library only. Names are in the past tense; a kind never changes its meaning; every
field has a default, so that old recordings stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Fields of all events."""

    at: float = 0.0
    """Arrival at the centre, seconds since the stream began."""
    node_time: float | None = None
    """Clock of the node that wrote it, seconds since 1970; never compared between machines."""
    node: str = ""
    run_id: str = ""


# Nodes and devices -------------------------------------------------------------------------------------------------------------


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
    """Reasons for which the device lowers its clocks, as text."""
    processes: tuple[ProcessReading, ...] | None = None
    """None: not readable; (): none."""
    error: str = ""
    """Why the device could not be read."""
    holder: str = ""
    """Id of the run that holds the lock of the device, whichever user started it."""
    holder_user: str = ""
    """User of that run."""
    memory_clock: float | None = None
    """MHz."""
    fan: float | None = None
    """Fraction of its full speed, 0 to 1; None: the device has no fan."""
    pcie: tuple[int, ...] = ()
    """Current generation and width of its link, then their maximum for card and slot; (): unknown. An idle link may slow down."""
    ecc_errors: int | None = None
    """Uncorrected memory errors since the driver was loaded; None: the device does not count them."""
    performance_state: int | None = None
    """0 (fastest) to 15 (slowest)."""
    uuid: str = ""
    """Identity of an accelerator, as its driver gives it; empty: unknown, or no accelerator."""


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """A process that holds memory of a device."""

    pid: int = 0
    user: str = ""
    name: str = ""
    memory: int | None = None
    """Bytes of the device."""
    run_id: str = ""
    """Id of the run that it belongs to; empty: none."""
    is_graphics: bool = False
    """Whether it only draws, as a desktop does, and does not use the device for computing."""
    rank: int | None = None
    """Its rank in the run, or in another job as its launcher states it; None: unknown or not readable."""


@dataclass(frozen=True, slots=True)
class DiskReading:
    """A file system of a machine."""

    mount: str = ""
    """Mount point."""
    source: str = ""
    """Its block device, or the server and its directory."""
    used: int | None = None
    """Bytes; None: no answer, as of a file server that is down."""
    total: int | None = None
    """Bytes."""


@dataclass(frozen=True, slots=True)
class LinkReading:
    """A network interface of a machine."""

    interface: str = ""
    received: float | None = None
    """Bytes per second since the last reading."""
    sent: float | None = None
    """Bytes per second since the last reading."""
    speed: float | None = None
    """Bits per second of the negotiated link; None: unknown, as of virtual interfaces."""


@dataclass(frozen=True, slots=True)
class HostProcess:
    """One of the busiest processes of a machine."""

    pid: int = 0
    user: str = ""
    name: str = ""
    cpu: float | None = None
    """Cores that it used, a mean over some seconds; None: not measured yet."""
    memory: int | None = None
    """Resident bytes of the machine's memory."""
    run_id: str = ""
    """Id of the run that it belongs to; empty: none, or it is not readable."""


@dataclass(frozen=True, slots=True)
class QueueShare:
    """Jobs of one user in the queue of a cluster."""

    user: str = ""
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class HostReading:
    """One measurement of a machine."""

    cpu: float | None = None
    """Utilization of all cores, 0 to 1."""
    memory_used: int | None = None
    memory_total: int | None = None
    disk_free: int | None = None
    """Free bytes in the file system of the state directory."""
    cores: int | None = None
    """Processors that the system schedules on."""
    load: float | None = None
    """Load average of the last minute: runnable processes."""
    swap_used: int | None = None
    """Bytes."""
    swap_total: int | None = None
    """Bytes."""
    uptime: float | None = None
    """Seconds since boot."""
    disks: tuple[DiskReading, ...] = ()
    links: tuple[LinkReading, ...] = ()
    core_use: tuple[int, ...] | None = None
    """Utilization of each processor in percent, a mean over some seconds; None: not in this reading, the last one still holds."""
    processes: tuple[HostProcess, ...] | None = None
    """The busiest ones, busiest first; None: likewise."""
    queue: tuple[QueueShare, ...] = ()
    """Of a login node: the queue of its cluster by user, most jobs first."""


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A machine of nodes.toml, before its first answer."""

    name: str = ""
    kind: str = "ssh"
    host: str = ""
    devices: tuple[DeviceReading, ...] = ()
    """Declared devices of an embedded node, without measurements; empty where devices are detected."""
    is_read_only: bool = False
    """Whether nodes.toml sets read_only: nothing is started, ended or removed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRead(Event):
    """nodes.toml was read. First event of every stream."""

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
    """A connection attempt began."""

    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConnected(Event):
    """The hello of the node's agent arrived."""

    hostname: str = ""
    python: str = ""
    system: str = ""
    address: str = ""
    interface: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    """Number of the agent's process namespace: together with the boot id it names one machine, or one container."""
    torch: str = ""
    """Version of torch in its Python; empty: unknown or not installed."""
    driver: str = ""
    """Version of the driver of its accelerators; empty: unknown or not installed."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of torch and numpy in its Python; empty: not installed, ``?``: of unknown version. No entry: not reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDenied(Event):
    """The node refused the login, or its host key was refused. It is not retried automatically."""

    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost(Event):
    """The link to the node is gone; runs on the node continue."""

    reason: str = ""
    hint: str = ""
    """What a person can do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWarned(Event):
    """The node works, but has a problem that matters for a long run."""

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
    """The node and the device that a rank runs on."""

    rank: int = 0
    node: str = ""
    device_index: int = 0
    device_name: str = ""
    device_kind: str = "emulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """A launch or another long task advanced."""

    phase: str = ""
    """One short sentence, such as ``pushing data to 4 nodes``; empty: the preparation is over."""
    fraction: float | None = None
    """Done so far, 0 to 1; None: unknown."""
    seconds_left: float | None = None
    """Estimate for this phase; None: unknown."""
    detail: str = ""
    """Amount done of the total, such as ``3.1 of 12.3 MiB``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned(Event):
    """A demo session said what to look at."""

    text: str = ""
    screen: str = ""
    """Name of the screen that shows it; empty: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """A problem occurred that stops nothing."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWaited(Event):
    """A job waits at the centre until its devices are free; nothing of it is on a node yet."""

    workload: str = ""
    is_bench: bool = False
    nodes: tuple[str, ...] = ()
    """Machines that it will run on."""
    devices: tuple[str, ...] = ()
    """Devices that it waits for, such as ``lab1 / RTX 3060``; (): the wait is over."""
    users: tuple[str, ...] = ()
    """Users of these devices, one per device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlanned(Event):
    """The plan of a run is known; the run was just launched or is followed again."""

    workload: str = ""
    cases: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    """One per case; (): the names of the cases."""
    predicted: tuple[float | None, ...] = ()
    """Samples per second of each case, predicted before the launch; None: no valid profile. (): no prediction for any case."""
    ranks: tuple[RankSummary, ...] = ()
    epochs: int = 0
    global_batch_size: int = 0
    samples_per_epoch: int = 0
    source: str = ""
    is_emulated: bool = False
    is_network_emulated: bool = False
    """Whether the network between its devices is emulated, too."""
    is_bench: bool = False
    name: str = ""
    """Name that a person gave the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunListed(Event):
    """A run that this session does not follow was found on the nodes. An observation, and no transition of its state."""

    state: str = "running"
    reason: str = ""
    workload: str = ""
    nodes: tuple[str, ...] = ()
    started: float | None = None
    """Clock of its node, seconds since 1970."""
    step: int | None = None
    name: str = ""
    """Name that a person gave it."""
    policies: tuple[str, ...] = ()
    seconds: float | None = None
    """From its start to its end; None: unknown, or it goes on."""
    samples_per_second: float | None = None
    """Throughput of its result, as are the next three; None: no result here."""
    loss: float | None = None
    metric: float | None = None
    metric_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQueued(Event):
    """The scheduler of a cluster has the run, and its machines are not there yet, or no longer."""

    state: str = "queued"
    """``queued``, or ``waiting`` until the scheduler has taken it."""
    reason: str = ""
    """What it waits for and where it stands, such as ``Priority, number 3 of 12 in gpu``."""
    job_id: int | None = None
    """Number that the scheduler gave; None: none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSeen(Event):
    """A node's program has written lines that matter: warnings, errors, and the last ones. All lines stand in its out.log."""

    lines: tuple[str, ...] = ()
    """As it wrote them, each cut at some hundred characters. Untrusted: escape them before they are shown."""
    levels: tuple[str, ...] = ()
    """Of each line: ``info``, ``warning`` or ``error``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnreachable(Event):
    """Nodes of the run are out of reach. The run itself continues; only the view of it is missing."""

    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """All nodes of the run have ended."""

    state: str = "done"
    """``done``, ``failed`` or ``cancelled``."""
    reason: str = ""
    rank: int | None = None
    """The rank that caused the failure; None: no single rank."""
    failed_node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultDerived(Event):
    """The result of a run was written; ``document`` is its result.json."""

    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileStored(Event):
    """A profile was stored, or a stored one was read; ``document`` is that of the verb profile."""

    document: dict[str, Any] = field(default_factory=dict)
    is_new: bool = False
    """Whether it was just measured. That ends the drift alerts of its devices, unless DriftFound follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentAdvanced(Event):
    """A case or trial of an experiment has begun or ended, or a stored experiment was read."""

    board: dict[str, Any] = field(default_factory=dict)
    """What a screen shows of it: ``engine/experiments/board.py``."""
    is_new: bool = False
    """Whether it goes on in this session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(Event):
    """A device takes a different time for the same workload than in its previous profile."""

    device_index: int = 0
    workload: str = ""
    slowdown: float = 1.0
    """Seconds per sample over those of the previous profile; below 1: faster."""
    since: float | None = None
    """Time of the previous profile, seconds since 1970 by the centre's clock."""
    day: str = ""
    """Local date of the previous profile at the centre: ``3 May``."""
    reason: str = ""
    """Driver facts that differ from the previous profile."""


# Runs: written by the runner into events.jsonl ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStarted(Event):
    """The runner of one node owns the run directory."""

    pid: int = 0
    boot_id: str = ""
    start_time: int = 0
    """Start of the process in clock ticks since boot; pid, boot id and this identify a process uniquely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchStarted(Event):
    """The runner has started torchrun."""

    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingsRecorded(Event):
    """The node's readings, every 10 s, for times when no control centre is connected."""

    host: HostReading = field(default_factory=HostReading)
    devices: tuple[DeviceReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost(Event):
    """The runner of another node is gone."""

    peer: str = ""
    ranks: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSilent(Event):
    """A rank, a node, or the path between two nodes has been silent for some seconds; or is heard again (``is_over``)."""

    peer: str = ""
    """The silent node, or that of the silent rank; empty for a path."""
    ranks: tuple[int, ...] = ()
    """The silent rank, or those of the silent node."""
    path: tuple[str, ...] = ()
    """The two nodes that do not hear each other, though a third one hears both."""
    seconds: float = 0.0
    reason: str = ""
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MembersWaited(Event):
    """The run stands still on this node until other nodes are back: too few of them are in reach to go on."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRested(Event):
    """The node takes no part in the run for now: its processes have ended, its devices are free. Or it wants to again."""

    reason: str = ""
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangersRefused(Event):
    """Connections to the node's runner that proved no membership of the run were refused."""

    count: int = 0
    """Since the run began; written for the first, for every tenfold count, and when the runner stops listening."""
    address: str = ""
    """Of the last one."""
    reason: str = ""
    """Why the last one was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerEnded(Event):
    """The node's part of the run is over; exit.json holds the same facts."""

    state: str = "done"
    reason: str = ""
    rank: int | None = None
    failed_node: str = ""
    survivors: tuple[int, ...] = ()
    """Process ids that could not be stopped."""
    gone: tuple[str, ...] = ()
    """Nodes that the run had lost, and without which it went on."""


# Runs: written by each rank into ranks/<rank>.jsonl -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEvent(Event):
    """Fields of all events of a rank."""

    rank: int = 0
    """Of the plan: its device."""
    case: str = ""
    process: int | None = None
    """Number of the process, as in the name of its file, where the first one on that device is gone; None: the rank's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOpened(RankEvent):
    """Rank 0 opened the rendezvous store; its runner passes the address on to the other nodes."""

    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankJoined(RankEvent):
    """The rank joined the process group."""

    pid: int = 0
    world_size: int = 0
    backend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReformed(RankEvent):
    """Members were lost or came, and the training goes on with these. Ranks are those of the plan, which stand for devices."""

    generation: int = 0
    """Number of the group, from 1: the first one is 0."""
    ranks: tuple[int, ...] = ()
    """Whose devices take part, in the order of the group."""
    numbers: tuple[int, ...] = ()
    """Of their processes: whoever comes has a new one; empty in older files: those of the ranks."""
    lost: tuple[int, ...] = ()
    """Those whose processes the group before had, too."""
    joined: tuple[int, ...] = ()
    """Those whose processes are new."""
    reason: str = ""
    step: int = 0
    """With which the training goes on."""
    repeated_steps: int = 0
    """Steps that this rank had taken and takes again."""
    seconds: float = 0.0
    """From the first failure of this rank to the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProbed(RankEvent):
    """The rank timed its device at two local batch sizes, without communication."""

    local_batch_sizes: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    """Median compute seconds at these sizes."""
    fixed_seconds: float = 0.0
    """a of t = a + c b."""
    seconds_per_sample: float = 0.0
    """c of t = a + c b."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseStarted(RankEvent):
    """Rank 0: a case began, with the model initialized from the seed."""

    policy: str = ""
    local_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsTaken(RankEvent):
    """Steps of one rank since its last line: at most four lines a second, and one line per step around a decision."""

    epoch: int = 0
    step: int = 0
    """Last step of the summary, counted from 0 over the case."""
    steps: int = 0
    """Number of steps in the summary."""
    local_batch_size: int = 0
    compute_seconds: float = 0.0
    """The rank's own work up to its last gradient. All seconds of this event are means over the steps."""
    wait_seconds: float = 0.0
    step_seconds: float = 0.0
    data_seconds: float = 0.0
    """Part of the compute seconds: until the batch was in host memory."""
    copy_seconds: float = 0.0
    """Part of the compute seconds: until the batch was in device memory."""
    host_seconds: float = 0.0
    """Part of the compute seconds: the host's thread was runnable and did not run."""
    backward_seconds: float = 0.0
    """Part of the remaining compute seconds: backward."""
    optimizer_seconds: float = 0.0
    """After the wait."""
    samples: int = 0
    """Of this rank, in these steps."""
    loss: float | None = None
    """Global training loss of the last step."""
    utilization: float | None = None
    """Emulated devices: fraction of the last second inside paced compute, 0 to 1."""
    memory_used: int | None = None
    """Bytes, of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesChanged(RankEvent):
    """Rank 0: the balancer changed the local batch sizes."""

    step: int = 0
    """First step with the new sizes, counted over the case."""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    reason: str = ""
    predicted_before: float | None = None
    """Step seconds with the old sizes."""
    predicted_after: float | None = None
    """Step seconds with the new sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerFound(RankEvent):
    """Rank 0: a rank is slower than its own healthy time at its local batch size, beyond noise; or the network is slow."""

    straggler: int | None = None
    """The rank; None: all ranks wait for the network."""
    cause: str = "compute"
    """The part of the step that grew most, see ``states.SlowdownCause``."""
    slowdown: float = 1.0
    """Compute seconds over healthy ones; network: step seconds over healthy ones."""
    since: int = 0
    """First slow step, counted over the case."""
    step: int = 0
    """Step after which it was detected."""
    expected_seconds: float = 0.0
    """Healthy compute seconds of the rank at its local batch size; network: healthy step seconds."""
    seconds: float = 0.0
    """The measured value of the same: median of the slow steps."""
    part_expected_seconds: float = 0.0
    """Healthy seconds of the part that is the cause."""
    part_seconds: float = 0.0
    """Measured seconds of that part."""
    before: tuple[int, ...] = ()
    """Local batch sizes of all ranks before the first slow step."""
    after: tuple[int, ...] = ()
    """Local batch sizes at its detection; they differ where the balancer had acted by then."""
    is_costly: bool = False
    """Whether the other ranks would be faster without this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerEnded(RankEvent):
    """Rank 0: the rank, or the network, is no longer slow."""

    straggler: int | None = None
    cause: str = "compute"
    slowdown: float = 1.0
    """Mean over the slow steps with a measurement."""
    since: int = 0
    step: int = 0
    """First healthy step."""
    gain: float | None = None
    """Fraction of the lost step time that changed shares recovered, 0 to 1; None: nothing was lost, or the network was slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEpochEnded(RankEvent):
    """Sums of one rank over an epoch."""

    epoch: int = 0
    samples: int = 0
    seconds: float = 0.0
    """From the first step to the last gradient, all steps."""
    full_steps: int = 0
    """Steps of the full global batch size."""
    full_compute_seconds: float = 0.0
    """Sum over the full steps."""
    full_wait_seconds: float = 0.0
    full_data_seconds: float = 0.0
    """Part of the compute seconds, as are the next two."""
    full_copy_seconds: float = 0.0
    full_host_seconds: float = 0.0
    full_backward_seconds: float | None = None
    """Part of the compute seconds, host stalls included; None: not reported."""
    full_optimizer_seconds: float | None = None
    """After the wait."""
    communication_seconds: float | None = None
    """Exposed communication: least wait of any rank in a full step, mean over the steps where it is known; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded(RankEvent):
    """Rank 0: an epoch ended and was evaluated, exactly over all ranks."""

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
    mae: float | None = None
    """Mean absolute error of a forecast; None: no regression."""
    r2: float | None = None
    """Coefficient of determination of a forecast."""
    gain: float | None = None
    """Mean squared error of repeating the last value, less the model's; above 0: the model is better."""
    gain_error: float | None = None
    """Standard error of ``gain``."""
    local_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped(RankEvent):
    """Rank 0: no rank's optimizer took a step, as its gradients overflowed a number format."""

    step: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTested(RankEvent):
    """Rank 0: the final model of a case was evaluated on the test part, exactly over all ranks."""

    samples: int = 0
    loss: float | None = None
    metric: float | None = None
    metric_name: str = ""
    mae: float | None = None
    r2: float | None = None
    gain: float | None = None
    """As in EpochEnded, and so its standard error."""
    gain_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneMeasured(RankEvent):
    """The rank trained alone at the local batch size that its case ended with; others idle, no communication."""

    local_batch_size: int = 0
    samples_per_second: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineMeasured(RankEvent):
    """The fastest device trained alone at the whole global batch, in micro-batches where its memory asks for them."""

    local_batch_size: int = 0
    samples_per_second: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUsed(RankEvent):
    """An emulated device worked outside an epoch, for a probe or a standalone rate: at most four lines a second."""

    step: int = -1
    """The step whose scripted faults apply; -1: permanent faults only."""
    utilization: float | None = None
    """Fraction of the last second inside paced compute, 0 to 1."""
    memory_used: int | None = None
    """Bytes, of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilingAdvanced(RankEvent):
    """Rank 0: profiling reached its next part."""

    phase: str = ""
    """Short name of the measurement."""
    fraction: float = 0.0
    """Done so far, 0 to 1."""
    seconds_left: float | None = None
    """Usual duration of the rest."""
    part: int = 0
    """Number of this part, from 1; 0: not reported."""
    parts: int = 0
    """Number of parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfiled(RankEvent):
    """Capabilities of the rank's device, independent of a workload."""

    tflops: dict[str, float] = field(default_factory=dict)
    """10^12 operations per second of a large matrix product, by number format: fp32, tf32, bf16, fp16."""
    memory_bandwidth: float | None = None
    """Bytes per second, read and written; None: not emulated."""
    host_to_device: float | None = None
    """Bytes per second; None: the device computes in host memory."""
    facts: dict[str, str] = field(default_factory=dict)
    """Facts from the driver."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimesProfiled(RankEvent):
    """Step times of the rank's device for the workload."""

    sizes: tuple[int, ...] = ()
    """Local batch sizes."""
    seconds: tuple[float, ...] = ()
    """Median compute seconds at these sizes, without communication."""
    fixed_seconds: float | None = None
    """a of t = a + c b."""
    seconds_per_sample: float | None = None
    """c of t = a + c b."""
    residual: float | None = None
    """Median relative error of that line, 0 to 1."""
    largest_batch: int | None = None
    """Largest local batch size that fits in memory; None: no limit was found."""
    power: float | None = None
    """Watts during training."""
    joules_per_sample: float | None = None
    crowding: float | None = None
    """Step seconds while all CPU ranks of its machine compute, over those alone; None: no other rank shares its processors."""
    spread: float | None = None
    """Relative standard deviation of single steps of one size; None: not measured."""
    stalled: float | None = None
    """Fraction of its step time in which its thread was runnable and did not run, 0 to 1; None: not measured."""
    precision_speedups: dict[str, float] = field(default_factory=dict)
    """Step seconds in float32 over those in another number format, at the largest of the sizes; formats in hardware only."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfiled(RankEvent):
    """One rank of a node measured its link to another node, in the sending direction."""

    peer: str = ""
    latency: float | None = None
    """Seconds of one hop: half the round trip of a small message."""
    bandwidth: float | None = None
    """Bytes a second."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduceProfiled(RankEvent):
    """Rank 0: all-reduces over all ranks on the real backend, seconds = alpha + bytes / beta."""

    world_size: int = 0
    alpha: float | None = None
    beta: float | None = None
    residual: float | None = None
    sizes: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientProfiled(RankEvent):
    """Rank 0: the gradient buckets of the workload, in the order in which they are exchanged."""

    bucket_bytes: tuple[int, ...] = ()
    closed_at: tuple[float, ...] = ()
    """Fraction of backward, 0 to 1, that is done when each bucket is complete."""
    forward_share: float | None = None
    """Fraction of forward and backward (model seconds) before backward begins."""
    optimizer_seconds: float | None = None
    low_rank_bytes: tuple[int, ...] = ()
    """Bytes that PowerSGD sends in place of each bucket."""
    compression_seconds: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds to compress each bucket, without transport, by compression: bf16, fp16, powersgd."""
    parameters: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemProfiled(RankEvent):
    """One rank of a node measured the machine."""

    processor: str = ""
    cores: int | None = None
    memory: int | None = None
    """Bytes."""
    disk_write: float | None = None
    """Bytes per second, bypassing the page cache."""
    disk_read: float | None = None
    processor_tflops: float | None = None
    """10^12 float32 operations per second of a matrix product on all cores that the ranks may use."""
    memory_bandwidth: float | None = None
    """Bytes per second of a copy in its memory, read plus written, by the same cores."""
    facts: dict[str, str] = field(default_factory=dict)
    """Versions of the software that measured."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEnded(RankEvent):
    """Rank 0: a case ended."""

    local_batch_sizes: tuple[int, ...] = ()
    changes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringFailed(RankEvent):
    """A monitoring part failed on this rank; training continues. Once a part and case; the traceback is in the log."""

    part: str = ""
    """``timing``, ``balancing``, ``alerts``, ``logging`` or ``checkpoints``."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceJudged(RankEvent):
    """Rank 0 of a script: whether its batches follow the shares. The newest one counts."""

    state: str = "as-is"
    """``balanced``: every step has the gradient of its whole batch, whatever the shares; ``as-is``: the script runs unchanged."""
    door: str | None = None
    """Through which it is balanced: ``library``, ``torch``, ``accelerate``."""
    loss: str | None = None
    """What its loss is: ``mean``, ``sum``, ``weighted mean``, ``compared``; None: not known yet."""
    reason: str | None = None
    """Why it cannot be balanced, one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLogged(RankEvent):
    """Rank 0 of a script: a value that it logged, over all ranks."""

    name: str = ""
    epoch: int = 0
    value: float | None = None
    """None: not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(RankEvent):
    """A rank of a search has taken a trial."""

    trial: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded(RankEvent):
    """A trial of a search has ended on the device of this rank."""

    trial: int = 0
    state: str = "done"
    """``done``, ``failed`` or ``skipped``."""
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    """Of its process, from start to end."""
    peak_bytes: int = 0
    """Largest memory of its process."""
    metrics: str = "{}"
    """What it logged: JSON, a list of values by name, in their order."""
    outcome: str = ""
    """Of a trial within limits: ``success``, ``oom``, ``timeout``, ``failed`` or ``skipped``."""
    limited_by: str = ""
    """What imposed its memory limit: ``cgroup`` or ``rlimit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceFixed(RankEvent):
    """Rank 0 of a script on emulated devices: the first unpaced steps have fixed how fast a device of speed 1 is."""

    rate: float = 0.0
    """Samples per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWritten(RankEvent):
    """A rank wrote a checkpoint beside training, or could not (``error``): the training goes on either way."""

    name: str = ""
    """File below ``checkpoints`` of the run."""
    epoch: int = 0
    """Of the next step, from 0."""
    step: int = 0
    """Steps taken."""
    size: int = 0
    sha256: str = ""
    stall_seconds: float = 0.0
    """That training waited for the copy off the device."""
    write_seconds: float = 0.0
    """That the write took beside training."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFailed(RankEvent):
    """The rank raised an error; ``is_collateral``: a collective that failed because another rank was gone."""

    reason: str = ""
    is_collateral: bool = False


EVENTS: dict[str, type[Event]] = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, Event) and kind not in (Event, RankEvent)
}
"""Every kind, by its name on the wire."""

FORMER_NAMES: dict[str, type[Event]] = {"RunPrepared": Progress, "ProfileKept": ProfileStored, "ReadingsKept": ReadingsRecorded}
"""Former names of kinds, as in older recordings. Decoding accepts them."""
