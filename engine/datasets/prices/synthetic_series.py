"""Generated daily prices, for trying a forecaster without a network: a trend that comes back to its mean, under noise.

A random walk could not be forecast at all. Here tomorrow's price is pulled towards a slow cycle, so a model can do a little better
than repeating today's. Its source says "generated prices, not real ones".
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ..catalog import DataSource
from ..directory import DataDirectory
from ..source import Request
from .prices import Prices
from .sp500 import MIN_WINDOWS, WINDOW, cut_windows, series_facts

_PULL, _NOISE, _CYCLE_DAYS, _CYCLE = 0.15, 0.02, 55, 0.12
_MAX_DAYS = 10_000_000


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """Windows float32 [n, 60] and next prices float32 [n], split and scaled as those of real prices."""
    days, seed = request.count("days"), request.count("seed")
    if not WINDOW + MIN_WINDOWS <= days <= _MAX_DAYS:
        raise UsageError(f"synthetic-series of {days} days", hint=f"from {WINDOW + MIN_WINDOWS} to {_MAX_DAYS:,}")
    closes = generate_closes(days, seed)
    first = date(2000, 1, 3)
    dates = (
        tuple((first + timedelta(days=day % 3_000_000)).isoformat() for day in range(days)) if days < 2_900_000 else ("",) * days
    )
    series = Prices(dates, tuple(closes.tolist()), hashlib.sha256(closes.tobytes()).hexdigest())
    data = cut_windows(series, Path("synthetic-series"), f"generated prices, not real ones (seed {seed})")
    for name, array in data.arrays.items():
        directory.append(name, array)
    return series_facts(data) | {"source": "synthetic", "path": f"seed {seed}"}


def generate_closes(days: int, seed: int) -> npt.NDArray[np.float64]:
    """Prices [days]: logarithms pulled towards a cycle, with normal noise each day."""
    draw = np.random.Generator(np.random.Philox(seed))
    noise = draw.standard_normal(days) * _NOISE
    goal = _CYCLE * np.sin(2 * np.pi * np.arange(days) / _CYCLE_DAYS)
    logs = np.empty(days)
    value = 0.0
    for day in range(days):
        value += _PULL * (goal[day] - value) + noise[day]
        logs[day] = value
    return np.round(100 * np.exp(logs), 4)


data_source = DataSource("synthetic-series", load, {"days": 2600, "seed": 0})
