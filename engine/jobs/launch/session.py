"""What stays the same from one launch to the next: the machines of a nodes.toml, their connections, and where output is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...plan import Plan
from ...profiles.script_rates import kept_rate
from ...specs import Inventory
from ...ssh.fleet import Fleet
from ...telemetry.bus import Publish
from ...telemetry.live_state import LiveState
from ..detach_check import DetachCheck
from .profile_cache import ProfileCache


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
