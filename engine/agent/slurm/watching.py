"""Readings of a login node: its own as a machine, and its cluster's classes of GPUs and queue. Only looks, and seldom."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

from ...errors import PacelineError
from ...events import DeviceReading, NodeReported, QueueShare
from ...slurm.cluster_view import KIND, class_readings, queue_shares
from ..telemetry.sampler import Sampler
from .commands import Slurm

LOOK_S = 10.0
"""Seconds between two looks at the cluster: sinfo and squeue cost the controller of a busy cluster a second."""
LOOK_COST = 20.0
"""And at least so many times as long as the last look took."""


class ClusterSampler:
    """Reads as a Sampler does; the devices are those of the cluster."""

    def __init__(self, sampler: Sampler, slurm: Slurm, partitions: Sequence[str]) -> None:
        """``partitions``: those that are shown; (): all."""
        self._sampler, self._slurm, self._partitions = sampler, slurm, tuple(partitions)
        self._devices: tuple[DeviceReading, ...] = ()
        self._queue: tuple[QueueShare, ...] = ()
        self._next_look = 0.0
        self._looking = threading.Lock()

    def read(self) -> NodeReported:
        """Take a reading of this machine, with the cluster as of the last look. The first one waits for a look."""
        if not self._devices:
            self._look()
        elif time.monotonic() >= self._next_look and not self._looking.locked():
            threading.Thread(target=self._look, daemon=True, name="cluster").start()
        report = self._sampler.read()
        return dataclasses.replace(report, devices=self._devices, host=dataclasses.replace(report.host, queue=self._queue))

    def _look(self) -> None:
        with self._looking:
            began = time.monotonic()
            try:
                queue = self._slurm.queue()
                self._devices = class_readings(self._slurm.machines(), queue, self._partitions)
                self._queue = queue_shares(queue)
            except PacelineError as error:
                self._devices = (DeviceReading(index=0, name="cluster", kind=KIND, error=error.reason),)
            took = time.monotonic() - began
            self._next_look = time.monotonic() + max(LOOK_S, LOOK_COST * took)
