"""Submit the objects of a run, and remove them: names come from the run id, so what is sent twice is there once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from ...errors import NodeRefused, NodeUnreachable, PacelineError
from ...kubernetes.names import RUN_LABEL, label_value
from ...kubernetes.pod_template import Object
from .client import ClusterApi
from .paths import RUN_KINDS, place

KEPT_KINDS = ("Namespace", "PersistentVolumeClaim")
"""Kinds that a run uses as they are: an administrator may have made them, larger or of another class."""
GONE_TIMEOUT_S = 120.0
"""Seconds for the pods of a run to end: their runners have a minute."""


def submit(api: ClusterApi, objects: Sequence[Object]) -> None:
    """Make all objects, the job last. Where one is refused, those of the run that were made are removed. Raises its refusal."""
    try:
        for one in objects:
            if one["kind"] not in KEPT_KINDS or not _is_there(api, one):
                api.create(one)
    except NodeUnreachable:
        raise  # what arrived is not known: the same objects are sent again, or cancelled
    except PacelineError:
        run_id = objects[-1]["metadata"]["labels"][RUN_LABEL]
        with contextlib.suppress(PacelineError):
            remove(api, run_id)
        raise


def _is_there(api: ClusterApi, one: Object) -> bool:
    """Whether an object that outlives runs is there, as whoever made it wanted it; True without a right to look."""
    try:
        return api.get(place(one)) is not None
    except NodeRefused:
        return True


def remove(api: ClusterApi, run_id: str, pause: Callable[[float], None] = time.sleep, timeout: float = GONE_TIMEOUT_S) -> list[str]:
    """Remove every object of a run, and wait until its pods have ended; returns those that stay after ``timeout`` seconds."""
    selector = f"{RUN_LABEL}={label_value(run_id)}"
    waited = 0.0
    while True:
        left = []
        for kind in RUN_KINDS:
            for one in api.list_objects(kind, selector)[0]:
                left.append(f"{kind} {one['metadata']['name']}")
                if not one["metadata"].get("deletionTimestamp"):
                    api.delete(kind, one["metadata"]["name"])
        if not left or waited >= timeout:
            return left
        pause(0.5)
        waited += 0.5
