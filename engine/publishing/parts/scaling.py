"""Tables and charts of a scaling experiment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..content import Cell, Chart, Series, Table, figure, words
from ..result_file import ResultFile

SCALE_NOTE = (
    "Speed-up is over the first row. Its ideal is the sum of the devices' rates over that of the first row: unlike devices have no "
    "other ideal line. R is compute over exposed communication."
)
_COLUMNS = (
    ("epoch_seconds", ".2f"),
    ("speedup", ".2f"),
    ("ideal_speedup", ".2f"),
    ("predicted_speedup", ".2f"),
    ("efficiency", ".0%"),
    ("communication_share", ".0%"),
    ("ratio", ".1f"),
)


def scale_tables(one: ResultFile, prefix: str) -> list[Table]:
    """A table for each network, and what the trainings came to."""
    document = one.document
    links = list(dict.fromkeys(row["link"] for row in document["rows"]))
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
    tables = []
    for link in links:
        rows = tuple(tuple(_scale_cells(one, place, row)) for place, row in enumerate(document["rows"]) if row["link"] == link)
        name = f"{prefix}{link}-scaling" if len(links) > 1 else f"{prefix}scaling"
        title = f"{document['mode'].capitalize()} scaling" + (f" over {link}" if link else "")
        tables.append(Table(name, title, header, rows, text_columns=2, note=SCALE_NOTE))
    if any(row.get("metric") is not None or row.get("loss") is not None for row in document["rows"]):
        metric = next((row["metric_name"] for row in document["rows"] if row.get("metric_name")), None) or "metric"
        rows = tuple(tuple(_quality_cells(one, place, row)) for place, row in enumerate(document["rows"]))
        note = (
            "Of the last epoch, mean over the rounds. The same batch of all devices together gives the same training, however many."
        )
        names = ("devices", "network", "loss", metric)
        tables.append(Table(f"{prefix}accuracy", "What the trainings came to", names, rows, text_columns=2, note=note))
    return tables


def _quality_cells(one: ResultFile, place: int, row: Mapping[str, Any]) -> Iterator[Cell]:
    yield words(f"{len(row['devices'])}: {', '.join(row['devices'])}")
    yield words(row["link"] or "")
    yield figure(row.get("loss"), ".4f", one.at(f"rows[{place}].loss"))
    yield figure(row.get("metric"), ".4f", one.at(f"rows[{place}].metric"))


def _scale_cells(one: ResultFile, place: int, row: Mapping[str, Any]) -> Iterator[Cell]:
    rate, path = row["samples_per_second"], f"rows[{place}]."
    yield words(f"{len(row['devices'])}: {', '.join(row['devices'])}")
    yield words(row["link"] or "")
    yield figure(rate["mean"], ",.0f", one.at(f"{path}samples_per_second.mean"), rate["ci95"], rate["std"])
    yield from one.cells(path, row, _COLUMNS)
    yield words(row["zone"] or "")


def scale_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
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
    curves = [
        Series(
            _curve_name(row),
            tuple(float(epoch) for epoch, _ in row["metric_by_epoch"]),
            tuple(value for _, value in row["metric_by_epoch"]),
            sources=tuple(one.at(f"rows[{place}].metric_by_epoch[{point}][1]") for point in range(len(row["metric_by_epoch"]))),
        )
        for place, row in enumerate(document["rows"])
        if row.get("metric_by_epoch")
    ]
    if curves:
        metric = next((row["metric_name"] for row in document["rows"] if row.get("metric_name")), None) or "metric"
        yield Chart(f"{prefix}metric-curves", f"Validation {metric} by epoch", "lines", "epoch", metric, tuple(curves))


def _curve_name(row: Mapping[str, Any]) -> str:
    amount = len(row["devices"])
    return f"{amount} device{'s' if amount > 1 else ''}" + (f", {row['link']}" if row["link"] else "")
