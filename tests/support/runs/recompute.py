"""The figures of a run recomputed from its raw files, by the definitions of docs/design/results.md; shares no code with reports.

Reads JSON only: ``nodes/*/plan.json``, ``nodes/*/ranks/*.jsonl`` and ``nodes/*/events.jsonl``. Unknown is None.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Line = dict[str, Any]
Figure = float | None
STUDENT = {2: 12.7062047, 3: 4.3026527, 4: 3.1824463, 5: 2.7764451}
"""97.5 % quantiles of Student's t by number of values."""
PARTS = ("data", "host-to-device", "host", "forward", "backward", "communication", "wait", "optimizer")


class RawRun:
    """The lines of one run directory."""

    def __init__(self, path: Path) -> None:
        self.plan: Line = json.loads(next(path.glob("nodes/*/plan.json")).read_text())
        self.lines: list[Line] = []
        self.readings: list[tuple[str, Line]] = []
        for file in sorted(path.glob("nodes/*/ranks/*.jsonl")):
            self.lines += [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(path.glob("nodes/*/events.jsonl")):
            self.readings += [(file.parent.name, json.loads(line)) for line in file.read_text().splitlines()]
        self.ranks: list[Line] = self.plan["ranks"]
        self.cases: list[Line] = self.plan["cases"]

    def of(self, kind: str, case: str | None = None) -> list[Line]:
        return [line for line in self.lines if line["kind"] == kind and (case is None or line.get("case", "") == case)]

    def rounds(self) -> dict[str, list[str]]:
        """Names of the cases by policy."""
        found: dict[str, list[str]] = {}
        for case in self.cases:
            found.setdefault(case["policy"], []).append(case["name"])
        return found

    def epochs(self, case: str) -> list[Line]:
        return sorted(self.of("EpochEnded", case), key=lambda line: line.get("epoch", 0))

    def throughput(self, case: str, first: int = 1) -> Figure:
        counted = self.epochs(case)[first:]
        seconds = sum(line["seconds"] for line in counted)
        return sum(line["samples"] for line in counted) / seconds if seconds else None

    def sizes(self, case: str) -> list[int] | None:
        ended, epochs = self.of("CaseEnded", case), self.epochs(case)
        return ended[-1]["local_batch_sizes"] if ended else epochs[-1]["local_batch_sizes"] if epochs else None

    def working(self, case: str) -> list[int]:
        sizes = self.sizes(case)
        return [rank for rank in range(len(self.ranks)) if sizes is None or sizes[rank] > 0]

    def sums(self, case: str, rank: int) -> list[Line]:
        """Of the epochs in which the rank had samples, in order."""
        mine = [line for line in self.of("RankEpochEnded", case) if line.get("rank", 0) == rank and line.get("samples", 0)]
        return sorted(mine, key=lambda line: line.get("epoch", 0))

    def imbalance(self, case: str) -> Figure:
        all_epochs = {line.get("epoch", 0) for line in self.of("RankEpochEnded", case)}
        means = []
        for rank in self.working(case):
            mine = [line for line in self.sums(case, rank) if line.get("epoch", 0) > min(all_epochs)] if all_epochs else []
            steps = sum(line.get("full_steps", 0) for line in mine)
            if not steps:
                return None
            means.append(sum(line.get("full_compute_seconds", 0.0) for line in mine) / steps)
        return (max(means) - min(means)) / fmean(means) if means and fmean(means) > 0 else None

    def alone(self, case: str, rank: int) -> Figure:
        """The rate of a rank alone at the case's last size: of the nearest size, at most a twentieth of the larger one away."""
        sizes = self.sizes(case)
        if sizes is None or not sizes[rank]:
            return None
        order = [one["name"] for one in self.cases]
        near: list[tuple[int, bool, int, float]] = []
        for line in self.of("StandaloneMeasured"):
            measured = line["local_batch_size"]
            if line.get("rank", 0) == rank and abs(measured - sizes[rank]) <= 0.05 * max(measured, sizes[rank]):
                key = abs(measured - sizes[rank]), line["case"] != case, order.index(line["case"])
                near.append((*key, line["samples_per_second"]))
        return min(near)[-1] if near else None

    def of_limit(self, case: str) -> Figure:
        rates, rate = [self.alone(case, rank) for rank in self.working(case)], self.throughput(case)
        return None if rate is None or None in rates or not rates else rate / sum(one for one in rates if one is not None)

    def device_rates(self) -> list[Figure]:
        """Of the devices: at the shares of hybrid, else of the last policy; a device left out counts with its best rate."""
        rounds = self.rounds()
        names = rounds.get("hybrid") or rounds[list(rounds)[-1]]
        sizes, rates = self.sizes(names[-1]), []
        for rank in range(len(self.ranks)):
            if sizes is not None and not sizes[rank]:
                known = [line["samples_per_second"] for line in self.of("StandaloneMeasured") if line.get("rank", 0) == rank]
                rates.append(max(known, default=None))
            else:
                rates.append(average([self.alone(name, rank) for name in names]))
        return rates

    def best_alone(self) -> Figure:
        return max((line["samples_per_second"] for line in self.of("BaselineMeasured")), default=None)

    def changes(self, case: str) -> int | None:
        ended = self.of("CaseEnded", case)
        if ended:
            return int(ended[-1].get("changes", 0))
        return len({line.get("step", 0) for line in self.of("SharesChanged", case)}) if self.epochs(case) else None

    def joules(self, case: str) -> Figure:
        counted = [line for line in self.epochs(case) if line.get("epoch", 0) > 0]
        samples, total = sum(line["samples"] for line in counted), 0.0
        if not samples:
            return None
        for rank, place in enumerate(self.ranks):
            all_sums = [line for line in self.of("RankEpochEnded", case) if line.get("rank", 0) == rank and line.get("epoch", 0)]
            spans = [(line["node_time"] - line["seconds"], line["node_time"]) for line in all_sums]
            watts = [
                device["power"]
                for node, reading in self.readings
                if node == place["node"] and reading["kind"] == "ReadingsRecorded"
                for device in reading["devices"]
                if device.get("index", 0) == place["device_index"]
                and device.get("power") is not None
                and any(begin <= reading["node_time"] <= end for begin, end in spans)
            ]
            if place["emulation"] is not None or len(all_sums) != len(counted) or len(watts) < 3:
                return None
            total += fmean(watts) * sum(line["seconds"] for line in all_sums)
        return float(total / samples)

    def phases(self, case: str, epochs: list[int] | None = None) -> dict[int, list[float]]:
        """Seconds of a step by part, of each rank with samples whose parts are all known; ``epochs`` None: all but the first."""
        every = sorted({line.get("epoch", 0) for line in self.of("RankEpochEnded", case)})
        chosen = epochs if epochs is not None else every[1:] or every
        mine = {rank: [line for line in self.sums(case, rank) if line.get("epoch", 0) in chosen] for rank in self.working(case)}
        waits = [per_step(lines, "full_wait_seconds") for lines in mine.values()]
        if not waits or None in waits:
            return {}
        least, found = min(wait for wait in waits if wait is not None), {}
        for rank, lines in mine.items():
            names = ("data", "copy", "host", "compute", "backward", "wait", "optimizer")
            value = {name: per_step(lines, f"full_{name}_seconds") for name in names}
            if None in value.values():
                continue
            part = {name: seconds or 0.0 for name, seconds in value.items()}
            told = [(line["communication_seconds"], line["full_steps"]) for line in lines if "communication_seconds" in line]
            sent = sum(seconds * steps for seconds, steps in told) / sum(steps for _, steps in told) if told else least
            sent = min(sent, part["wait"])
            model = part["compute"] - part["data"] - part["copy"]
            backward = (model - part["host"]) * (part["backward"] / model if model else 0.0)
            forward = model - part["host"] - backward
            found[rank] = [
                part["data"], part["copy"], part["host"], forward, backward, sent, part["wait"] - sent, part["optimizer"]
            ]  # fmt: skip
        return found


def per_step(lines: list[Line], name: str) -> Figure:
    """Sum over steps; None where a line does not tell."""
    optional = ("full_backward_seconds", "full_optimizer_seconds")
    steps = sum(line.get("full_steps", 0) for line in lines)
    if not steps or (name in optional and any(name not in line for line in lines)):
        return None
    return float(sum(line.get(name, 0.0) for line in lines) / steps)


def average(values: list[Figure]) -> Figure:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def interval(values: list[Figure]) -> list[float]:
    """Half-width and standard deviation; nothing for fewer than two values."""
    known = [value for value in values if value is not None]
    return [STUDENT[len(known)] * stdev(known) / len(known) ** 0.5, stdev(known)] if len(known) > 1 else []


def over(value: Figure, base: Figure) -> Figure:
    return value / base if value is not None and base else None


Cell = str | None | list[float]
"""Exact text, unknown, or the numbers that the cell shows."""


def numbers(value: Figure, *more: float, scale: float = 1.0) -> Cell:
    return None if value is None else [value * scale, *(one * scale for one in more)]


def bench_rows(run: RawRun) -> list[list[Cell]]:
    """The rows of the table of policies: all columns of a classification, with repeats and predictions."""
    rounds, best, rows = run.rounds(), run.best_alone(), []
    equals = [run.throughput(name) for name in rounds.get("equal", [])]
    for policy, names in rounds.items():
        rates = [run.throughput(name) for name in names]
        pairs = [over(one, other) for one, other in zip(rates, equals, strict=False)]
        ends = [run.epochs(name)[-1] for name in names if run.epochs(name)]
        rate, equal = average(rates), average(equals)
        planned = next(case for case in run.cases if case["name"] == names[-1])
        told, doubt = planned["predicted_samples_per_second"], planned["predicted_doubt"]
        losses, metrics = ([end.get(key) for end in ends] for key in ("loss", "metric"))
        off = over(told, rate)
        rows.append(
            [
                policy,
                [float(sum(one is not None for one in rates))],
                numbers(rate, *interval(rates)),
                numbers(told) if doubt is None or told is None else [told, doubt * 100],
                numbers(None if off is None else off - 1, scale=100),
                numbers(over(rate, equal), *(interval(pairs) if over(rate, equal) is not None else [])),
                numbers(over(rate, best)),
                numbers(average([run.of_limit(name) for name in names]), scale=100),
                numbers(average([run.imbalance(name) for name in names]), scale=100),
                numbers(run.changes(names[-1])),
                numbers(average(losses), *interval(losses)),
                numbers(average(metrics), *interval(metrics), scale=100),
                numbers(average([run.joules(name) for name in names])),
            ]
        )
    return rows


def phase_rows(run: RawRun) -> list[list[Cell]]:
    """The rows of the table of phases; a benchmark's last round of each policy."""
    rows: list[list[Cell]] = []
    for policy, names in run.rounds().items():
        for rank, parts in run.phases(names[-1]).items():
            label = f"{policy} {rank} {run.ranks[rank]['node']}" if run.plan["is_bench"] else f"{rank} {run.ranks[rank]['node']}"
            rows.append([label, *([seconds * 1000] for seconds in parts)])
    return rows


def tables_of(markdown: str) -> list[list[list[str]]]:
    """All tables of a Markdown text, each as rows of cells, header first."""
    tables: list[list[list[str]]] = []
    block: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in line.strip("|").split("|")])
        elif block:
            tables.append([block[0], *block[2:]])
            block = []
    return tables


_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def differences(cell: str, expected: Cell) -> str:
    """Why a cell does not show what was recomputed; empty: it does, to its last digit."""
    if not isinstance(expected, list):
        return "" if cell == ("—" if expected is None else expected) else f"{cell!r} instead of {expected!r}"
    shown = _NUMBER.findall(cell)
    if len(shown) != len(expected):
        return f"{cell!r} shows {len(shown)} numbers and not {expected}"
    for text, value in zip(shown, expected, strict=True):
        mantissa, _, exponent = text.replace(",", "").partition("e")
        digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
        if abs(float(text.replace(",", "")) - value) > 0.5000001 * 10.0**-digits:
            return f"{cell!r} shows {text} and not {value}"
    return ""
