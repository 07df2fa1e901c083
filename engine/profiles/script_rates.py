"""How fast an emulated device of speed 1 trains a script: fixed by its first run, kept by its digest, so that its runs compare."""

from __future__ import annotations

import math
from pathlib import Path

from ..protocol.json_files import read_json, write_json
from ..protocol.private_files import make_directory

RATES_DIRECTORY = "script-rates"
"""Below the directory of profiles."""


def kept_rate(profiles: Path, digest: str) -> float | None:
    """Samples per second of a script by its digest; None: it has not run on emulated devices yet."""
    rate = (read_json(_file(profiles, digest)) or {}).get("rate")
    return rate if isinstance(rate, float) and math.isfinite(rate) and rate > 0 else None


def keep_rate(profiles: Path, digest: str, rate: float) -> None:
    """Keep the rate of a script, if none is kept. Raises StorageFailed, or OSError where the directory cannot be made."""
    if kept_rate(profiles, digest) is None:
        make_directory(profiles / RATES_DIRECTORY)
        write_json(_file(profiles, digest), {"schema": 1, "digest": digest, "rate": rate})


def _file(profiles: Path, digest: str) -> Path:
    return profiles / RATES_DIRECTORY / f"{digest}.json"
