"""Two results side by side: what differed between the runs, what came of it, and which changes are beyond the noise. Pure.

A change counts where the 95 % intervals of two sets of independent repeats differ, by Welch's test. One run a side has no noise to
compare with: its changes are shown, and none is called a gain or a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from .document_type import Document, document_type
from .statistics import mean, welch_interval, welch_of

COMPARED = ("train", "bench", "suite", "scale", "search", "fit", "profile")
"""Types of documents that compare, each with its own kind."""
CONFIGURATION = (
    "workload",
    "script",
    "global_batch_size",
    "planned_epochs",
    "planned_repeats",
    "precision",
    "compression",
    "local_steps",
    "policy",
    "data.source",
    "data.rows",
    "data.sha256",
    "emulated",
    "emulated_network",
    "declared_link",
    "parameters",
    "resumed_from",
    "mode",
    "repeats",
    "epochs_of_a_case",
    "links",
    "metric",
    "direction",
    "sampler",
    "memory_limit",
    "time_limit",
    "base_bytes",
    "dtype",
)
"""Fields of a result that say what was run, by their path."""
HIGHER_IS_BETTER = {
    "samples_per_second": True,
    "balance_efficiency": True,
    "speedup_over_equal": True,
    "imbalance": False,
    "loss": False,
    "accuracy": True,
    "joules_per_sample": False,
    "step_seconds": False,
    "utilization": True,
    "speedup": True,
    "efficiency": True,
    "parallel_seconds": False,
    "lowest": False,
    "highest": True,
    "multiplier": True,
    "fp32_tflops": True,
    "memory_bandwidth": True,
}
"""Compared metrics, and whether more of each is better."""


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """One metric of one side: its value, and its repeats where there are several."""

    value: float | None
    repeats: tuple[float, ...] = ()
    summary: tuple[float, float, int] | None = None
    """Mean, standard deviation and number of repeats, where the repeats themselves are not known."""


def compare_results(a: Document, b: Document) -> Document:
    """The document of the verb, without its type. Sides keep their order: ``change`` is from the first to the second."""
    kinds = document_type(a), document_type(b)
    reason = _incomparable(a, b, kinds)
    metrics = [] if reason else list(_metrics(a, b, kinds[0]))
    return {
        "a": _name(a),
        "b": _name(b),
        "comparable": reason is None,
        "reason": reason,
        "differences": _differences(a, b),
        "metrics": metrics,
    }


def _name(document: Document) -> str | None:
    """Its run, its experiment, or of a profile its workload."""
    return document.get("run_id") or document.get("name") or document.get("workload")


def regressions(document: Document, limit: float) -> list[str]:
    """The metrics that became worse by more than ``limit`` (a fraction), each as a sentence. Noise is none."""
    found = []
    for metric in document["metrics"]:
        change, name = metric["change"], metric["name"]
        worse = change is not None and (-change if HIGHER_IS_BETTER[name.rpartition(" ")[2]] else change)
        if worse and worse > limit and metric["is_beyond_noise"] is not False:
            found.append(f"{name} is {worse * 100:.1f} % worse: {metric['a']:.6g} -> {metric['b']:.6g}")
    return found


def _incomparable(a: Document, b: Document, kinds: tuple[str, str]) -> str | None:
    """Why two documents do not compare; None if they do."""
    for side, kind in zip((a, b), kinds, strict=True):
        if kind not in COMPARED:
            return f"{_name(side) or 'a document'} is of type {kind or 'unknown'}; what compares: {', '.join(COMPARED)}"
    if kinds[0] != kinds[1]:
        return f"a {kinds[0]} and a {kinds[1]} are measured in other ways"
    for key, noun in (("workload", "workloads"), ("script.digest", "scripts"), ("data.sha256", "data")):
        if _at(a, key) != _at(b, key):
            return f"they trained different {noun}"
    if a.get("emulated") != b.get("emulated"):
        return "one ran on emulated devices, the other on real ones"
    return None


def _differences(a: Document, b: Document) -> list[dict[str, Any]]:
    """What was run in another way: fields of the configuration, and devices."""
    pairs = [(path, _at(a, path), _at(b, path)) for path in CONFIGURATION]
    pairs.append(("devices", _devices(a), _devices(b)))
    return [{"name": name, "a": one, "b": other} for name, one, other in pairs if one != other]


def _devices(document: Document) -> list[str]:
    return [f"{device.get('node')}:{device.get('index')} {device.get('name')}" for device in document.get("devices") or ()]


def _metrics(a: Document, b: Document, kind: str) -> Iterator[dict[str, Any]]:
    """Every metric that both sides know; those of a bench policy by policy."""
    ours, theirs = _sides(a, kind), _sides(b, kind)
    for prefix, measured in ours.items():
        for name, one in measured.items():
            other = theirs.get(prefix, {}).get(name)
            if other is None or one.value is None or other.value is None:
                continue
            interval = _interval(one, other)
            yield {
                "name": f"{prefix} {name}".strip(),
                "a": one.value,
                "b": other.value,
                "change": other.value / one.value - 1 if one.value else None,
                "interval": None if interval is None else list(interval),
                "is_beyond_noise": None if interval is None else not interval[0] <= 0 <= interval[1],
            }


def _interval(one: ComparedMetric, other: ComparedMetric) -> tuple[float, float] | None:
    if one.summary is not None and other.summary is not None:
        return welch_of(one.summary, other.summary)
    return welch_interval(one.repeats, other.repeats)


def _sides(document: Document, kind: str) -> dict[str, dict[str, ComparedMetric]]:
    """Metrics by case, policy, device or place; a training has one side without a name."""
    match kind:
        case "train":
            last: Mapping[str, Any] = (document.get("epochs") or [{}])[-1]
            accuracy = last.get("metric") if last.get("metric_name") == "accuracy" else None
            return {"": _known({**document, "loss": last.get("loss"), "accuracy": accuracy}, ())}
        case "suite":
            return {f"{row['workload']} {row['policy']}": _spreads(row) for row in document.get("rows") or ()}
        case "scale":
            return {
                f"{len(row['devices'])}{' over ' + row['link'] if row.get('link') else ''}": _known(
                    {**row, "samples_per_second": row["samples_per_second"]["mean"]}, row["samples_per_second_of_repeats"]
                )
                for row in document.get("rows") or ()
            }
        case "search":
            best = (document.get("best") or {}).get("value")
            name = "highest" if document.get("direction") == "max" else "lowest"
            return {"": _known({**document, name: best}, ())}
        case "fit":
            return {one["place"]: _known({"multiplier": one["multiplier"] or 0}, ()) for one in document.get("largest") or ()}
        case "profile":
            return {f"{one['node']}:{one['index']}": _known(_of_device(one), ()) for one in document.get("devices") or ()}
        case _:
            cases = document.get("cases") or ()
            return {case["policy"]: _known(case, case.get("samples_per_second_of_repeats") or ()) for case in cases}


def _spreads(row: Mapping[str, Any]) -> dict[str, ComparedMetric]:
    """Metrics of a row of a suite, which keeps mean and deviation of its rounds."""
    found = {}
    for name in HIGHER_IS_BETTER:
        spread = row.get(name)
        if isinstance(spread, Mapping) and isinstance(spread.get("mean"), int | float) and isfinite(spread["mean"]):
            number = row.get("repeats") or 1
            is_spread = isinstance(spread.get("std"), int | float) and number > 1
            found[name] = ComparedMetric(spread["mean"], (), (spread["mean"], spread["std"], number) if is_spread else None)
    return found


def _of_device(device: Mapping[str, Any]) -> dict[str, Any]:
    """What a profile measured of a device, under the names of metrics."""
    each = (device.get("fit") or {}).get("c")
    rate = 1.0 / each if isinstance(each, int | float) and each > 0 else None
    tflops = (device.get("tflops") or {}).get("fp32")
    return {"samples_per_second": rate, "fp32_tflops": tflops, "memory_bandwidth": device.get("memory_bandwidth")}


def _known(values: Mapping[str, Any], throughputs: Sequence[float | None]) -> dict[str, ComparedMetric]:
    repeats = tuple(value for value in throughputs if value is not None)
    found = {}
    for name in HIGHER_IS_BETTER:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            found[name] = ComparedMetric(float(value), repeats if name == "samples_per_second" else ())
    if (step := _step_seconds(values)) is not None:
        found["step_seconds"] = ComparedMetric(step)
    return found


def _step_seconds(values: Mapping[str, Any]) -> float | None:
    """Mean seconds of a full-size step, over the ranks; None where no phases were measured."""
    by_rank: dict[Any, list[Any]] = {}
    for row in values.get("phases") or ():
        if isinstance(row, Mapping):
            by_rank.setdefault(row.get("rank"), []).append(row.get("seconds"))
    sums = [sum(seconds) for seconds in by_rank.values() if all(isinstance(value, float) for value in seconds)]
    return mean(sums)


def _at(document: Document, path: str) -> Any:
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
