"""The verb ``search``: trials of hyperparameters, each on one device, all devices at once, with a journal of what came of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import UsageError
from ...events import Event, TrialEnded, TrialStarted, Warned
from ...experiments.journal import Journal
from ...experiments.search import REFERENCE_GRID, Value, drawn, grid, parse_space, search_document
from ...reports.document_type import Document
from ...specs import ScriptSpec, TrainSpec, TrialSpec
from ...workloads.options import TRAINING_OPTIONS
from ...workloads.pairs import choose
from ..scripts.packaged import packaged_script
from .trial_runs import TrialExperiment

SERIES_RATE = 136.0
"""Samples per second of an emulated device of speed 1 for models of series: a trial of the reference grid takes some twelve seconds
on the fastest device of the embedded lab."""
METRICS = {"series": ("mse", False), "images": ("accuracy", True), "text": ("accuracy", True), "language": ("loss", False)}
"""What a kind of model is judged by, and whether more of it is better."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a person asked for."""

    model: str = "mlp"
    dataset: str = "synthetic-series"
    script: ScriptSpec | None = None
    """A script of a person's own instead of a model; ``{lr}`` in its arguments stands for the parameter ``lr``."""
    grid: tuple[str, ...] = ()
    """``lr=0.1,0.01`` for each parameter; empty: the reference grid."""
    random: int | None = None
    """How many combinations of the grid are drawn; None: all of them."""
    metric: str | None = None
    is_more_better: bool | None = None
    epochs: int | None = None
    devices: str = "all"
    seed: int = 0
    is_shared: bool = False


class Search(TrialExperiment[SearchRequest]):
    """One search on the machines of a session."""

    kind = "search"

    async def _plan(self, request: SearchRequest) -> Document:
        inventory = self._session.inventory
        return plan_of(request, any(node.devices for node in inventory.nodes), inventory.link is not None)

    def _document(self, journal: Journal) -> Document:
        return search_document(journal.name, journal.plan, journal.rows)

    async def _run(self, journal: Journal) -> None:
        if journal.plan["data"] == "synthetic-series":
            self._session.publish(Warned(reason="the series are generated: no prices were given (--dataset sp500 takes real ones)"))
        await super()._run(journal)

    def _job(self, plan: Document, left: Sequence[int], devices: str) -> TrainSpec:
        return job_of(plan, left, devices)

    def _rows(self, events: Sequence[Event], places: Mapping[int, str], journal: Journal) -> dict[int, Document]:
        before = max((row["wall_seconds"] for row in journal.rows.values()), default=0.0)  # launches add up
        return rows_of_run(events, places, journal.plan, before)


def job_of(plan: Document, left: Sequence[int], devices: str) -> TrainSpec:
    """The trials that are left as one run; each device takes one after another."""
    trials = tuple(TrialSpec(number, tuple(plan["trials"][number]["args"])) for number in left)
    if plan["script"] is None:
        script = packaged_script(plan["model"], trials[0].args, workload=plan["workload"])
    else:
        script = replace(_script_of(plan["script"]), args=trials[0].args)
    script = replace(script, trials=trials, rate=plan["rate"])
    return TrainSpec(workload=script.name, script=script, devices=devices, is_shared=plan["is_shared"], checkpoint_every="never")


def plan_of(request: SearchRequest, is_emulated: bool = False, is_network_emulated: bool = False) -> Document:
    """The plan of a search: the same request gives the same trials in the same order. Raises UsageError."""
    space = parse_space(request.grid) if request.grid else dict(REFERENCE_GRID)
    combinations = grid(space) if request.random is None else drawn(space, request.random, request.seed)
    shared = {"seed": request.seed} | ({} if request.epochs is None else {"epochs": request.epochs})
    plan: Document = {
        "is_emulated": is_emulated,
        "is_network_emulated": is_network_emulated,
        "devices": request.devices,
        "seed": request.seed,
        "is_shared": request.is_shared,
        "space": {name: list(values) for name, values in space.items()},
    }
    if request.script is None:
        pair = choose(request.model, request.dataset)
        metric, is_more_better = METRICS.get(pair.model.kind, ("loss", False))
        known = dict.fromkeys(("batch", "epochs", *pair.model.sizes, *(option.name for option in TRAINING_OPTIONS)))
        if unknown := [name for name in space if name not in known]:
            raise UsageError(f"{pair.model.name} has no option {unknown[0]}", hint=f"it has {', '.join(known)}")
        args = [list(choose(request.model, request.dataset, {**shared, **params}).arguments) for params in combinations]
        plan |= {"script": None, "model": pair.model.name, "workload": pair.name, "data": pair.dataset.name}
        plan |= {"rate": SERIES_RATE if pair.model.kind == "series" else None}
    else:
        if request.metric is None:
            raise UsageError("a script is judged by what it logs", hint="--metric NAME, as in run.log(NAME=value)")
        metric, is_more_better = request.metric, False
        args = [[_filled(word, params) for word in request.script.args] for params in combinations]
        unused = [name for name in space if not any("{" + name + "}" in word for word in request.script.args)]
        if unused:
            raise UsageError(f"the script gets no {unused[0]}", hint=f"write --{unused[0]} {{{unused[0]}}} among its arguments")
        plan |= {"script": {key: getattr(request.script, key) for key in _SCRIPT_KEYS}, "model": None, "data": None, "rate": None}
        plan |= {"workload": request.script.name}
    plan["metric"] = request.metric or metric
    plan["is_more_better"] = is_more_better if request.is_more_better is None else request.is_more_better
    plan["trials"] = [{"params": params, "args": words} for params, words in zip(combinations, args, strict=True)]
    return plan


_SCRIPT_KEYS = ("path", "args", "is_module", "workdir", "is_strict", "data")


def _script_of(plan: Mapping[str, Any]) -> ScriptSpec:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plan.items()}
    return ScriptSpec(**fields)


def _filled(word: str, params: Mapping[str, Value]) -> str:
    for name, value in params.items():
        word = word.replace("{" + name + "}", str(value))
    return word


def rows_of_run(
    events: Sequence[Event], places: Mapping[int, str], plan: Mapping[str, Any], seconds_before: float = 0.0
) -> dict[int, Document]:
    """What the events of one run say of its trials, by number; ``places``: ``node:index`` of each rank.

    ``wall_seconds``: from the first start of a trial of the run to the end of this one, and what earlier runs took.
    """
    starts = [event.node_time for event in events if isinstance(event, TrialStarted) and event.node_time is not None]
    rows: dict[int, Document] = {}
    for event in events:
        if not isinstance(event, TrialEnded) or not 0 <= event.trial < len(plan["trials"]):
            continue
        values = _metrics(event.metrics)
        known = [value for value in values.get(plan["metric"], ()) if value is not None]
        wall = event.node_time - min(starts) if event.node_time is not None and starts else event.seconds
        is_scored = event.state == "done" and known
        reason = event.reason or (None if known else f"it logged no {plan['metric']}; logged: {', '.join(values) or 'nothing'}")
        rows[event.trial] = {
            "params": plan["trials"][event.trial]["params"],
            "value": known[-1] if is_scored else None,
            "state": "done" if is_scored else "failed",
            "reason": reason,
            "device": places.get(event.rank),
            "seconds": event.seconds,
            "wall_seconds": seconds_before + wall,
            "peak_bytes": event.peak_bytes or None,
            "metrics": values,
        }
    return rows


def _metrics(text: str) -> dict[str, list[float | None]]:
    """Values by name; nothing of a text that another version, or nobody, wrote so."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {
        str(name): [float(value) if isinstance(value, int | float) else None for value in values]
        for name, values in document.items()
        if isinstance(values, list)
    }
