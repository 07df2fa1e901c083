"""How the pods of a run find each other: each writes its place to the volume that all share, and reads those of the others.

A pod that cannot take part writes why, so that the others end at once. Who is who is proved later, by the certificates of the run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ...errors import NodeUnreachable, WorkFailed
from ...plan import Plan
from ...protocol.json_files import read_json, write_json
from ...wire import from_plain
from .pod_plan import Place

T = TypeVar("T")

POD_POLL_S = 0.2
"""Seconds between two looks at the volume."""


class Rendezvous:
    """The places of one run's pods, as files in ``<volume>/places/<run id>``."""

    def __init__(self, volume: Path, plan: Plan, node: str, patience: float) -> None:
        """``patience``: seconds to wait for pods that the cluster has not started yet. Raises StorageFailed in all methods."""
        self._volume, self._plan, self._node, self._patience = volume, plan, node, patience
        self._places = volume / "places" / plan.run_id
        self._places.mkdir(parents=True, exist_ok=True, mode=0o700)

    def arrive(self, place: Place) -> dict[str, Place]:
        """Write the own place, and wait for all others. Raises NodeUnreachable, or WorkFailed where one cannot take part."""
        write_json(self._places / f"{self._node}.json", dataclasses.asdict(place))
        return self._wait("have not started", self._place)

    def fail(self, reason: str) -> None:
        """Tell the others that this pod cannot take part."""
        write_json(self._places / f"{self._node}.json", {"failed": reason})

    def ports(self, places: dict[str, Place]) -> dict[str, list[Any]]:
        """Wait until all runners listen; return address and port of each. Raises as ``arrive``."""
        ports = self._wait("have not opened their door", self._port)
        return {node: [places[node].address, port] for node, port in ports.items()}

    def _place(self, node: str) -> Place | None:
        document = self._read(node)
        return None if document is None else from_plain(Place, document)

    def _port(self, node: str) -> int | None:
        self._read(node)
        start = read_json(self._volume / "nodes" / node / "runs" / self._plan.run_id / "start.json")
        return None if start is None else int(start["port"])

    def _read(self, node: str) -> dict[str, Any] | None:
        document = read_json(self._places / f"{node}.json")
        if document is not None and "failed" in document:
            raise WorkFailed(str(document["failed"]), node=node)
        return document

    def _wait(self, what: str, read: Callable[[str], T | None]) -> dict[str, T]:
        deadline = time.monotonic() + self._patience
        found: dict[str, T] = {}
        while missing := [node.name for node in self._plan.nodes if node.name not in found]:
            for node in missing:
                if (value := read(node)) is not None:
                    found[node] = value
            if len(found) == len(self._plan.nodes):
                break
            if time.monotonic() > deadline:
                late = ", ".join(node for node in missing if node not in found)
                raise NodeUnreachable(f"pods {late} {what} within {self._patience:.0f} s", hint="see kubectl describe pod")
            time.sleep(POD_POLL_S)
        return found
