"""Tables and charts of a search over hyperparameters. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...reports.statistics import deviation, mean
from ..content import Cell, Chart, Series, Table, figure, joined, words
from ..result_file import ResultFile

TRIAL_NOTE = (
    "Seconds are those of a trial's process on its device. One after another: computed from these seconds and the mean seconds "
    "of a trial on each device, for the fastest one. The bound is that over the makespan of the same trials by list scheduling."
)


def search_tables(one: ResultFile, prefix: str) -> list[Table]:
    """The trials, best first, and their times together."""
    document = one.document
    names = list(dict.fromkeys(name for trial in document["trials"] for name in trial["params"]))
    sign = -1.0 if document["direction"] == "max" else 1.0
    order = sorted(document["trials"], key=lambda trial: (trial["value"] is None, sign * (trial["value"] or 0.0)))
    rows = tuple(tuple(_trial_cells(one, trial, names)) for trial in order)
    header = ("trial", *names, document["metric"], "seconds", "peak, MiB", "device", "state")
    trials = Table(f"{prefix}trials", "Trials, best first", header, rows, text_columns=1 + len(names), note=TRIAL_NOTE)
    times = (
        (
            words("one after another on the fastest device, s"),
            figure(document["sequential_seconds"], ".1f", one.at("sequential_seconds")),
        ),
        (words("all devices at once, s"), figure(document["parallel_seconds"], ".1f", one.at("parallel_seconds"))),
        (words("speed-up"), figure(document["speedup"], ".2f", one.at("speedup"))),
        (words("at best"), figure(document["bound"], ".2f", one.at("bound"))),
        (words("utilization"), figure(document["utilization"], ".0%", one.at("utilization"))),
    )
    return [trials, Table(f"{prefix}search-times", "The whole search", ("", "value"), times)]


def _trial_cells(one: ResultFile, trial: Mapping[str, Any], names: Sequence[str]) -> Iterator[Cell]:
    path = f"trials[{trial['trial']}]."
    yield words(str(trial["trial"]))
    yield from (words(str(trial["params"].get(name, ""))) for name in names)
    yield figure(trial["value"], ".5g", one.at(f"{path}value"))
    yield figure(trial["seconds"], ".1f", one.at(f"{path}seconds"))
    peak = trial["peak_bytes"]
    yield figure(None if peak is None else peak / 2**20, ",.0f", one.at(f"{path}peak_bytes"))
    yield words(trial["device"] or "")
    yield words(trial["reason"] or trial["state"])


def search_charts(one: ResultFile, prefix: str) -> list[Chart]:
    """Values by trial, seconds by device, and the search at once against one after another."""
    document = one.document
    over = [trial for trial in document["trials"] if trial["seconds"] is not None]
    values = Series(
        document["metric"],
        tuple(float(trial["trial"]) for trial in over),
        tuple(trial["value"] for trial in over),
        sources=tuple(one.at(f"trials[{trial['trial']}].value") for trial in over),
    )
    devices = list(dict.fromkeys(str(trial["device"]) for trial in over))
    own = {device: [trial for trial in over if trial["device"] == device] for device in devices}
    seconds = Series(
        "seconds of a trial",
        tuple(devices),
        tuple(mean(trial["seconds"] for trial in own[device]) for device in devices),
        tuple(deviation(trial["seconds"] for trial in own[device]) for device in devices),
        tuple(joined([one.at(f"trials[{trial['trial']}].seconds") for trial in own[device]]) for device in devices),
    )
    counts = Series(
        "trials",
        tuple(devices),
        tuple(float(len(own[device])) for device in devices),
        sources=tuple(joined([one.at(f"trials[{trial['trial']}].device") for trial in own[device]]) for device in devices),
    )
    times = Series(
        "seconds",
        ("one after another", "all at once"),
        (document["sequential_seconds"], document["parallel_seconds"]),
        sources=(one.at("sequential_seconds"), one.at("parallel_seconds")),
    )
    return [
        Chart(f"{prefix}search-values", f"{document['metric']} by trial", "lines", "trial", document["metric"], (values,)),
        Chart(f"{prefix}search-times", "The whole search", "bars", "", "seconds", (times,)),
        Chart(f"{prefix}trial-seconds", "Seconds of a trial by device", "bars", "", "seconds, ± sd", (seconds,)),
        Chart(f"{prefix}trial-counts", "Trials by device", "bars", "", "trials", (counts,)),
    ]
