"""What stays the same from one launch to the next: the machines of a nodes.toml, their connections, and where output is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...plan import Plan
from ...profiles.script_rates import kept_rate
from ...reports.document_type import Document
from ...specs import Inventory, TrainSpec
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ...telemetry.live_state import LiveState
from ..detach_check import DetachCheck
from .profile_cache import ProfileCache


class RunsElsewhere(Protocol):
    """Runs a plan where no link of the fleet leads."""

    async def launch(self, spec: TrainSpec, plan: Plan, sources: Mapping[str, Path], samples: int) -> Document:
        """Launch, follow to the end, return the result. ``sources``: directory here of everything it needs, by digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSession:
    """One control process and its nodes."""

    inventory: Inventory
    fleet: Fleet
    live: LiveState
    detach_check: DetachCheck
    publish: Publish
    runs: Path
    """``logs/runs``: a directory per run."""
    clusters: Mapping[str, RunsElsewhere] = field(default_factory=dict)
    """What runs jobs on clusters of Kubernetes, by their nodes in nodes.toml."""
    patience: float
    """Seconds to wait for a silent node while a run is followed."""

    @property
    def data_dir(self) -> Path:
        """``data`` beside nodes.toml: prepared data sets and profiles."""
        return Path(self.inventory.path).parent / "data"

    @property
    def checkpoints_dir(self) -> Path:
        """Checkpoints to resume from, each in a directory named by its SHA-256."""
        return self.data_dir / "checkpoints"

    @property
    def profiles_dir(self) -> Path:
        """Measured profiles, and the rates of scripts on emulated devices."""
        return self.data_dir / "profiles"

    def kept_rate(self, plan: Plan) -> float | None:
        """Samples per second of a plan's script on an emulated device of speed 1; None: unknown."""
        return None if plan.script is None else kept_rate(self.profiles_dir, plan.script.digest)

    def profile_cache(self, plan: Plan) -> ProfileCache:
        """The stored profiles, as seen by the devices of a plan."""
        return ProfileCache(self.profiles_dir, plan, self.live.state, self.live.facts, self.publish)
