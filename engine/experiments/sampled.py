"""Searches whose trials follow from the results of others: ranges of parameters, and successive halving. Pure.

Source of halving: K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .search import MAX_TRIALS, Value, read_value

SAMPLERS = ("tpe", "halving")
REDUCTION = 3
"""Of so many trials one goes on to the next rung, with as many times the epochs."""
LOG_RATIO = 100.0
"""A range whose ends differ by this factor is searched on a logarithmic scale."""
Space = Mapping[str, Any]
"""A parameter's values as a list, or its range as ``{"low", "high", "is_log"}``."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One trial of Optuna's study."""

    params: Mapping[str, Value]
    state: str
    """``running``, ``done``, ``pruned`` or ``failed``."""
    values: Mapping[int, float]
    """Its values by the number of epochs they were trained for; the last one counts."""


def parse_ranges(words: Sequence[str]) -> dict[str, Any]:
    """Values or range of each parameter, from ``lr=1e-4..0.1`` or ``layers=2,3``. Raises UsageError."""
    space: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        name = name.strip().replace("-", "_")
        if name in space:
            raise UsageError(f"--grid names {name} twice")
        if not name.isidentifier():
            raise UsageError(f"--grid {word!r} names no parameter", hint="such as lr=0.0001..0.1 or layers=2,3")
        space[name] = _range(word, text) if ".." in text else _values(word, text)
    if not space:
        raise UsageError("there is nothing to search", hint="name parameters, such as --grid lr=0.0001..0.1")
    return space


def _range(word: str, text: str) -> dict[str, Any]:
    low, high = (read_value(part.strip()) for part in text.split("..", 1))
    if isinstance(low, str) or isinstance(high, str) or not low < high:
        raise UsageError(f"--grid {word!r} is no range", hint="a smaller and a larger number, such as lr=0.0001..0.1")
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    return {"low": low, "high": high, "is_log": low > 0 and high / low >= LOG_RATIO}


def _values(word: str, text: str) -> list[Value]:
    values = [read_value(part.strip()) for part in text.split(",") if part.strip()]
    if not values or len(set(values)) < len(values):
        raise UsageError(f"--grid {word!r} names no values, or one twice", hint="a parameter and its values, such as lr=0.1,0.01")
    return values


def check_count(count: int) -> int:
    """The number of trials. Raises UsageError."""
    if count > MAX_TRIALS:
        raise UsageError(f"{count} trials are too many", hint=f"at most {MAX_TRIALS}")
    return count


def budgets(epochs: int, count: int) -> list[int]:
    """Epochs of each rung, ascending to ``epochs``; no more rungs than ``count`` trials can fill."""
    found = [epochs]
    while found[0] >= REDUCTION and REDUCTION ** len(found) <= count:
        found.insert(0, max(1, found[0] // REDUCTION))
    return found


def next_rung(
    plan: Mapping[str, Any], asked: Mapping[int, Mapping[str, Any]], rows: Mapping[int, Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Configuration and rung of the trials to come, once all that were asked for are over; none after the last rung.

    The best third goes on; one that failed does not.
    """
    rung = max(int(one["rung"]) for one in asked.values())
    if rung + 1 >= len(plan["budgets"]):
        return []
    scored = [
        (float(rows[number]["value"]), int(one["config"]))
        for number, one in asked.items()
        if one["rung"] == rung and rows[number]["value"] is not None
    ]
    scored.sort(key=lambda pair: (-pair[0] if plan["is_more_better"] else pair[0], pair[1]))
    width = sum(one["rung"] == rung for one in asked.values())
    return [(config, rung + 1) for _, config in scored[: math.ceil(width / REDUCTION)]]


def sampled_trials(
    plan: Mapping[str, Any], asked: Mapping[int, Mapping[str, Any]], rows: Mapping[int, Mapping[str, Any]]
) -> list[Sampled]:
    """The trials of Optuna's study: one a configuration, whatever its rungs."""
    by_config: dict[int, list[int]] = {}
    for number, one in asked.items():
        by_config.setdefault(int(one["config"]), []).append(number)
    newest = max((int(one["rung"]) for one in asked.values()), default=0)
    found = []
    for config in sorted(by_config):
        numbers = sorted(by_config[config])
        last = asked[numbers[-1]]
        over = [number for number in numbers if number in rows]
        scored = [number for number in over if rows[number]["value"] is not None]
        values = {int(asked[number]["epochs"] or 0): float(rows[number]["value"]) for number in scored}
        if len(over) < len(numbers):
            state = "running"
        elif rows[numbers[-1]]["value"] is None:
            state = "failed"
        else:
            has_next = int(last["rung"]) + 1 < len(plan["budgets"])
            state = "done" if not has_next else "pruned" if newest > int(last["rung"]) else "running"
        found.append(Sampled(last["params"], state, values))
    return found
