"""What one rank spent a step on: its own work up to its last gradient, split into parts, and the wait and optimizer after it.

Two quantities, two names. ``compute_seconds``: all of a rank's own work, from taking the batch to the last gradient, with loading,
copy and stalls of the host. ``model_seconds``: of that, forward and backward only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepWork:
    """One rank's own work in one step, in seconds. The parts never exceed the whole; the remainder is ``model_seconds``."""

    seconds: float
    """The compute seconds: from taking the batch to the last gradient, without the wait for other ranks."""
    samples: int
    """Local batch size that the seconds are for."""
    data_seconds: float = 0.0
    """Until the batch lies in the host's memory."""
    copy_seconds: float = 0.0
    """Until it lies in the device's memory."""
    host_seconds: float = 0.0
    """In which the host's thread was ready to run and did not run."""
    wait_seconds: float = 0.0
    """From the last gradient until the gradients of all ranks arrived: of the newest step for which it is known."""

    @property
    def model_seconds(self) -> float:
        """Forward and backward only."""
        return self.seconds - self.data_seconds - self.copy_seconds - self.host_seconds


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One measured step of this rank, in seconds."""

    step: int
    samples: int
    compute_seconds: float
    """All own work up to the last gradient: taking and copying the batch, stalls of the host, forward and backward."""
    wait_seconds: float
    data_seconds: float = 0.0
    copy_seconds: float = 0.0
    host_seconds: float = 0.0
    backward_seconds: float = 0.0
    """Part of ``compute_seconds``: from the end of forward to the last gradient."""
    optimizer_seconds: float = 0.0
    """After the wait; on a GPU until the next step takes its batch."""
