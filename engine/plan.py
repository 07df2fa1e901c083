"""Decided: which ranks run where, on what data, in which cases; frozen before anything starts.

Runs on both sides and imports the standard library only. Every node gets the same plan and finds itself in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .specs import FaultSpec, LinkSpec


@dataclass(frozen=True, slots=True)
class Emulation:
    """How a CPU process plays a device. Read by ``training.emulation`` alone."""

    speed: float
    faults: tuple[FaultSpec, ...] = ()
    noise: float = 0.0
    """Relative standard deviation of its compute seconds from step to step."""
    outliers: float = 0.0
    """Share of its steps that take 1.5 to 3 times as long, 0 to 1."""
    seed: int = 0
    """Of that noise."""


@dataclass(frozen=True, slots=True)
class RankPlan:
    """One process of the run and the device it owns. The index of its tuple is its rank."""

    rank: int
    node: str
    node_rank: int
    local_rank: int
    device_index: int
    device_kind: str
    """``cuda``, ``cpu`` or ``emulated``."""
    device_name: str
    memory: int | None = None
    """Bytes of the device, None: unknown."""
    emulation: Emulation | None = None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One machine of the run. Its environment is not here: it may hold secrets, and a plan is kept and copied."""

    name: str
    node_rank: int
    ranks: tuple[int, ...]
    address: str
    """IP by which its peers reach it."""
    interface: str
    """Network interface that carries the training traffic, for gloo and NCCL."""
    python: str


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One of the ordered cases that a launch executes."""

    name: str
    policy: str
    repeat: int = 0
    """How many cases of the same policy come before it. Added to the seed: each round of a benchmark has one of its own."""
    predicted_samples_per_second: float | None = None
    """By the advisor, before anything ran; None: there was no profile."""


@dataclass(frozen=True, slots=True)
class DataPlan:
    """The prepared data that every node of the run already holds under ``data/<digest>``."""

    digest: str
    source: str
    rows: int
    sha256: str
    baseline_mse: float | None = None
    """Validation loss of the forecast that repeats the last value, where the data are a series."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All a run needs to know, the same bytes on every node."""

    run_id: str
    workload: str
    cases: tuple[CasePlan, ...]
    nodes: tuple[NodePlan, ...]
    ranks: tuple[RankPlan, ...]
    data: DataPlan
    epochs: int
    global_batch_size: int
    seed: int = 0
    backend: str = "gloo"
    is_bench: bool = False
    link: LinkSpec | None = None
    """The network that is played between the ranks; None: the real one."""
    compression: str = "none"
    """Of gradients on their way: one of specs.COMPRESSIONS."""
    local_steps: int = 1
    """Optimizer steps between two averages of the weights; 1: gradients are summed in every step."""
    is_shared: bool = False
    """Whether its devices may be used by others at the same time: then no lock is taken."""
    timeout: float = 60.0
    """Seconds after which a collective that does not end counts as failed."""
    program: str = "training"
    """What runs once a device: ``training`` or ``profiling``."""

    @property
    def is_emulated(self) -> bool:
        """Whether any device of the run is emulated: results then say so."""
        return any(rank.emulation is not None for rank in self.ranks)

    @property
    def is_network_emulated(self) -> bool:
        """Whether a network is played between its ranks: with one rank there is none."""
        return self.link is not None and len(self.ranks) > 1

    def node_of(self, rank: int) -> NodePlan:
        """The machine a rank runs on."""
        return self.nodes[self.ranks[rank].node_rank]
