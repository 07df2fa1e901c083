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
from .statistics import mean, welch_interval

COMPARED = ("train", "bench")
"""Types of documents that compare."""
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
}
"""Compared metrics, and whether more of each is better."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one side: its value, and its repeats where there are several."""

    value: float | None
    repeats: tuple[float, ...] = ()


def compare_results(a: Document, b: Document) -> Document:
    """The document of the verb, without its type. Sides keep their order: ``change`` is from the first to the second."""
    kinds = document_type(a), document_type(b)
    reason = _incomparable(a, b, kinds)
    metrics = [] if reason else list(_metrics(a, b, kinds[0]))
    return {
        "a": a.get("run_id"),
        "b": b.get("run_id"),
        "comparable": reason is None,
        "reason": reason,
        "differences": _differences(a, b),
        "metrics": metrics,
    }


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
            return f"{side.get('run_id') or 'a document'} is of type {kind or 'unknown'}; only results of train and bench compare"
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
            interval = welch_interval(one.repeats, other.repeats)
            yield {
                "name": f"{prefix} {name}".strip(),
                "a": one.value,
                "b": other.value,
                "change": other.value / one.value - 1 if one.value else None,
                "interval": None if interval is None else list(interval),
                "is_beyond_noise": None if interval is None else not interval[0] <= 0 <= interval[1],
            }


def _sides(document: Document, kind: str) -> dict[str, dict[str, Measured]]:
    """Metrics by policy; a training has one side without a name."""
    if kind == "train":
        last: Mapping[str, Any] = (document.get("epochs") or [{}])[-1]
        accuracy = last.get("metric") if last.get("metric_name") == "accuracy" else None
        return {"": _known({**document, "loss": last.get("loss"), "accuracy": accuracy}, ())}
    return {case["policy"]: _known(case, case.get("samples_per_second_of_repeats") or ()) for case in document.get("cases") or ()}


def _known(values: Mapping[str, Any], throughputs: Sequence[float | None]) -> dict[str, Measured]:
    repeats = tuple(value for value in throughputs if value is not None)
    found = {}
    for name in HIGHER_IS_BETTER:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            found[name] = Measured(float(value), repeats if name == "samples_per_second" else ())
    if (step := _step_seconds(values)) is not None:
        found["step_seconds"] = Measured(step)
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
