"""Asked: what a person wants, as frozen values: machines, devices, jobs.

Runs on both sides and imports the standard library only. Nothing here was measured or decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field

POLICIES = ("equal", "proportional", "dynamic", "hybrid")
"""Rules that share a global batch between ranks, simplest first."""
COMPRESSIONS = ("none", "bf16", "fp16", "powersgd")
"""What may become of gradients on their way: half as many bytes, or matrices of low rank (PowerSGD)."""
FAULT_CAUSES = ("thermal", "compute", "backward", "data", "host-to-device", "host", "network")
"""What a scripted fault may be: a device that clocks down from heat, or is slow for no reason that readings tell; slow in backward
only; a slow loader, copy to the device or host thread; gradients that leave the node late."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One declared device of an embedded node. Real devices are found, not declared."""

    name: str
    speed: float
    """Relative to the other devices. Reaches the pacing and the emulated readings only, never the balancer."""
    memory: int
    """Bytes."""
    noise: float = 0.0
    """Relative standard deviation of its compute seconds from step to step."""
    outliers: float = 0.0
    """Share of its steps that take 1.5 to 3 times as long, 0 to 1."""


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """Trouble that an emulated device plays by script."""

    at_step: int
    """First step of each case on which it acts."""
    slowdown: float
    """Factor on the device's compute seconds, > 1; causes beside compute add as many seconds where they act."""
    until_step: int | None = None
    """First step on which it no longer acts; None: to the end."""
    cause: str = "thermal"
    """One of FAULT_CAUSES."""
    device: int = 0
    """Index of the device on its node."""

    def is_at_work(self, step: int) -> bool:
        """Whether it acts on this step; before the first (-1), where profiles are measured: whether it is always there."""
        if step < 0:
            return self.at_step == 0 and self.until_step is None
        return self.at_step <= step and (self.until_step is None or step < self.until_step)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine of nodes.toml, defaults already applied."""

    name: str
    kind: str = "ssh"
    """``ssh`` or ``embedded``."""
    host: str | None = None
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    host_key: str | None = None
    """Pinned fingerprint, ``SHA256:...``."""
    python: str | None = None
    """Interpreter on the node; None: ``python3`` there, or ours on an embedded node."""
    state_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    address: str | None = None
    """Where peers reach this node for training traffic."""
    interface: str | None = None
    devices: tuple[DeviceSpec, ...] = ()
    faults: tuple[FaultSpec, ...] = ()
    read_only: bool = False
    tags: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()
    """Keys that came from [defaults]: there ~/.ssh/config wins."""

    @property
    def is_emulated(self) -> bool:
        """Whether its devices are declared instead of found."""
        return bool(self.devices)


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """The network that an embedded lab plays between its nodes: every ring of ranks, every pair."""

    latency: float
    """Seconds of one hop."""
    bandwidth: float
    """Bytes per second of one link."""
    jitter: float = 0.0
    """Relative standard deviation of what a message takes."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All machines one nodes.toml names."""

    path: str
    nodes: tuple[NodeSpec, ...]
    link: LinkSpec | None = None
    """Of embedded nodes; None: as fast as this machine."""

    @property
    def lab(self) -> str:
        """Directory name of the file: what a person calls this lab."""
        parts = self.path.rstrip("/").split("/")
        return parts[-2] if len(parts) > 1 else "lab"


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One job: a workload, trained once for each policy in one launch."""

    workload: str = "digits-cnn"
    policies: tuple[str, ...] = ("hybrid",)
    """One case each, in this order."""
    epochs: int | None = None
    """None: the workload's own default; so too below."""
    global_batch_size: int | None = None
    seed: int = 0
    csv: str | None = None
    """A file of the centre that replaces the workload's own source."""
    repeats: int = 1
    """Rounds: as many cases of each policy, one round after another, so that what changes on a machine meets all policies alike."""
    is_bench: bool = False
    """Whether standalone rates are measured after each case."""
    devices: str = "all"
    """``all``, ``auto`` (those that are recommended) or a set of nodes."""
    accumulation: int = 1
    """Global batches that one optimizer step takes, so that gradients travel once for all of them."""
    compression: str = "none"
    """Of gradients on their way: one of COMPRESSIONS."""
    local_steps: int = 1
    """Optimizer steps between two averages of the weights (local SGD); 1: gradients are summed in every step."""
    is_shared: bool = False
    """Whether devices that others use are used all the same."""
