"""Results become a report: the tables and charts that their documents have data for. Pure.

docs/design/publishing.md lists them; ``--like`` chooses and names them as the projects that people compare with do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from ..reports.document_type import Document, document_type
from ..reports.phases import PHASES
from ..reports.statistics import deviation, mean
from .content import Cell, Chart, Report, Series, Table, figure, joined, words
from .summary import summary_of

POLICY_NOTE = (
    "± is the 95 % interval of the mean over the repeats by Student's t, sd their standard deviation. Throughput leaves the first "
    "epoch out. Utilization is the part of a step in which a device computes. Scaling efficiency is throughput over the sum of the "
    "devices alone. Imbalance is (max - min) / mean of the ranks' compute seconds."
)
SCALE_NOTE = (
    "Speed-up is over the first row. Its ideal is the sum of the devices' rates over that of the first row: unlike devices have no "
    "other ideal line. R is compute over exposed communication."
)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result document and where it lies."""

    name: str
    """Run id, or name of the experiment."""
    path: str
    """Its result.json."""
    document: Document

    def at(self, field: str) -> str:
        """The place of a field, for ``Cell.source``."""
        return f"{self.path}#{field}"


def report_of(sources: Sequence[ResultFile]) -> Report:
    """The report of one or several results."""
    tables: list[Table] = []
    charts: list[Chart] = []
    trains = [one for one in sources if document_type(one.document) == "train"]
    for one in sources:
        prefix = "" if len(sources) == 1 else f"{one.name}-"
        kind = document_type(one.document)
        if kind == "bench":
            tables += _bench_tables(one, prefix)
            charts += _bench_charts(one, prefix)
        elif kind == "scale":
            tables += _scale_tables(one, prefix)
            charts += _scale_charts(one, prefix)
        elif kind == "train":
            tables += _train_tables(one, prefix)
            charts += _train_charts(one, prefix)
        elif kind == "profile":
            tables += _hardware_tables(one, prefix)
            charts += _hardware_charts(one, prefix)
    if len(trains) > 1:
        tables.insert(0, _runs_table(trains))
        charts[:0] = _runs_charts(trains)
    return Report(
        title=_title(sources),
        summary=tuple(summary_of([one.document for one in sources])),
        tables=tuple(table for table in tables if table.rows),
        charts=tuple(chart for chart in charts if any(y is not None for series in chart.series for y in series.ys)),
        sources=tuple((one.name, one.path) for one in sources),
        notes=tuple(_notes(sources)),
    )


def _title(sources: Sequence[ResultFile]) -> str:
    names = dict.fromkeys(str(one.document.get("workload") or one.name) for one in sources)
    kinds = dict.fromkeys(document_type(one.document) for one in sources)
    what = {"bench": "policies compared", "scale": "scaling", "train": "training", "profile": "hardware"}
    return f"{', '.join(names)}: {', '.join(what.get(kind, kind) for kind in kinds)}"


def _notes(sources: Sequence[ResultFile]) -> Iterator[str]:
    for one in sources:
        label = "" if len(sources) == 1 else f"{one.name}: "
        if one.document.get("emulated"):
            network = " and over an emulated network" if one.document.get("emulated_network") else ""
            yield f"{label}measured on emulated devices{network}: no figure is of real hardware"
        yield from (f"{label}{sentence}" for sentence in one.document.get("warnings") or ())


# Policies -----------------------------------------------------------------------------------------------------------------------


def _bench_tables(one: ResultFile, prefix: str) -> list[Table]:
    rows = [tuple(_policy_cells(one, place, case)) for place, case in enumerate(one.document["cases"])]
    name = next((case["metric_name"] for case in one.document["cases"] if case.get("metric_name")), "metric")
    header: tuple[str, ...] = (
        "policy",
        "samples/s",
        "over equal",
        "over best device",
        "scaling efficiency",
        "utilization",
        "imbalance",
    )
    header = (*header, "loss", str(name), "s to target", "J/sample", "device hours")
    table = Table(f"{prefix}policies", "Policies", header, tuple(rows), note=POLICY_NOTE)
    return [table, _devices_table(one, prefix), *_phase_table(one, prefix)]


def _policy_cells(one: ResultFile, place: int, case: Mapping[str, Any]) -> Iterator[Cell]:
    half, sd = case.get("half_widths") or {}, case.get("deviations") or {}

    def cell(field: str, form: str, spread: str = "") -> Cell:
        source = one.at(f"cases[{place}].{field}")
        return figure(case.get(field), form, source, half.get(spread or field), sd.get(spread or field))

    yield words(case["policy"])
    yield cell("samples_per_second", ",.0f")
    yield cell("speedup_over_equal", ".2f")
    yield cell("speedup_over_best_device", ".2f")
    yield cell("balance_efficiency", ".1%")
    yield cell("utilization", ".0%")
    yield cell("imbalance", ".1%")
    yield cell("loss", ".4g")
    yield cell("metric", ".4g")
    yield cell("seconds_to_target", ".1f")
    yield cell("joules_per_sample", ".3g")
    yield cell("device_hours", ".3f")


def _devices_table(one: ResultFile, prefix: str) -> Table:
    rows = tuple(
        (
            words(f"{device['node']}:{device['index']}"),
            words(device["name"]),
            figure(device["standalone_samples_per_second"], ",.0f", one.at(f"devices[{place}].standalone_samples_per_second")),
        )
        for place, device in enumerate(one.document.get("devices") or ())
    )
    return Table(f"{prefix}devices", "Devices alone", ("device", "card", "samples/s alone"), rows, text_columns=2)


def _phase_table(one: ResultFile, prefix: str) -> list[Table]:
    """Milliseconds of a step by phase, mean of the ranks."""
    rows = []
    for name, path, phases in _phases_of(one):
        cells = [figure(None if phase not in phases else phases[phase] * 1000, ",.1f", one.at(f"{path}phases")) for phase in PHASES]
        rows.append((words(name), *cells))
    title = "A step by phase, milliseconds, mean of the ranks"
    return [Table(f"{prefix}phases", title, ("case", *PHASES), tuple(rows))] if rows else []


def _phases_of(one: ResultFile) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Name, path in the document, and mean seconds by phase of each case that has phases."""
    document = one.document
    cases = document["cases"] if document_type(document) == "bench" else [document]
    for place, case in enumerate(cases):
        if not case.get("phases"):
            continue
        found: dict[str, list[float]] = {}
        for entry in case["phases"]:
            found.setdefault(entry["phase"], []).append(entry["seconds"])
        path = f"cases[{place}]." if document_type(document) == "bench" else ""
        yield case.get("policy") or one.name, path, {phase: fsum(all_) / len(all_) for phase, all_ in found.items()}


def _bench_charts(one: ResultFile, prefix: str) -> list[Chart]:
    cases = one.document["cases"]
    names = tuple(case["policy"] for case in cases)

    def bars(name: str, title: str, field: str, label: str, factor: float = 1.0) -> Chart:
        return Chart(f"{prefix}{name}", title, "bars", "", label, (_bars(one, names, field, factor),))

    metric = next((case["metric_name"] for case in cases if case.get("metric_name")), None)
    return [
        bars("throughput", "Throughput by policy", "samples_per_second", "samples/s"),
        bars("speedup-over-equal", "Speed-up over equal shares", "speedup_over_equal", "times"),
        bars("efficiency", "Scaling efficiency by policy", "balance_efficiency", "% of the devices alone", 100.0),
        bars("utilization", "Utilization by policy", "utilization", "% of a step", 100.0),
        bars("imbalance", "Imbalance by policy", "imbalance", "%", 100.0),
        _devices_chart(one, prefix),
        *[chart for chart in (_course_chart(one, prefix, "loss", "Validation loss"),) if chart],
        *([_course_chart(one, prefix, "metric", f"Validation {metric}")] if metric else []),
        _stacked_phases(one, prefix),
        *_share_charts(one, prefix),
    ]


def _bars(one: ResultFile, names: tuple[str, ...], field: str, factor: float) -> Series:
    cases = one.document["cases"]
    values = tuple(None if case.get(field) is None else case[field] * factor for case in cases)
    halves = tuple(None if (half := (case.get("half_widths") or {}).get(field)) is None else half * factor for case in cases)
    sources = tuple(one.at(f"cases[{place}].{field}") for place in range(len(cases)))
    return Series(field, names, values, halves if any(half is not None for half in halves) else (), sources)


def _devices_chart(one: ResultFile, prefix: str) -> Chart:
    devices = one.document.get("devices") or ()
    names = tuple(f"{device['node']}:{device['index']} {device['name']}" for device in devices)
    values = tuple(device["standalone_samples_per_second"] for device in devices)
    sources = tuple(one.at(f"devices[{place}].standalone_samples_per_second") for place in range(len(devices)))
    series = Series("alone", names, values, sources=sources)
    return Chart(f"{prefix}devices", "Each device alone", "bars", "", "samples/s", (series,))


def _course_chart(one: ResultFile, prefix: str, field: str, title: str) -> Chart:
    series = tuple(
        Series(
            case["policy"],
            tuple(epoch["seconds"] for epoch in case.get("epochs") or ()),
            tuple(epoch[field] for epoch in case.get("epochs") or ()),
            sources=tuple(one.at(f"cases[{place}].epochs[{row}].{field}") for row in range(len(case.get("epochs") or ()))),
        )
        for place, case in enumerate(one.document["cases"])
    )
    return Chart(f"{prefix}{field}-over-time", f"{title} over training time", "lines", "seconds of training", title.lower(), series)


def _stacked_phases(one: ResultFile, prefix: str) -> Chart:
    found = list(_phases_of(one))
    names = tuple(name for name, _, _ in found)
    series = tuple(
        Series(
            phase,
            names,
            tuple(phases.get(phase, 0.0) * 1000 for _, _, phases in found),
            sources=tuple(one.at(f"{path}phases") for _, path, _ in found),
        )
        for phase in PHASES
    )
    return Chart(f"{prefix}step", "Where a step goes, mean of the ranks", "stacked", "", "ms", series if found else ())


def _share_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    """Shares over steps of each case whose shares changed, with its stragglers as marks."""
    document = one.document
    cases = document["cases"] if document_type(document) == "bench" else [document]
    for place, case in enumerate(cases):
        changes = case.get("share_changes") or []
        if len(changes) < 2:
            continue
        path = f"cases[{place}]." if document_type(document) == "bench" else ""
        steps = tuple(float(change["step"]) for change in changes)
        series = tuple(
            Series(
                f"{device['node']}:{device['index']}",
                steps,
                tuple(float(change["local_batch_sizes"][rank]) for change in changes),
                sources=tuple(one.at(f"{path}share_changes[{row}].local_batch_sizes[{rank}]") for row in range(len(changes))),
            )
            for rank, device in enumerate(document["devices"])
        )
        name = case.get("policy") or "run"
        marks = tuple(
            (float(entry["since_step"]), f"{entry['node'] or 'all'}: {entry['cause']}")
            for entry in document.get("stragglers") or ()
            if entry["case"] in (name, document.get("policy"))
        )
        yield Chart(f"{prefix}shares-{name}", f"Shares under {name}", "steps", "step", "samples of a step", series, marks)


# Scaling ------------------------------------------------------------------------------------------------------------------------


def _scale_tables(one: ResultFile, prefix: str) -> list[Table]:
    rows = tuple(tuple(_scale_cells(one, place, row)) for place, row in enumerate(one.document["rows"]))
    header = (
        "devices",
        "network",
        "samples/s",
        "epoch, s",
        "speed-up",
        "ideal",
        "predicted",
        "efficiency",
        "communication",
        "R",
        "zone",
    )
    return [
        Table(f"{prefix}scaling", f"{one.document['mode'].capitalize()} scaling", header, rows, text_columns=2, note=SCALE_NOTE)
    ]


def _scale_cells(one: ResultFile, place: int, row: Mapping[str, Any]) -> Iterator[Cell]:
    def cell(field: str, form: str) -> Cell:
        return figure(row[field], form, one.at(f"rows[{place}].{field}"))

    rate = row["samples_per_second"]
    yield words(f"{len(row['devices'])}: {', '.join(row['devices'])}")
    yield words(row["link"] or "")
    yield figure(rate["mean"], ",.0f", one.at(f"rows[{place}].samples_per_second.mean"), rate["ci95"], rate["std"])
    yield cell("epoch_seconds", ".2f")
    yield cell("speedup", ".2f")
    yield cell("ideal_speedup", ".2f")
    yield cell("predicted_speedup", ".2f")
    yield cell("efficiency", ".0%")
    yield cell("communication_share", ".0%")
    yield cell("ratio", ".1f")
    yield words(row["zone"] or "")


def _scale_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    document = one.document
    links = [link and link["name"] for link in document["links"]]

    def over_devices(field: str, link: str | None, name: str, is_ideal: bool = False) -> Series:
        rows = [(place, row) for place, row in enumerate(document["rows"]) if row["link"] == link]
        return Series(
            name,
            tuple(float(len(row["devices"])) for _, row in rows),
            tuple(row[field] for _, row in rows),
            sources=tuple(one.at(f"rows[{place}].{field}") for place, _ in rows),
            is_ideal=is_ideal,
        )

    speedups = [over_devices("speedup", link, link or "measured") for link in links]
    predicted = [over_devices("predicted_speedup", link, f"predicted{f' {link}' if link else ''}") for link in links]
    ideal = over_devices("ideal_speedup", links[0], "ideal", is_ideal=True)
    yield Chart(
        f"{prefix}speedup",
        "Speed-up over the number of devices",
        "lines",
        "devices",
        "times the first row",
        (*speedups, *predicted, ideal),
        negative_below=1.0,
    )
    for field, title, label, factor in (
        ("efficiency", "Scaling efficiency", "%", 100.0),
        ("communication_share", "Communication in a step", "%", 100.0),
        ("epoch_seconds", "Epoch time", "seconds", 1.0),
    ):
        series = []
        for link in links:
            curve = over_devices(field, link, link or "measured")
            xs = tuple(f"{x:.0f}" for x in curve.xs if not isinstance(x, str))
            ys = tuple(None if y is None else y * factor for y in curve.ys)
            series.append(Series(curve.name, xs, ys, sources=curve.sources))
        yield Chart(f"{prefix}{field.replace('_', '-')}", title, "bars", "devices", label, tuple(series))


# Trainings ----------------------------------------------------------------------------------------------------------------------


def _train_tables(one: ResultFile, prefix: str) -> list[Table]:
    document = one.document
    name = next((epoch["metric_name"] for epoch in document["epochs"] if epoch.get("metric_name")), "metric")
    rows = tuple(
        (
            words(str(epoch["epoch"])),
            *(
                figure(epoch.get(field), form, one.at(f"epochs[{place}].{field}"))
                for field, form in (
                    ("training_loss", ".4g"),
                    ("loss", ".4g"),
                    ("metric", ".4g"),
                    ("samples_per_second", ",.0f"),
                    ("seconds", ".2f"),
                )
            ),
        )
        for place, epoch in enumerate(document["epochs"])
    )
    header = ("epoch", "training loss", "validation loss", str(name), "samples/s", "seconds")
    return [Table(f"{prefix}epochs", "Epochs", header, rows), *_phase_table(one, prefix)]


def _train_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    for name, title, fields in (("loss", "Loss", ("training_loss", "loss")), ("metric", "Validation metric", ("metric",))):
        series = tuple(_epoch_curve(one, field, field.replace("_", " ")) for field in fields)
        yield Chart(f"{prefix}{name}", title, "lines", "epoch", title.lower(), series)
    yield _stacked_phases(one, prefix)
    yield from _share_charts(one, prefix)


def _epoch_curve(one: ResultFile, field: str, name: str) -> Series:
    epochs = one.document["epochs"]
    return Series(
        name,
        tuple(float(epoch["epoch"]) for epoch in epochs),
        tuple(epoch.get(field) for epoch in epochs),
        sources=tuple(one.at(f"epochs[{place}].{field}") for place in range(len(epochs))),
    )


def _epoch_seconds(one: ResultFile) -> tuple[list[float], list[str]]:
    """Seconds of the epochs but the first, and where they stand."""
    epochs = list(enumerate(one.document["epochs"]))[1:]
    known = [(epoch["seconds"], one.at(f"epochs[{place}].seconds")) for place, epoch in epochs if epoch["seconds"] is not None]
    return [seconds for seconds, _ in known], [source for _, source in known]


def _runs_table(trains: Sequence[ResultFile]) -> Table:
    """Runs beside each other; speed-ups are over the first."""
    first = mean(_epoch_seconds(trains[0])[0])
    rows = []
    for one in trains:
        seconds, sources = _epoch_seconds(one)
        own = mean(seconds)
        speedup = first / own if first is not None and own else None
        last = len(one.document["epochs"]) - 1
        rows.append(
            (
                words(one.name),
                words(str(len(one.document["devices"]))),
                words(str(one.document.get("policy") or "")),
                figure(own, ".2f", joined(sources), deviation=deviation(seconds)),
                figure(speedup, ".2f", joined([*_epoch_seconds(trains[0])[1], *sources])),
                figure(one.document["samples_per_second"], ",.0f", one.at("samples_per_second")),
                figure(one.document["epochs"][last]["loss"] if last >= 0 else None, ".4g", one.at(f"epochs[{last}].loss")),
                figure(one.document["epochs"][last]["metric"] if last >= 0 else None, ".4g", one.at(f"epochs[{last}].metric")),
            )
        )
    header = ("run", "devices", "policy", "epoch, s", "speed-up", "samples/s", "validation loss", "metric")
    note = "Epoch time: mean of the epochs but the first, sd between these epochs. Speed-up of the epoch time over the first row."
    return Table("runs", "Runs", header, tuple(rows), text_columns=3, note=note)


def _runs_charts(trains: Sequence[ResultFile]) -> list[Chart]:
    names = tuple(one.name for one in trains)
    seconds = [_epoch_seconds(one) for one in trains]
    times = Series(
        "epoch time",
        names,
        tuple(mean(own) for own, _ in seconds),
        tuple(deviation(own) for own, _ in seconds),
        tuple(joined(sources) for _, sources in seconds),
    )
    rates = Series(
        "throughput",
        names,
        tuple(one.document["samples_per_second"] for one in trains),
        sources=tuple(one.at("samples_per_second") for one in trains),
    )
    curves = tuple(_epoch_curve(one, "metric", one.name) for one in trains)
    losses = tuple(_epoch_curve(one, "loss", one.name) for one in trains)
    return [
        Chart("training-time-comparison", "Epoch time", "bars", "", "seconds, ± sd of the epochs", (times,)),
        Chart("throughput-comparison", "Throughput", "bars", "", "samples/s", (rates,)),
        Chart("metric-curves", "Validation metric", "lines", "epoch", "metric", curves),
        Chart("loss-curves", "Validation loss", "lines", "epoch", "loss", losses),
    ]


# Hardware -----------------------------------------------------------------------------------------------------------------------


def _hardware_tables(one: ResultFile, prefix: str) -> list[Table]:
    rows = []
    for place, device in enumerate(one.document["devices"]):
        path = f"devices[{place}]."
        rows.append(
            (
                words(f"{device['node']}:{device['index']}"),
                words(device["name"]),
                figure(_scaled(device["memory"], 2**-30), ",.0f", one.at(f"{path}memory")),
                *(figure(device["tflops"].get(form), ",.1f", one.at(f"{path}tflops.{form}")) for form in ("fp32", "bf16", "fp16")),
                figure(_scaled(device["memory_bandwidth"], 1e-9), ",.0f", one.at(f"{path}memory_bandwidth")),
                figure(_scaled(device["host_to_device"], 1e-9), ",.1f", one.at(f"{path}host_to_device")),
                figure(device["score"], ".2f", one.at(f"{path}score")),
            )
        )
    header = ("device", "card", "memory, GiB", "TFLOPS fp32", "bf16", "fp16", "memory, GB/s", "copy, GB/s", "score")
    return [Table(f"{prefix}hardware", "Hardware", header, tuple(rows), text_columns=2)]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _hardware_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    devices = one.document["devices"]
    names = tuple(f"{device['node']}:{device['index']} {device['name']}" for device in devices)
    for name, title, label, values in (
        ("tflops", "Matrix products in fp32", "TFLOPS", [device["tflops"].get("fp32") for device in devices]),
        ("memory-bandwidth", "Memory bandwidth", "GB/s", [_scaled(device["memory_bandwidth"], 1e-9) for device in devices]),
        ("score", "Score: samples/s over those of the fastest", "", [device["score"] for device in devices]),
    ):
        field = {"tflops": "tflops.fp32", "memory-bandwidth": "memory_bandwidth", "score": "score"}[name]
        sources = tuple(one.at(f"devices[{place}].{field}") for place in range(len(devices)))
        yield Chart(f"{prefix}{name}", title, "bars", "", label, (Series(name, names, tuple(values), sources=sources),))
