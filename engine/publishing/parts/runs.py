"""Tables and charts of trainings, one or several beside each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...reports.statistics import deviation, mean
from ..content import Chart, Series, Table, figure, joined, words
from ..result_file import ResultFile
from .steps import phase_table, share_charts, stacked_phases

_COLUMNS = (
    ("training_loss", ".4g"),
    ("loss", ".4g"),
    ("metric", ".4g"),
    ("samples_per_second", ",.0f"),
    ("seconds", ".2f"),
)


def train_tables(one: ResultFile, prefix: str) -> list[Table]:
    document = one.document
    name = next((epoch["metric_name"] for epoch in document["epochs"] if epoch.get("metric_name")), "metric")
    rows = tuple(
        (
            words(str(epoch["epoch"])),
            *one.cells(f"epochs[{place}].", epoch, _COLUMNS),
        )
        for place, epoch in enumerate(document["epochs"])
    )
    header = ("epoch", "training loss", "validation loss", str(name), "samples/s", "seconds")
    return [Table(f"{prefix}epochs", "Epochs", header, rows), *phase_table(one, prefix)]


def train_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    for name, title, fields in (("loss", "Loss", ("training_loss", "loss")), ("metric", "Validation metric", ("metric",))):
        series = tuple(_epoch_curve(one, field, field.replace("_", " ")) for field in fields)
        yield Chart(f"{prefix}{name}", title, "lines", "epoch", title.lower(), series)
    yield stacked_phases(one, prefix)
    yield from share_charts(one, prefix)


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


def runs_table(trains: Sequence[ResultFile]) -> Table:
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


def runs_charts(trains: Sequence[ResultFile]) -> list[Chart]:
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
