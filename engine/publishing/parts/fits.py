"""Tables and charts of how large a data set fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..content import Cell, Chart, Series, Table, figure, words
from ..result_file import ResultFile

FIT_NOTE = (
    "Each process runs within a limit on memory that is imposed. Its peak is that of the kernel, libraries included. The cluster "
    "streams its rows from shards, each device its part; nodes hold all rows in memory unless they stream too."
)


def fit_tables(one: ResultFile, prefix: str) -> list[Table]:
    """Every place and multiple, and the largest that fits."""
    header = ("place", "rows held", "multiple", "data, MB", "outcome", "rounds alike", "peak, MB", "seconds")
    rows = tuple(tuple(_cells(one, place, row)) for place, row in enumerate(one.document["rows"]))
    largest = tuple(
        (words(row["place"]), figure(row["multiplier"], ",.0f", one.at(f"largest[{place}].multiplier")))
        for place, row in enumerate(one.document["largest"])
    )
    return [
        Table(f"{prefix}fit", "What fits where", header, rows, text_columns=2, note=FIT_NOTE),
        Table(f"{prefix}largest", "The largest multiple that fits", ("place", "multiple"), largest),
    ]


def _cells(one: ResultFile, place: int, row: Mapping[str, Any]) -> Iterator[Cell]:
    path = f"rows[{place}]."
    yield words(row["place"])
    yield words(row["data"])
    yield figure(row["multiplier"], ",.0f", one.at(f"{path}multiplier"))
    yield figure(row["data_bytes"] / 1e6, ",.0f", one.at(f"{path}data_bytes"))
    yield words(row["outcome"])
    yield words("yes" if row["is_same"] else ", ".join(row["outcomes"]))
    peak = row["peak_bytes"]
    yield figure(None if peak is None else peak / 1e6, ",.0f", one.at(f"{path}peak_bytes"))
    yield figure(row["seconds"], ".1f", one.at(f"{path}seconds"))


def fit_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
    """Peak memory over the size of the data, a line a place."""
    rows = one.document["rows"]
    series = []
    for place in dict.fromkeys(row["place"] for row in rows):
        own = [(number, row) for number, row in enumerate(rows) if row["place"] == place and row["peak_bytes"] is not None]
        series.append(
            Series(
                place,
                tuple(row["data_bytes"] / 1e6 for _, row in own),
                tuple(row["peak_bytes"] / 1e6 for _, row in own),
                sources=tuple(one.at(f"rows[{number}].peak_bytes") for number, _ in own),
            )
        )
    yield Chart(f"{prefix}fit-memory", "Peak memory of a process", "lines", "data, MB", "MB", tuple(series))
