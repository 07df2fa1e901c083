"""What one rank spent a step on: its own work up to its last gradient, in parts, and what came after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepWork:
    """One rank's own work in one step, in seconds. The parts are not more than the whole; what is left of it is compute."""

    seconds: float
    """From taking the batch to the last gradient, without the wait for others."""
    samples: int
    """That the seconds are for."""
    data_seconds: float = 0.0
    """Until the batch lay in the host's memory."""
    copy_seconds: float = 0.0
    """Until it lay in the device's."""
    host_seconds: float = 0.0
    """In which the host's thread was due to run and did not."""
    wait_seconds: float = 0.0
    """From the last gradient until all ranks' gradients were there: of the newest step of which it is known."""

    @property
    def model_seconds(self) -> float:
        """What the device itself took: forward and backward."""
        return self.seconds - self.data_seconds - self.copy_seconds - self.host_seconds


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step of this rank, in seconds."""

    step: int
    samples: int
    compute_seconds: float
    """All own work up to the last gradient: taking and copying the batch, stalls of the host, forward and backward."""
    wait_seconds: float
    data_seconds: float = 0.0
    copy_seconds: float = 0.0
    host_seconds: float = 0.0
    backward_seconds: float = 0.0
    """Part of the compute, up to the last gradient."""
    optimizer_seconds: float = 0.0
    """After the wait; on a GPU until the next step takes its batch."""
