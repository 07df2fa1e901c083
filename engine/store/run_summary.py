"""What a list of runs says about one that has ended, from its result document. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .state import RunSummary


def summary_of(document: Mapping[str, Any]) -> RunSummary:
    """Policies, throughput and quality of a result; of a benchmark the quality and throughput of its fastest policy.

    The document may be of another version: a value of a wrong type is unknown.
    """
    cases = document.get("cases")
    rows = [case for case in cases if isinstance(case, dict)] if isinstance(cases, list) else [dict(document)]
    rates = [_number(row.get("samples_per_second")) for row in rows]
    best = max(range(len(rows)), key=lambda index: rates[index] or -1.0, default=None)
    chosen = rows[best] if best is not None else {}
    epochs = None if isinstance(cases, list) else chosen.get("epochs")  # of a training, whose last one has the quality
    last = epochs[-1] if isinstance(epochs, list) and epochs and isinstance(epochs[-1], dict) else chosen
    metric = _number(last.get("metric"))
    return RunSummary(
        policies=tuple(dict.fromkeys(row["policy"] for row in rows if isinstance(row.get("policy"), str))),
        samples_per_second=rates[best] if best is not None else None,
        loss=_number(last.get("loss")),
        metric=metric,
        metric_name=str(last.get("metric_name") or "") if metric is not None else "",
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None
