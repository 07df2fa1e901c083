"""The verb ``search``: trials of hyperparameters, each on one device, all devices at once, with a journal of what came of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from ...errors import UsageError
from ...events import Event, Progress, TrialEnded, TrialStarted, Warned
from ...experiments.journal import Journal
from ...experiments.sampled import SAMPLERS, budgets, check_count, next_rung, parse_ranges, sampled_trials
from ...experiments.search import BASELINE_OFFSET, REFERENCE_GRID, Value, drawn, grid, parse_space, search_document, trials_of
from ...reports.document_type import Document
from ...specs import ScriptSpec, TrainSpec, TrialSpec
from ...workloads.options import TRAINING_OPTIONS
from ...workloads.pairs import choose
from ..scripts.packaged import packaged_script
from .optuna_study import STUDY_FILE, import_optuna, suggest, write_study
from .trial_runs import TrialExperiment

SERIES_RATE = 136.0
"""Samples per second of an emulated device of speed 1 for models of series: a trial of the reference grid takes some twelve seconds
on the fastest device of the embedded lab."""
DEFAULT_EPOCHS = 9
"""Most epochs of a trial of a script under successive halving."""
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
    tpe: int | None = None
    """How many trials TPE chooses, of values or ranges; None: it does not."""
    halving: int | None = None
    """With how many trials successive halving begins; None: it does not."""
    batch: int | None = None
    """Trials that TPE chooses at once, which are one launch; None: twice the devices."""
    is_sequential: bool = False
    """Whether the same trials are run again, one after another on the fastest device, as a measured baseline."""
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
        plan = plan_of(request, any(node.devices for node in inventory.nodes), inventory.link is not None)
        if "sampler" in plan:
            import_optuna()
            plan["batch"] = request.batch or 2 * sum(len(node.devices) or 1 for node in inventory.nodes)
        return plan

    def _document(self, journal: Journal) -> Document:
        return search_document(journal.name, journal.plan, journal.rows, journal.asked)

    async def _run(self, journal: Journal) -> None:
        plan = journal.plan
        if plan["data"] == "synthetic-series":
            self._session.publish(Warned(reason="the series are generated: no prices were given (--dataset sp500 takes real ones)"))
        await self._go_on(journal)
        while True:
            await self._launch_all(journal, str(plan["devices"]))
            self._write_study(journal)
            if "sampler" not in plan or not self._ask(journal):
                break
        if plan.get("is_sequential"):
            self._session.publish(Progress(phase=f"{journal.name}: the same trials one after another on the fastest device"))
            await self._launch_all(journal, fastest_device(journal.rows))

    def _ask(self, journal: Journal) -> bool:
        """Ask for the next trials, and note them before they run; False: there are none."""
        plan = journal.plan
        for number, one in next_trials(plan, journal.asked, journal.rows).items():
            journal.note_asked(number, one)
        self._write_study(journal)
        return any(number not in journal.rows for number in journal.asked)

    def _write_study(self, journal: Journal) -> None:
        plan = journal.plan
        if "sampler" in plan:
            trials = sampled_trials(plan, journal.asked, journal.rows)
            write_study(journal.directory / STUDY_FILE, journal.name, plan["space"], trials, is_max=plan["is_more_better"])

    def _numbers(self, journal: Journal) -> Sequence[int]:
        own = range(len(trials_of(journal.plan, journal.asked)))
        is_next = journal.plan.get("is_sequential") and all(number in journal.rows for number in own)
        is_all_asked = "sampler" not in journal.plan or not next_trials(journal.plan, journal.asked, journal.rows)
        return [*own, *(BASELINE_OFFSET + number for number in own)] if is_next and is_all_asked else own

    def _job(self, journal: Journal, left: Sequence[int], devices: str) -> TrainSpec:
        return job_of(journal.plan, trials_of(journal.plan, journal.asked), left, devices)

    def _rows(self, events: Sequence[Event], places: Mapping[int, str], journal: Journal) -> dict[int, Document]:
        trials = trials_of(journal.plan, journal.asked)
        return rows_of_run(events, places, journal.plan | {"trials": trials}, journal.rows)


def fastest_device(rows: Mapping[int, Mapping[str, Any]]) -> str:
    """The device whose trials took the fewest seconds. Raises UsageError where none has ended."""
    seconds: dict[str, list[float]] = {}
    for number, row in rows.items():
        if number < BASELINE_OFFSET and row.get("device") and row.get("seconds") is not None:
            seconds.setdefault(row["device"], []).append(row["seconds"])
    if not seconds:
        raise UsageError("no trial has ended, so no device is the fastest")
    return min(seconds, key=lambda device: (fsum(seconds[device]) / len(seconds[device]), device))


def next_trials(
    plan: Document, asked: Mapping[int, Mapping[str, Any]], rows: Mapping[int, Mapping[str, Any]]
) -> dict[int, Document]:
    """Trials to come, by number, once all that were asked for are over. The same journal gives the same trials."""
    if any(number not in rows for number in asked):
        return {}
    known = sampled_trials(plan, asked, rows)
    if plan["sampler"] == "halving" and asked:
        chosen = [(dict(known[config].params), config, rung) for config, rung in next_rung(plan, asked, rows)]
    else:
        left = plan["count"] - len(known)
        count = left if plan["sampler"] == "halving" else min(left, plan["batch"])
        if count <= 0:
            return {}
        found = suggest(
            plan["space"],
            known,
            count,
            seed=plan["seed"],
            is_random=plan["sampler"] == "halving",
            is_max=plan["is_more_better"],
        )
        chosen = [(params, len(known) + place, 0) for place, params in enumerate(found)]
    trials: dict[int, Document] = {}
    for params, config, rung in chosen:
        epochs = plan["budgets"][rung]
        words = arguments_of(plan, params, epochs)
        trials[len(asked) + len(trials)] = {"params": params, "args": words, "config": config, "rung": rung, "epochs": epochs}
    return trials


def job_of(plan: Document, known: Sequence[Mapping[str, Any]], left: Sequence[int], devices: str) -> TrainSpec:
    """The trials that are left as one run; each device takes one after another."""
    trials = tuple(TrialSpec(number, tuple(known[number % BASELINE_OFFSET]["args"])) for number in left)
    if plan["script"] is None:
        script = packaged_script(plan["model"], trials[0].args, workload=plan["workload"])
    else:
        script = replace(_script_of(plan["script"]), args=trials[0].args)
    script = replace(script, trials=trials, rate=plan["rate"])
    return TrainSpec(workload=script.name, script=script, devices=devices, is_shared=plan["is_shared"], checkpoint_every="never")


def plan_of(request: SearchRequest, is_emulated: bool = False, is_network_emulated: bool = False) -> Document:
    """The plan of a search: the same request gives the same trials in the same order. Raises UsageError."""
    sampler = _sampler(request)
    if sampler is None:
        space: dict[str, Any] = dict(parse_space(request.grid) if request.grid else REFERENCE_GRID)
        combinations = grid(space) if request.random is None else drawn(space, request.random, request.seed)
    else:
        space = parse_ranges(request.grid) if request.grid else {name: list(values) for name, values in REFERENCE_GRID.items()}
        combinations = []
    plan: Document = {
        "is_emulated": is_emulated,
        "is_network_emulated": is_network_emulated,
        "devices": request.devices,
        "seed": request.seed,
        "is_shared": request.is_shared,
        "space": {name: one if isinstance(one, dict) else list(one) for name, one in space.items()},
    }
    plan |= _plan_of_model(request, space) if request.script is None else _plan_of_script(request, space, sampler == "halving")
    if request.is_more_better is not None:
        plan["is_more_better"] = request.is_more_better
    if request.is_sequential:
        plan["is_sequential"] = True
    if sampler is not None:
        count = check_count((request.tpe if sampler == "tpe" else request.halving) or 0)
        most = request.epochs or plan.pop("usual_epochs") or (DEFAULT_EPOCHS if sampler == "halving" else None)
        rungs = budgets(most, count) if sampler == "halving" and most else [most]
        plan |= {"sampler": sampler, "count": count, "budgets": rungs, "batch": request.batch}
    plan.pop("usual_epochs", None)
    words = [arguments_of(plan, params, request.epochs) for params in combinations]
    plan["trials"] = [{"params": params, "args": args} for params, args in zip(combinations, words, strict=True)]
    return plan


def _sampler(request: SearchRequest) -> str | None:
    """The sampler that is asked for; None: a grid, or a draw of it. Raises UsageError for two of them."""
    named = {"random": request.random, "tpe": request.tpe, "halving": request.halving}
    given = [name for name, count in named.items() if count is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} choose trials in two ways", hint="leave one of them out")
    return given[0] if given and given[0] in SAMPLERS else None


def _plan_of_model(request: SearchRequest, space: Mapping[str, Any]) -> Document:
    pair = choose(request.model, request.dataset)
    metric, is_more_better = METRICS.get(pair.model.kind, ("loss", False))
    known = dict.fromkeys(("batch", "epochs", *pair.model.sizes, *(option.name for option in TRAINING_OPTIONS)))
    if unknown := [name for name in space if name not in known]:
        raise UsageError(f"{pair.model.name} has no option {unknown[0]}", hint=f"it has {', '.join(known)}")
    if "epochs" in space and request.halving is not None:
        raise UsageError("halving chooses the epochs itself", hint="leave epochs out of --grid; --epochs names the most")
    return {
        "script": None,
        "model": pair.model.name,
        "workload": pair.name,
        "data": pair.dataset.name,
        "rate": SERIES_RATE if pair.model.kind == "series" else None,
        "metric": request.metric or metric,
        "is_more_better": is_more_better,
        "usual_epochs": pair.value("epochs"),
    }


def _plan_of_script(request: SearchRequest, space: Mapping[str, Any], is_halving: bool) -> Document:
    assert request.script is not None
    if request.metric is None:
        raise UsageError("a script is judged by what it logs", hint="--metric NAME, as in run.log(NAME=value)")
    wanted = [*space, *(["epochs"] if is_halving else [])]
    unused = [name for name in wanted if not any("{" + name + "}" in word for word in request.script.args)]
    if unused:
        raise UsageError(f"the script gets no {unused[0]}", hint=f"write --{unused[0]} {{{unused[0]}}} among its arguments")
    return {
        "script": {key: getattr(request.script, key) for key in _SCRIPT_KEYS},
        "model": None,
        "data": None,
        "rate": None,
        "workload": request.script.name,
        "metric": request.metric,
        "is_more_better": False,
        "usual_epochs": None,
    }


def arguments_of(plan: Mapping[str, Any], params: Mapping[str, Value], epochs: int | None) -> list[str]:
    """The arguments of a trial; ``epochs``: None for those of the model."""
    if plan["script"] is not None:
        given = dict(params) | ({} if epochs is None else {"epochs": epochs})
        return [_filled(word, given) for word in plan["script"]["args"]]
    shared = {"seed": plan["seed"]} | ({} if epochs is None else {"epochs": epochs})
    return list(choose(plan["model"], plan["data"], {**shared, **params}).arguments)


_SCRIPT_KEYS = ("path", "args", "is_module", "workdir", "is_strict", "data")


def _script_of(plan: Mapping[str, Any]) -> ScriptSpec:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plan.items()}
    return ScriptSpec(**fields)


def _filled(word: str, params: Mapping[str, Value]) -> str:
    for name, value in params.items():
        word = word.replace("{" + name + "}", str(value))
    return word


def rows_of_run(
    events: Sequence[Event],
    places: Mapping[int, str],
    plan: Mapping[str, Any],
    before: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[int, Document]:
    """What the events of one run say of its trials, by number; ``places``: ``node:index`` of each rank.

    ``wall_seconds``: from the first start of a trial of the run to the end of this one, and what earlier runs took; ``before``: the
    rows of these. Trials of the baseline count for themselves.
    """
    starts = [event.node_time for event in events if isinstance(event, TrialStarted) and event.node_time is not None]
    seconds_before = [
        max((row["wall_seconds"] for number, row in (before or {}).items() if (number >= BASELINE_OFFSET) is one), default=0.0)
        for one in (False, True)
    ]
    rows: dict[int, Document] = {}
    for event in events:
        number = event.trial % BASELINE_OFFSET if isinstance(event, TrialEnded) else -1
        if not isinstance(event, TrialEnded) or not 0 <= number < len(plan["trials"]):
            continue
        is_baseline = event.trial >= BASELINE_OFFSET
        values = _metrics(event.metrics)
        known = [value for value in values.get(plan["metric"], ()) if value is not None]
        wall = event.node_time - min(starts) if event.node_time is not None and starts else event.seconds
        is_scored = event.state == "done" and known
        reason = event.reason or (None if known else f"it logged no {plan['metric']}; logged: {', '.join(values) or 'nothing'}")
        rows[event.trial] = {
            "params": plan["trials"][number]["params"],
            "value": known[-1] if is_scored else None,
            "state": "done" if is_scored else "failed",
            "reason": reason,
            "device": places.get(event.rank),
            "seconds": event.seconds,
            "wall_seconds": seconds_before[is_baseline] + wall,
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
