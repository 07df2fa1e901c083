"""Decided: which ranks run where, on which data, in which cases; frozen before anything starts.

Runs on both sides and imports the standard library only. Every node receives the same plan and looks up its own part.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .specs import FaultSpec, LinkSpec, ResumeSpec, TrialSpec
from .states import Backend, Compression, DeviceKind, Policy, Precision, Program


@dataclass(frozen=True, slots=True)
class Emulation:
    """How a CPU process emulates a device. Read by ``training.emulation`` and the emulated readings only."""

    speed: float
    faults: tuple[FaultSpec, ...] = ()
    noise: float = 0.0
    """Relative standard deviation of its compute seconds between steps."""
    outliers: float = 0.0
    """Fraction of its steps that take 1.5 to 3 times as long, 0 to 1."""
    seed: int = 0
    """Of the noise and the outliers."""
    fixed: float = 0.0
    """Seconds that every micro-batch takes, however few its samples."""
    rate: float | None = None
    """Samples per second of any script; None: ``speed`` times that of the script. Workloads have rates of their own."""


@dataclass(frozen=True, slots=True)
class RankPlan:
    """One process of the run and the device it owns. Its index in ``Plan.ranks`` is its rank."""

    rank: int
    node: str
    node_rank: int
    local_rank: int
    device_index: int
    device_kind: DeviceKind
    device_name: str
    memory: int | None = None
    """Bytes of the device; None: unknown."""
    emulation: Emulation | None = None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One machine of the run. Its environment is left out: it may hold secrets, and plans are stored and copied."""

    name: str
    node_rank: int
    ranks: tuple[int, ...]
    address: str
    """IP at which its peers reach it."""
    interface: str
    """Network interface that carries the training traffic, for gloo and NCCL."""
    python: str
    paths: dict[str, str] = field(default_factory=dict)
    """Places of the node by name, for the arguments of a script."""
    image: str = ""
    """Container image that its ranks run in; empty: none."""
    hours: str = ""
    """Hours in which it takes part in a run that outlives its devices, such as ``20:00-07:00``; empty: always."""
    is_spare: bool = False
    """Whether it rests until other devices are missing."""


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One of the ordered cases that a launch executes."""

    name: str
    policy: Policy
    repeat: int = 0
    """Number of earlier cases of the same policy. Added to the seed, so that each round of a benchmark has its own."""
    predicted_samples_per_second: float | None = None
    """By the advisor before the launch; None: there was no profile."""
    predicted_doubt: float | None = None
    """Predicted over measured, less one, is expected within plus and minus this; None: not stated."""
    predicted_doubt_reason: str = ""
    """Largest part of the doubt."""
    predicted_compute_seconds: float | None = None
    """Of the slowest rank in a full-size step,"""
    predicted_exposed_seconds: float | None = None
    """and the exchange that it does not hide."""


@dataclass(frozen=True, slots=True)
class ForecastErrors:
    """Errors of a forecast on one part of the data, in its scaled units."""

    mse: float
    """Mean squared error."""
    mae: float
    """Mean absolute error."""
    r2: float | None = None
    """Coefficient of determination: 1 minus the squared errors over those of the mean; None: the targets are all alike."""


@dataclass(frozen=True, slots=True)
class DataPlan:
    """The prepared data that every node of the run holds under ``data/<digest>``."""

    digest: str
    source: str
    rows: int
    sha256: str
    baseline_mse: float | None = None
    """Validation loss of the forecast that repeats the last value; None: the data are no time series."""
    baseline_validation: ForecastErrors | None = None
    """All its errors there,"""
    baseline_test: ForecastErrors | None = None
    """and on the test part."""
    warnings: tuple[str, ...] = ()
    """What is doubtful about the source, each a sentence with file and line."""
    training_rows: int | None = None
    """Samples of the training part; None: unknown. No global batch is larger."""
    name: str = ""
    """Name by which a script finds them below ``PACELINE_DATA``; empty: they are those of a workload, or a project."""


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """When a run writes checkpoints, beside those at the end of every epoch."""

    every_steps: int | None = None
    every_seconds: float | None = None
    keep: int = 3
    """Last ones that stay, beside the best."""


@dataclass(frozen=True, slots=True)
class RankSpeed:
    """Compute seconds of a rank's device as a line over its local batch size, from a kept profile."""

    fixed_seconds: float
    seconds_per_sample: float


@dataclass(frozen=True, slots=True)
class ScriptPlan:
    """The training program of a person: its project lies in ``data/<digest of the data plan>`` on every node of the run."""

    target: str
    """Path of the file below the project, or the name of the module."""
    args: tuple[str, ...]
    """Its arguments; ``{name}`` stands for a path of the node, see ``NodePlan.paths``."""
    digest: str
    """Of the file and the arguments: runs of one digest compare."""
    is_module: bool = False
    workdir: str = "."
    """Working directory below the project."""
    is_strict: bool = False
    """Whether the run fails where its batches cannot be balanced, instead of running as it is."""
    rate: float | None = None
    """Samples per second of an emulated device of speed 1; None: the first unpaced steps fix it."""
    data: tuple[DataPlan, ...] = ()
    """Data sets and folders that stand under their names below ``PACELINE_DATA``."""
    carried: DataPlan | None = None
    """What an earlier run of it wrote, copied beside its files; None: nothing."""
    profile: tuple[RankSpeed, ...] = ()
    """Of all ranks, from which ``hybrid`` and ``proportional`` start; empty: nothing is known, they start with equal shares."""
    batch: int | None = None
    """Global batch of the library's training loaders instead of their own, where a device is measured alone at its share."""
    max_steps: int | None = None
    """Steps after which it is stopped and its files are removed: it is only measured; None: it runs to its end."""
    parameters: int | None = None
    """Trainable parameters of its model, where it comes with Paceline; None: unknown."""
    trials: tuple[TrialSpec, ...] = ()
    """Trials of a search: each device takes one after another; empty: one training on all devices."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run needs to know, the same bytes on every node."""

    run_id: str
    workload: str
    cases: tuple[CasePlan, ...]
    nodes: tuple[NodePlan, ...]
    ranks: tuple[RankPlan, ...]
    data: DataPlan
    epochs: int
    global_batch_size: int
    seed: int = 0
    backend: Backend = "gloo"
    is_bench: bool = False
    link: LinkSpec | None = None
    """The emulated network between the ranks; None: the real one."""
    compression: Compression = "none"
    local_steps: int = 1
    """Optimizer steps between two averages of the weights; 1: gradients are summed in every step."""
    is_norm_synchronized: bool = False
    """Whether batch normalisation sums its statistics over all ranks; CUDA devices only."""
    precision: Precision | None = None
    """Number format of matrix products; None: the workload's, where all devices have hardware for it."""
    is_shared: bool = False
    """Whether other processes may use its devices at the same time; the run then takes no device locks."""
    timeout: float = 60.0
    """Seconds after which an unfinished collective counts as failed."""
    program: Program = "training"
    """What is started once per device."""
    requested_batch_size: int | None = None
    """The global batch that was asked for, where the data has fewer samples; None: ``global_batch_size`` is as asked."""
    checkpoints: CheckpointPlan | None = None
    """None: no checkpoint is written."""
    resume: ResumeSpec | None = None
    """The checkpoint to go on from; None: from the beginning."""
    name: str = ""
    """Name that a person gave the run; empty: none."""
    min_devices: int | None = None
    """Devices with which the run goes on when it loses others; None: it ends with the first one that it loses."""
    script: ScriptPlan | None = None
    """Of the program ``script``. Its epochs and its global batch are its own: 0 here means unknown until it runs."""

    @property
    def parameters(self) -> int | None:
        """Trainable parameters that its script was found to have; None: it is no script, or they are unknown."""
        return None if self.script is None else self.script.parameters

    @property
    def is_emulated(self) -> bool:
        """Whether any device of the run is emulated. Results are labelled accordingly."""
        return any(rank.emulation is not None for rank in self.ranks)

    @property
    def is_network_emulated(self) -> bool:
        """Whether the network between its ranks is emulated. A single rank has no network."""
        return self.link is not None and len(self.ranks) > 1

    @property
    def trained_data(self) -> DataPlan:
        """The data that it trains on: of a script its first data set, else its first folder, else its project."""
        named = self.script.data if self.script is not None else ()
        return next((data for data in named if data.training_rows is not None), named[0] if named else self.data)

    def node_of(self, rank: int) -> NodePlan:
        """The machine that a rank runs on."""
        return self.nodes[self.ranks[rank].node_rank]
