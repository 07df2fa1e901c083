"""Asked: machines, devices and jobs as a person wrote them, as frozen values.

Runs on both sides and imports the standard library only. Nothing here was measured or decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .states import Compression, FaultCause, NodeKind, Policy, Precision


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One declared device of an embedded node. Real devices are detected, not declared."""

    name: str
    speed: float
    """Relative to the other devices. Used by the pacing and the emulated readings only, never by the balancer."""
    memory: int
    """Bytes."""
    noise: float = 0.0
    """Relative standard deviation of its compute seconds between steps."""
    outliers: float = 0.0
    """Fraction of its steps that take 1.5 to 3 times as long, 0 to 1."""
    fixed: float = 0.0
    """Seconds that every micro-batch takes, however few its samples."""
    rate: float | None = None
    """Samples per second of any script; None: ``speed`` times a rate that the script's first steps fix."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A scripted fault of an emulated device."""

    at_step: int
    """First step of each case that it affects."""
    slowdown: float
    """Factor on the device's compute seconds, > 1; causes other than compute add as many seconds to their own part of the step."""
    until_step: int | None = None
    """First step that it no longer affects; None: it lasts to the end."""
    cause: FaultCause = "thermal"
    device: int = 0
    """Index of the device on its node."""

    def is_at_work(self, step: int) -> bool:
        """Whether the fault affects this step. Step -1, where profiles are measured, is affected by permanent faults only."""
        if step < 0:
            return self.at_step == 0 and self.until_step is None
        return self.at_step <= step and (self.until_step is None or step < self.until_step)


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """What a scheduler is asked for: one machine of a class, which it gives when it has one."""

    login: str
    """Name of the node through which the scheduler is reached."""
    device: str = ""
    """Name of its devices; empty: that of the class."""
    gpus: int = 1
    """Devices of the machine; 0: its processors."""
    memory: int | None = None
    """Bytes of each device; None: unknown."""
    partition: str = ""
    """Empty: the default of the cluster."""
    account: str = ""
    qos: str = ""
    time_limit: str = ""
    """As Slurm writes it, such as ``04:00:00``; empty: the default of the partition."""
    constraint: str = ""
    """Features that the machine must have."""
    gres: str = ""
    """Generic resources, such as ``gpu:a100:2``; empty: none."""
    cpus: int = 0
    """Processors for the machine's task; 0: the default of the cluster."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """How a cluster of Kubernetes is reached, and what its pods are made from."""

    context: str | None = None
    """Of the kubeconfig; None: its current one."""
    kubeconfig: str | None = None
    """Path at the centre; None: KUBECONFIG, ~/.kube/config, or the token of the pod that the centre runs in."""
    namespace: str = "paceline"
    claim: str = "paceline"
    """Of a volume that pods of several machines may write."""
    image: str = "paceline:cpu"
    storage: str = "20Gi"
    """Size of the claim where ``setup`` makes it."""
    runtime: str = "torch-distributed"
    """ClusterTrainingRuntime of a TrainJob."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine of nodes.toml, with the defaults applied."""

    name: str
    kind: NodeKind = "ssh"
    host: str | None = None
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    host_key: str | None = None
    """Pinned fingerprint, ``SHA256:...``."""
    python: str | None = None
    """Interpreter on the node; None: ``python3``, or the interpreter of this process on an embedded node."""
    state_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    """Places of the node by name: ``{data}`` in the arguments of a script stands for the path called ``data``."""
    address: str | None = None
    """Host or IP at which peers reach this node for training traffic."""
    interface: str | None = None
    devices: tuple[DeviceSpec, ...] = ()
    faults: tuple[FaultSpec, ...] = ()
    image: str | None = None
    """Container image that runs jobs there, in docker, podman or apptainer; None: they run in ``python``."""
    cluster: ClusterSpec | None = None
    """Of a node of kind ``kubernetes``."""
    read_only: bool = False
    hours: str = ""
    """Hours of its own clock in which it takes part in runs with ``--min-devices``, such as ``20:00-07:00``; empty: always."""
    tags: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    """Keys taken from [defaults]; ~/.ssh/config takes precedence over them."""
    slot: SlotSpec | None = None
    """What a scheduler is asked for in its place; None: it is a machine that is reached itself."""
    partitions: tuple[str, ...] = ()
    """Of a login node: the partitions that it shows; (): all."""

    @property
    def is_emulated(self) -> bool:
        """Whether its devices are declared instead of detected."""
        return bool(self.devices)


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """The emulated network between the nodes of an embedded lab, for collectives and for pairs of ranks alike."""

    latency: float
    """Seconds of one hop."""
    bandwidth: float
    """Bytes per second of one link."""
    jitter: float = 0.0
    """Relative standard deviation of the time of a message."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All machines of one nodes.toml."""

    path: str
    nodes: tuple[NodeSpec, ...]
    link: LinkSpec | None = None
    """Emulated network of the embedded nodes; None: the loopback of this machine."""

    @property
    def lab(self) -> str:
        """Name of the directory that holds the file, used as the name of the lab."""
        parts = self.path.rstrip("/").split("/")
        return parts[-2] if len(parts) > 1 else "lab"


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One trial of a search: a script with arguments of its own, alone on one device."""

    number: int
    args: tuple[str, ...]
    work: float = 1.0
    """Expected seconds in comparison with the other trials."""
    place: str = ""
    """The only node that runs it; empty: any device may take it."""
    is_group: bool = False
    """Whether all devices run it together, as one group."""
    memory: int | None = None
    """Bytes that its process may take; None: no limit is imposed."""
    time_limit: float | None = None
    """Seconds after which its process is ended; None: never."""
    after: int | None = None
    """Number of a smaller trial at the same place without which it is left out: what does not fit once does not fit larger."""


@dataclass(frozen=True, slots=True)
class ScriptSpec:
    """A training program of a person's own: a file, or a module as after ``python -m``."""

    path: str
    """Of the file at the centre, or the name of the module."""
    args: tuple[str, ...] = ()
    """Its own arguments; ``{name}`` in them stands for a path of the node, see ``NodeSpec.paths``."""
    is_module: bool = False
    workdir: str | None = None
    """Directory at the centre that travels with it; None: its git checkout, else its own directory."""
    is_strict: bool = False
    """Whether a script that cannot be balanced is refused instead of run as it is."""
    digest: str = ""
    """Of the file and the arguments; empty until the project is packed. Then ``path`` and ``workdir`` are below the project."""
    data: tuple[str, ...] = ()
    """Data that are brought to its nodes beside those it asks for by name: names of data sets, and folders at the centre as ``DIR``
    or ``NAME=DIR``."""
    project: str = ""
    """Digest of its packed project; empty until it is packed."""
    origin: str = ""
    """Directory at the centre in which it was asked for,"""
    asked_path: str = ""
    """and its path and"""
    asked_workdir: str | None = None
    """working directory as they were asked for: a run that goes on reads the script again."""
    may_change: bool = False
    """Whether a run may go on from a checkpoint of another version of it."""
    carried: str = ""
    """Directory at the centre with what an earlier run of it wrote: the new run finds these files beside its own."""
    is_packaged: bool = False
    """Whether ``path`` is the name of a script that comes with Paceline instead of a file."""
    workload: str = ""
    """Name in lists and results instead of that of the file."""
    trials: tuple[TrialSpec, ...] = ()
    """Trials of a search, which the devices share out among themselves; empty: one training on all devices."""
    rate: float | None = None
    """Samples per second of an emulated device of speed 1; None: the first unpaced steps fix it."""

    @property
    def name(self) -> str:
        """Its name in lists and results: that of the file or the module."""
        return self.workload or (self.path if self.is_module else self.path.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class ResumeSpec:
    """The checkpoint that a run goes on from. Every node of the run holds it under ``data/<digest>``."""

    run_id: str
    """The run that wrote it; empty for a file that a person named."""
    epoch: int
    """Of the next step, from 0."""
    step: int
    """Steps taken before."""
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One job: a workload or a script, trained once for each policy in one launch."""

    workload: str = "digits-cnn"
    policies: tuple[Policy, ...] = ("hybrid",)
    """One case each, in this order."""
    epochs: int | None = None
    """None: the default of the workload."""
    global_batch_size: int | None = None
    """None: the default of the workload."""
    seed: int = 0
    csv: str | None = None
    """Path of a file at the centre that replaces the workload's data source."""
    column: str | None = None
    """Its column of prices; None: Close."""
    date_column: str | None = None
    """Its column of dates; None: Date."""
    repeats: int = 1
    """Rounds of all policies, one round after another, so that changes on a machine affect every policy alike."""
    is_bench: bool = False
    """Whether standalone rates are measured after each case."""
    devices: str = "all"
    """``all``, ``auto`` (the recommended ones) or a set of nodes."""
    accumulation: int = 1
    """Global batches per optimizer step; gradients are exchanged once for all of them."""
    compression: Compression = "none"
    local_steps: int = 1
    """Optimizer steps between two averages of the weights (local SGD); 1: gradients are summed in every step."""
    is_norm_synchronized: bool = False
    """Whether batch normalisation sums its statistics over all ranks; CUDA devices only."""
    precision: Precision | None = None
    """Number format of matrix products; None: the workload's, where all devices have hardware for it."""
    is_shared: bool = False
    """Whether devices that other processes use may be used too."""
    checkpoint_every: str = "60 s"
    """Interval of checkpoints within an epoch: ``60 s``, ``200 steps``, or ``never`` for none at all."""
    resume: ResumeSpec | None = None
    """The checkpoint to go on from; None: from the beginning."""
    min_devices: int | None = None
    """Devices with which the run goes on when it loses others; None: it ends with the first one that it loses."""
    spare: str = ""
    """Nodes, such as ``lab[1-2]``, that rest until other devices of the run are missing; empty: none."""
    name: str = ""
    """Name that a person gives the run; empty: none."""
    script: ScriptSpec | None = None
    """A program of a person's own; None: the workload. ``workload`` is then the name of the script."""
