"""What trackers take of results: a run for every case with epochs, and for every trial of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ...reports.document_type import document_type
from ..result_file import ResultFile
from .tensorboard import cases_of

EXPERIMENT = "paceline"
Scalar = tuple[str, int, float]
_PARAMS = ("workload", "policy", "seed", "global_batch_size", "epochs", "emulated", "emulated_network", "precision", "compression")
"""Fields of a result that are parameters of a tracker's run."""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """One run as a tracker takes it."""

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    scalars: list[Scalar]
    """Name, step and value."""


def tracked_runs(sources: Sequence[ResultFile]) -> list[TrackedRun]:
    """Every case with epochs, and every trial of a search. Raises UsageError where there is none."""
    runs = [run for one in sources for run in (*_cases(one), *_trials(one))]
    if not runs:
        raise UsageError("no result here has epochs or trials", hint="trackers show trainings, benchmarks and searches")
    return runs


def _cases(one: ResultFile) -> Iterator[TrackedRun]:
    for name, scalars in cases_of(one):
        policy = name.rpartition("/")[2] if document_type(one.document) == "bench" else one.document.get("policy")
        params = {key: str(one.document[key]) for key in _PARAMS if isinstance(one.document.get(key), str | int | float)}
        params |= {"policy": str(policy)} if policy else {}
        params["devices"] = ", ".join(str(device.get("name")) for device in one.document.get("devices") or ())
        yield TrackedRun(name, params, _tags(one), scalars)


def _trials(one: ResultFile) -> Iterator[TrackedRun]:
    if document_type(one.document) != "search":
        return
    for trial in one.document["trials"]:
        scalars = [(str(one.document["metric"]), 0, float(trial["value"]))] if trial["value"] is not None else []
        scalars += [("seconds", 0, float(trial["seconds"]))] if trial["seconds"] is not None else []
        params = {name: str(value) for name, value in trial["params"].items()} | {"device": str(trial["device"])}
        yield TrackedRun(f"{one.name}/trial-{trial['trial']}", params, _tags(one) | {"state": str(trial["state"])}, scalars)


def _tags(one: ResultFile) -> dict[str, str]:
    return {"paceline.source": one.path, "paceline.kind": str(document_type(one.document)), "paceline.result": one.name}
