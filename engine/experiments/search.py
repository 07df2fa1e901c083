"""A search over hyperparameters: which trials there are, in which order, and what came of them together. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from ..balancer.list_schedule import DeviceQueue, makespan
from ..errors import UsageError
from ..reports.document_type import Document
from ..reports.statistics import mean

Value = str | int | float
REFERENCE_GRID: Mapping[str, tuple[Value, ...]] = {"lr": (0.01, 0.001, 0.0001), "hidden_dim": (64, 128, 256), "layers": (2, 3)}
"""The grid of 18 that people compare with: three learning rates, three hidden sizes, two depths."""
MAX_TRIALS = 1000


def parse_space(words: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """The values of each parameter, from words such as ``lr=0.1,0.01``. Raises UsageError."""
    space: dict[str, tuple[Value, ...]] = {}
    for word in words:
        name, _, text = word.partition("=")
        name = name.strip().replace("-", "_")
        values = [read_value(part.strip()) for part in text.split(",") if part.strip()]
        if not name.isidentifier() or not values:
            raise UsageError(f"--grid {word!r} names no values", hint="a parameter and its values, such as lr=0.1,0.01")
        if name in space:
            raise UsageError(f"--grid names {name} twice")
        if len(set(values)) < len(values):
            raise UsageError(f"--grid {word!r} names a value twice")
        space[name] = tuple(values)
    return space


def read_value(text: str) -> Value:
    """A number where the text looks like one, else the text."""
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def grid(space: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Every combination, the last parameter fastest. Raises UsageError for an empty grid and for one beyond reason."""
    if not space:
        raise UsageError("the grid is empty", hint="name parameters and values, such as --grid lr=0.1,0.01")
    count = math.prod(len(values) for values in space.values())
    if count > MAX_TRIALS:
        raise UsageError(f"the grid has {count} trials", hint=f"at most {MAX_TRIALS}; --random N draws some of them")
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def drawn(space: Mapping[str, Sequence[Value]], count: int, seed: int) -> list[dict[str, Value]]:
    """Different combinations of the grid, drawn at random; all of them where there are fewer."""
    sizes = [len(values) for values in space.values()]
    whole = math.prod(sizes)
    if not space:
        raise UsageError("the grid is empty", hint="name parameters and values, such as --grid lr=0.1,0.01")
    if count > MAX_TRIALS:
        raise UsageError(f"{count} trials are too many", hint=f"at most {MAX_TRIALS}")
    places = random.Random(seed).sample(range(whole), min(count, whole))
    return [_combination(space, place) for place in places]


def _combination(space: Mapping[str, Sequence[Value]], place: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, values in reversed(list(space.items())):
        place, own = divmod(place, len(values))
        found[name] = values[own]
    return {name: found[name] for name in space}


BASELINE_OFFSET = 1_000_000
"""Added to the number of a trial where it is run again for the baseline, all of them one after another on one device."""


def search_document(
    name: str,
    plan: Mapping[str, Any],
    rows: Mapping[int, Mapping[str, Any]],
    asked: Mapping[int, Mapping[str, Any]] | None = None,
) -> Document:
    """What the trials that are over say together; ``rows``: one by the number of its trial; ``asked``: those beyond the plan.

    ``sequential_seconds``: of all trials, one after another on the fastest device, computed from their own seconds and the paces of
    the devices, or measured. ``bound``: the computed seconds over the makespan of the same trials by list scheduling.
    """
    known = trials_of(plan, asked or {})
    baseline = [rows.get(BASELINE_OFFSET + number) for number in range(len(known))]
    rows = {number: row for number, row in rows.items() if number < BASELINE_OFFSET}
    trials = [_trial(known[number], number, rows.get(number)) for number in range(len(known))]
    over = [trial for trial in trials if trial["seconds"] is not None]
    computed, shortest = _times(over)
    spans = [rows[number]["wall_seconds"] for number in rows if rows[number].get("wall_seconds") is not None]
    parallel = max(spans) if spans and len(over) == len(trials) else None
    measured = max(row["wall_seconds"] for row in baseline if row) if trials and all(baseline) else None
    sequential = measured if measured is not None else computed
    missing = sum(trial["state"] == "missing" for trial in trials)
    highest = max((trial["rung"] or 0 for trial in over if trial["value"] is not None), default=0)  # more epochs: not comparable
    scored = [trial for trial in over if trial["value"] is not None and (trial["rung"] or 0) == highest]
    best = (max if plan["is_more_better"] else min)(scored, key=lambda trial: float(trial["value"]), default=None)
    failed = sum(trial["state"] == "failed" for trial in trials)
    return {
        "type": "search",
        "name": name,
        "state": "incomplete" if missing else "done",
        "reason": f"{missing} of {len(trials)} trials have not ended" if missing else None,
        "workload": plan["workload"],
        "sampler": plan.get("sampler", "grid"),
        "metric": plan["metric"],
        "direction": "max" if plan["is_more_better"] else "min",
        "emulated": plan["is_emulated"],
        "emulated_network": plan["is_network_emulated"],
        "data": plan["data"],
        "seed": plan["seed"],
        "device_set": plan["devices"],
        "trials": trials,
        "best": None if best is None else {key: best[key] for key in ("trial", "params", "value")},
        "sequential_seconds": sequential,
        "is_sequential_measured": measured is not None,
        "parallel_seconds": parallel,
        "speedup": sequential / parallel if sequential and parallel else None,
        "bound": computed / shortest if computed and shortest else None,
        "utilization": _utilization(over, parallel),
        "warnings": [f"{failed} of {len(trials)} trials failed"] if failed else [],
    }


def trials_of(plan: Mapping[str, Any], asked: Mapping[int, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All trials that are known, by number: those of the plan, or those that were asked for since."""
    return [asked[number] for number in sorted(asked)] if asked else list(plan["trials"])


def _trial(known: Mapping[str, Any], number: int, row: Mapping[str, Any] | None) -> Document:
    shared = {"trial": number, "params": known["params"], "epochs": known.get("epochs"), "rung": known.get("rung")}
    keys = ("value", "device", "seconds", "state", "peak_bytes", "reason", "run_id")
    if row is None:
        return {**shared, **dict.fromkeys(keys), "ended_seconds": None, "state": "missing"}
    return {**shared, **{key: row.get(key) for key in keys}, "ended_seconds": row.get("wall_seconds")}


def _times(over: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Seconds of all trials on the fastest device, and their shortest makespan on all devices; None where nothing is known."""
    by_device: dict[str, list[float]] = {}
    for trial in over:
        by_device.setdefault(trial["device"], []).append(trial["seconds"])
    paces = {device: mean(seconds) or 0.0 for device, seconds in by_device.items()}
    if not paces or min(paces.values()) <= 0.0:
        return None, None
    works = [trial["seconds"] / paces[trial["device"]] for trial in over]
    return fsum(works) * min(paces.values()), makespan(works, [DeviceQueue(pace) for pace in paces.values()])


def _utilization(over: Sequence[Mapping[str, Any]], parallel: float | None) -> float | None:
    """The part of the devices' time in which they ran trials."""
    devices = {trial["device"] for trial in over}
    return fsum(trial["seconds"] for trial in over) / (len(devices) * parallel) if parallel and devices else None
