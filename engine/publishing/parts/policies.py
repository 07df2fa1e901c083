"""Tables and charts of policies that were compared. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..content import Cell, Chart, Series, Table, figure, words
from ..result_file import ResultFile
from .steps import phase_table, share_charts, stacked_phases

POLICY_NOTE = (
    "± is the 95 % interval of the mean over the repeats by Student's t, sd their standard deviation. Throughput leaves the first "
    "epoch out. Utilization is the part of a step in which a device computes. Scaling efficiency is throughput over the sum of the "
    "devices alone. Imbalance is (max - min) / mean of the ranks' compute seconds."
)


def bench_tables(one: ResultFile, prefix: str) -> list[Table]:
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
    return [table, _devices_table(one, prefix), *phase_table(one, prefix)]


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


def bench_charts(one: ResultFile, prefix: str) -> list[Chart]:
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
        stacked_phases(one, prefix),
        *share_charts(one, prefix),
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
