"""Scaling: which sets of devices are trained on, in which order, and what their runs say together. Pure.

Definitions stand in docs/design/experiments.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from ..errors import UsageError
from ..reports.document_type import Document
from ..reports.statistics import deviation, half_width, mean, welch_interval

ORDERS = ("fastest", "slowest")
FLAT_BAND = 0.05
"""Without repeats, a change of throughput up to this part counts as none."""
WHOLE_SHARE = 0.10
"""A phase of the step below this share is not named as the cause."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A device, and samples a second of large batches by the profile."""

    name: str
    """``node:index``."""
    rate: float


def growing_sets(devices: Sequence[Rated], order: str) -> list[tuple[str, ...]]:
    """The first device, the first two, and so on to all. Raises UsageError with fewer than two devices.

    ``order``: ``fastest`` or ``slowest`` first; devices of one speed keep their order in nodes.toml.
    """
    if len(devices) < 2:
        raise UsageError("scaling needs two devices at least", hint="paceline status names the devices; choose them with --devices")
    sign = -1.0 if order == "fastest" else 1.0
    ordered = sorted(devices, key=lambda device: sign * device.rate)
    return [tuple(device.name for device in ordered[: count + 1]) for count in range(len(ordered))]


def given_sets(text: str, known: Iterable[str], expand: Any) -> list[tuple[str, ...]]:
    """The sets of ``--sets "a;a,b"``, in that order. Raises UsageError.

    ``expand``: turns a set such as ``lab[1-2]`` into names ``node:index``.
    """
    names = set(known)
    sets: list[tuple[str, ...]] = []
    for word in (word.strip() for word in text.split(";")):
        if not word:
            raise UsageError(f"--sets {text!r} has an empty set", hint='sets are separated by ";", such as "lab1;lab1,lab2"')
        one = tuple(expand(word))
        if unknown := [name for name in one if name not in names]:
            raise UsageError(f"--sets: no such device: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(names))}")
        if one in sets:
            raise UsageError(f"--sets names {word!r} twice")
        sets.append(one)
    if len(sets) < 2:
        raise UsageError("scaling compares two sets at least", hint='such as --sets "lab1;lab1,lab2"')
    return sets


def weak_batch(base: int, rate: float, first_rate: float) -> int:
    """The global batch of weak scaling: as many times the base as the rates of the set are those of the first."""
    return max(1, round(base * rate / first_rate))


def case_order(sets: int, links: int, repeats: int) -> list[tuple[int, int, int]]:
    """Round, network and set of every case, in the order of launch: each round visits all, so a drift meets all alike."""
    return [(turn, link, one) for turn in range(repeats) for link in range(links) for one in range(sets)]


def facts_of(document: Mapping[str, Any]) -> Document:
    """What the row of a case keeps of the result of its run."""
    epochs = [epoch["seconds"] for epoch in document.get("epochs") or [] if epoch.get("seconds") is not None]
    return {
        "run_id": document.get("run_id"),
        "state": document.get("state"),
        "reason": document.get("reason"),
        "samples_per_second": document.get("samples_per_second") or document.get("samples_per_second_all"),
        "epoch_seconds": mean(epochs[1:] or epochs),
        **_quality_of(document.get("epochs") or []),
        "phases": _mean_phases(document.get("phases") or []),
        "bottleneck": (document.get("bottleneck") or {}).get("phase"),
        "imbalance": document.get("imbalance"),
        "local_batch_sizes": document.get("local_batch_sizes"),
    }


def _quality_of(epochs: Sequence[Mapping[str, Any]]) -> Document:
    """Loss and metric of the last epoch that has some, and the metric of every epoch as pairs."""
    known = [epoch for epoch in epochs if epoch.get("metric") is not None or epoch.get("loss") is not None]
    last = known[-1] if known else {}
    return {
        "loss": last.get("loss"),
        "metric": last.get("metric"),
        "metric_name": last.get("metric_name"),
        "metric_by_epoch": [[epoch["epoch"], epoch["metric"]] for epoch in known if epoch.get("metric") is not None],
    }


def _mean_phases(phases: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Mean seconds of each phase of a step over the ranks."""
    found: dict[str, list[float]] = {}
    for one in phases:
        found.setdefault(one["phase"], []).append(one["seconds"])
    return {phase: fsum(seconds) / len(seconds) for phase, seconds in found.items()}


def scale_document(name: str, plan: Mapping[str, Any], rows: Mapping[int, Mapping[str, Any]]) -> Document:
    """The scaling table of the cases that are over; ``rows``: what ``facts_of`` kept, by case."""
    order = case_order(len(plan["sets"]), len(plan["links"]), plan["repeats"])
    document_rows: list[Document] = []
    fits: list[Document] = []
    for link, network in enumerate(plan["links"]):
        measured = [
            [rows[case] for case, (_, at, one) in enumerate(order) if at == link and one == index and case in rows]
            for index in range(len(plan["sets"]))
        ]
        own = _rows_of_link(plan, network, measured)
        document_rows += own
        fits.append({"link": network and network["name"], "serial_part": None if plan["is_weak"] else serial_part(own)})
    failed = [facts for facts in rows.values() if facts.get("state") != "done"]
    missing = len(order) - len(rows)
    return {
        "type": "scale",
        "name": name,
        "state": "incomplete" if missing else "failed" if failed else "done",
        "reason": f"{missing} of {len(order)} runs are missing" if missing else failed[0].get("reason") if failed else None,
        "workload": plan["workload"],
        "policy": plan["policy"],
        "mode": "weak" if plan["is_weak"] else "strong",
        "emulated": plan["is_emulated"],
        "emulated_network": plan["is_network_emulated"],
        "repeats": plan["repeats"],
        "epochs": plan["epochs"],
        "seed": plan["seed"],
        "links": plan["links"],
        "rows": document_rows,
        "amdahl": fits,
        "verdict": [_verdict([row for row in document_rows if row["link"] == fit["link"]]) for fit in fits],
        "warnings": [f"run {facts['run_id']} {facts['state']}: {facts['reason']}" for facts in failed],
    }


def _rows_of_link(plan: Mapping[str, Any], network: Mapping[str, Any] | None, measured: Sequence[Sequence[Any]]) -> list[Document]:
    """The rows of one network, in the order of the sets."""
    rates = [[facts["samples_per_second"] for facts in one if facts["samples_per_second"] is not None] for one in measured]
    first = mean(rates[0]) if rates else None
    rows: list[Document] = []
    for index, one in enumerate(plan["sets"]):
        throughput = mean(rates[index])
        speedup = throughput / first if throughput is not None and first else None
        ideal = one["rate"] / plan["sets"][0]["rate"]
        phases = _mean_of([facts["phases"] for facts in measured[index]])
        predicted = [set_["predicted"].get(network["name"] if network else "") for set_ in (one, plan["sets"][0])]
        rows.append(
            {
                "link": network and network["name"],
                "devices": list(one["devices"]),
                "global_batch_size": one["global_batch_size"],
                "samples_per_second": {"mean": throughput, "std": deviation(rates[index]), "ci95": half_width(rates[index])},
                "samples_per_second_of_repeats": list(rates[index]),
                "epoch_seconds": mean(facts["epoch_seconds"] for facts in measured[index]),
                "speedup": speedup,
                "ideal_speedup": ideal,
                "efficiency": speedup / ideal if speedup is not None else None,
                "communication_share": _communication_share(phases),
                "ratio": _ratio(phases),
                "predicted_speedup": predicted[0] / predicted[1] if predicted[0] and predicted[1] else None,
                "loss": mean(facts.get("loss") for facts in measured[index]),
                "metric": mean(facts.get("metric") for facts in measured[index]),
                "metric_name": next((facts["metric_name"] for facts in measured[index] if facts.get("metric_name")), None),
                "metric_by_epoch": _mean_by_epoch([facts.get("metric_by_epoch") or [] for facts in measured[index]]),
                "bottleneck": next((facts["bottleneck"] for facts in reversed(measured[index])), None),
                "zone": _zone(rates[index - 1], rates[index]) if index else None,
                "run_ids": [facts["run_id"] for facts in measured[index]],
            }
        )
    return rows


def _mean_by_epoch(rounds: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Epoch and mean metric over the rounds that have it."""
    found: dict[float, list[float]] = {}
    for pairs in rounds:
        for epoch, value in pairs:
            found.setdefault(epoch, []).append(value)
    return [[epoch, fsum(values) / len(values)] for epoch, values in sorted(found.items())]


def _mean_of(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in several for name in one)
    return {name: fsum(one.get(name, 0.0) for one in several) / len(several) for name in names}


def _communication_share(phases: Mapping[str, float]) -> float | None:
    whole = fsum(phases.values())
    return phases.get("communication", 0.0) / whole if whole else None


def _ratio(phases: Mapping[str, float]) -> float | None:
    """R: compute over exposed communication; None where nothing is known or nothing is exposed."""
    exposed = phases.get("communication", 0.0)
    return (phases.get("forward", 0.0) + phases.get("backward", 0.0)) / exposed if exposed > 0.0 else None


def _zone(before: Sequence[float], after: Sequence[float]) -> str | None:
    """Whether more devices are faster, slower, or neither beyond the noise; None: unknown."""
    old, new = mean(before), mean(after)
    if old is None or new is None:
        return None
    interval = welch_interval(before, after)
    low, high = interval if interval is not None else (new - old - FLAT_BAND * old, new - old + FLAT_BAND * old)
    return "gain" if low > 0.0 else "negative" if high < 0.0 else "flat"


def serial_part(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Amdahl's serial part, 0 to 1, by least squares over the rows after the first; None: fewer than two rows are known.

    ``1 / speedup - 1 / ideal = s (1 - 1 / ideal)``: a line through the origin. Above 1 devices cost more than they bring.
    """
    known = [(row["ideal_speedup"], row["speedup"]) for row in rows if row["speedup"]]
    if len(known) < 2:
        return None
    xs = [1.0 - 1.0 / ideal for ideal, _ in known]
    ys = [1.0 / speedup - 1.0 / ideal for ideal, speedup in known]
    square = fsum(x * x for x in xs)
    return max(0.0, fsum(x * y for x, y in zip(xs, ys, strict=True)) / square) if square > 0.0 else None


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: how far scaling goes, and what ends it."""
    known = [row for row in rows if row["speedup"] is not None]
    if len(known) < 2:
        return "too few runs have ended to say how it scales"
    best, last = max(known, key=lambda row: float(row["speedup"])), known[-1]
    network = f"over {best['link']}: " if best["link"] else ""
    names = ", ".join(best["devices"])
    if best is known[0]:
        return f"{network}does not scale: {names} alone is the fastest; {_cause(last)}"
    sentence = (
        f"{network}{len(best['devices'])} devices ({names}) are the fastest: {best['speedup']:.2f}x of an ideal"
        f" {best['ideal_speedup']:.2f}x, {best['efficiency']:.0%}"
    )
    return sentence if best is last else f"{sentence}; with {len(last['devices'])} it is {last['speedup']:.2f}x: {_cause(last)}"


def _cause(row: Mapping[str, Any]) -> str:
    share = row["communication_share"]
    if share is not None and share >= WHOLE_SHARE:
        ratio = f", compute / communication = {row['ratio']:.2f}" if row["ratio"] is not None else ""
        return f"communication takes {share:.0%} of a step of {len(row['devices'])} devices{ratio}"
    return f"the largest part of a step is {row['bottleneck']}" if row["bottleneck"] else "the cause is unknown"
