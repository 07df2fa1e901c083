"""Tables and charts of measured hardware. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..content import Chart, Series, Table, figure, words
from ..result_file import ResultFile


def hardware_tables(one: ResultFile, prefix: str) -> list[Table]:
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


def hardware_charts(one: ResultFile, prefix: str) -> Iterator[Chart]:
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
