"""The verb ``fit``: how large a data set each node holds alone, and all together, in children with a limit on memory and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ...events import Event
from ...experiments.fit import (
    CLUSTER,
    MULTIPLIERS,
    check_limits,
    fit_cases,
    fit_document,
    rows_of_fit,
    settled_trials,
)
from ...experiments.journal import Journal
from ...inventory.nodeset import parse_device_set
from ...reports.document_type import Document
from ...specs import TrainSpec, TrialSpec
from ..scripts.packaged import packaged_script
from .trial_runs import TrialExperiment

SCRIPT = "fit_rows"
DATA_SETS = ("synthetic-series", "sp500")
"""Data sets whose rows can be multiplied."""
ROW_BYTES = 4 * 61
"""Of a window of 60 prices and the next one."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What a person asked for."""

    dataset: str = "synthetic-series"
    multipliers: tuple[int, ...] = MULTIPLIERS
    rows: int = 16_000
    """Rows of the multiple 1, by noisy copies of the training part."""
    memory: int = 600_000_000
    """Bytes that a process may take."""
    time_limit: float = 300.0
    """Seconds that a trial may take."""
    repeats: int = 1
    is_streamed: bool = False
    """Whether the nodes stream their rows from shards too, instead of holding all in memory."""
    devices: str = "all"
    seed: int = 0
    is_shared: bool = False


class Fit(TrialExperiment[FitRequest]):
    """One such experiment on the machines of a session."""

    kind = "fit"

    async def _plan(self, request: FitRequest) -> Document:
        nodes = [node for node in self._session.inventory.nodes if not node.read_only]
        names = [node.name for node in nodes]
        if request.devices != "all":
            chosen = {name for group, _ in parse_device_set(request.devices) for name in group}
            if unknown := sorted(chosen - set(names)):
                raise UsageError(f"there is no node {unknown[0]}", hint=f"known: {', '.join(names)}")
            names = [name for name in names if name in chosen]
        return plan_of(request, names, is_emulated=any(node.devices for node in nodes if node.name in names))

    def _left(self, journal: Journal, devices: str) -> list[int]:
        for number, row in settled_trials(journal.plan["trials"], journal.rows).items():
            journal.note_row(number, row)
        left = super()._left(journal, devices)
        if devices == journal.plan["devices"]:
            return left
        here = {CLUSTER, *(name for group, _ in parse_device_set(devices) for name in group)}  # a lost node has no other place
        return [number for number in left if journal.plan["trials"][number]["place"] in here]

    def _job(self, journal: Journal, left: Sequence[int], devices: str) -> TrainSpec:
        return job_of(journal.plan, left, devices)

    def _rows(self, events: Sequence[Event], places: Mapping[int, str], journal: Journal) -> dict[int, Document]:
        return rows_of_fit(events, journal.plan["trials"], len(places))

    def _document(self, journal: Journal) -> Document:
        return fit_document(journal.name, journal.plan, journal.rows)


def plan_of(request: FitRequest, nodes: Sequence[str], is_emulated: bool = False) -> Document:
    """The plan: the same request gives the same trials. ``nodes``: those that are tried, each alone and all together."""
    check_limits(request.memory, request.time_limit)
    if request.dataset not in DATA_SETS:
        raise UsageError(f"fit multiplies rows of series, not of {request.dataset}", hint=f"one of {', '.join(DATA_SETS)}")
    if CLUSTER in nodes:
        raise UsageError(f"a node is called {CLUSTER!r}, as the row of all nodes", hint="give it another name in nodes.toml")
    places = [*nodes, *([CLUSTER] if len(nodes) > 1 else [])]
    return {
        "data": request.dataset,
        "places": places,
        "multipliers": list(request.multipliers),
        "rows": request.rows,
        "row_bytes": ROW_BYTES,
        "memory": request.memory,
        "time_limit": request.time_limit,
        "repeats": request.repeats,
        "is_streamed": request.is_streamed,
        "devices": request.devices,
        "seed": request.seed,
        "is_shared": request.is_shared,
        "is_emulated": is_emulated,
        "trials": fit_cases(places, request.multipliers, request.repeats),
    }


def job_of(plan: Document, left: Sequence[int], devices: str) -> TrainSpec:
    """The trials that are left as one run; each node takes its own, then all those of the group."""
    trials = tuple(_trial(plan, number, set(left)) for number in left)
    script = packaged_script(SCRIPT, trials[0].args, workload=f"fit-{plan['data']}", data=(plan["data"],), trials=trials)
    return TrainSpec(workload=script.name, script=script, devices=devices, is_shared=plan["is_shared"], checkpoint_every="never")


def _trial(plan: Document, number: int, left: set[int]) -> TrialSpec:
    case = plan["trials"][number]
    is_group = case["place"] == CLUSTER
    words = {"dataset": plan["data"], "rows": plan["rows"], "multiply": case["multiplier"], "seed": plan["seed"]}
    args = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    if is_group or plan["is_streamed"]:
        args.append("--streamed")
    return TrialSpec(
        number,
        tuple(args),
        place="" if is_group else case["place"],
        is_group=is_group,
        memory=plan["memory"],
        time_limit=plan["time_limit"],
        after=case["after"] if case["after"] in left else None,
    )
