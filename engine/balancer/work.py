"""What one rank tells about one step: its own work up to its last gradient, split by what it was spent on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
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
    def compute_seconds(self) -> float:
        """What the device itself took: forward and backward."""
        return self.seconds - self.data_seconds - self.copy_seconds - self.host_seconds
