"""What ``profile`` takes and how true it is: ``python benchmarks/advice/profile.py [--repeats N]``.

REAL runs, emulated devices: the command line profiles the reference lab (the repository's nodes.toml) again and again in a
directory of its own. Scores are compared with the declared speeds up to one common factor, and with one another over the repeats.
Then a lab of four small devices is profiled, and trained in equal shares of the smallest one's largest batch: that one is full in
every step. About three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from math import exp, fsum, log
from pathlib import Path
from statistics import fmean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.table import row, write_csv

CHECKOUT = Path(__file__).resolve().parent.parent
SMALL = """
[[node]]
name = "small{number}"
kind = "embedded"
devices = [{{ name = "small", speed = {speed}, memory = "{memory}MiB" }}]
"""
EPOCHS = 5


def paceline(place: Path, *words: str) -> tuple[dict[str, Any], float]:
    """One headless command to its end: its document and its seconds."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
    env = {**os.environ, "HOME": str(place)}
    ended = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout), time.monotonic() - begun


def off(found: list[float], declared: list[float]) -> list[float]:
    """Relative errors of scores, after the common factor that fits best."""
    logs = [log(a / b) for a, b in zip(found, declared, strict=True)]
    factor = exp(fsum(logs) / len(logs))
    return [a / b / factor - 1 for a, b in zip(found, declared, strict=True)]


def scores(document: dict[str, Any]) -> list[float]:
    """Of all devices, in their order."""
    return [device["score"] for device in document["devices"]]


def reference(repeats: int) -> None:
    """Seconds, truth and spread on the reference lab."""
    declared = [float(speed) for speed in re.findall(r"speed = ([0-9.]+)", (CHECKOUT / "nodes.toml").read_text())]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copy(CHECKOUT / "nodes.toml", place)
        paceline(place, "status")  # keys of the lab are made once
        told = [paceline(place, "profile") for _ in range(repeats)]
    documents, seconds = [document for document, _ in told], [took for _, took in told]
    errors = [error for document in documents for error in off(scores(document), declared)]
    worst = max(map(abs, errors))
    every = [
        *zip(*(scores(document)[1:] for document in documents), strict=True),
        *zip(*([device["fit"]["c"] for device in document["devices"]] for document in documents), strict=True),
    ]
    spread = max((max(column) - min(column)) / fmean(column) for column in every)
    sums = [document["all_reduce"]["alpha"] for document in documents]
    row(
        "profile of the reference lab",
        "<= 60 s",
        f"{median(seconds):.0f} s (max {max(seconds):.0f}, n={repeats})",
        max(seconds) <= 60,
    )
    row("scores against declared emulated speeds, worst", "<= 3 %", f"{worst * 100:.2f} %", worst <= 0.03)
    row("repeat-to-repeat spread of scores and seconds a sample, worst", "printed", f"{spread * 100:.2f} %", True)
    alpha = f"{median(sums) * 1000:.1f} ms ({min(sums) * 1000:.1f} to {max(sums) * 1000:.1f})"
    row("repeat-to-repeat spread of alpha of sums, real gloo", "printed", alpha, True)
    write_csv(
        "advice_profile",
        ("repeat", "seconds", "node", "score", "fixed_seconds", "seconds_per_sample", "residual", "largest_batch"),
        [
            (number, took, device["node"], device["score"], *device["fit"].values(), device["largest_batch"])
            for number, (document, took) in enumerate(told)
            for device in document["devices"]
        ],
    )


def largest() -> None:
    """Find the largest batches of small devices, then train at them."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        nodes = [SMALL.format(number=number, speed=12, memory=memory) for number, memory in enumerate((402, 403, 404, 405))]
        (place / "nodes.toml").write_text("".join(nodes))
        document, _ = paceline(place, "profile")
        found = [device["largest_batch"] for device in document["devices"]]
        batch = 4 * min(found)  # equal shares: the smallest device is full, as far as the data go
        result, _ = paceline(place, "train", "--policy", "equal", "--global-batch-size", str(batch), "--epochs", str(EPOCHS))
        lines = [path.read_text() for path in (place / "logs" / "runs").glob("*/nodes/*/ranks/*.jsonl")]
        lines += [path.read_text() for path in (place / "logs" / "runs").glob("*/nodes/*/out.log")]
        broken = sum(len(re.findall(r"out of memory|OutOfMemory|declares", text)) for text in lines)
        states = [node["state"] for node in paceline(place, "status")[0]["nodes"]]
    is_alive = states == ["ok"] * 4
    row("largest batch found, agents alive", "4 of 4", f"{'/'.join(map(str, found))}, {states.count('ok')} of 4 alive", is_alive)
    told = f"{broken} in {EPOCHS} epochs at {batch // 4} a device, run {result['state']}"
    row("out of memory afterwards at that size", "0", told, broken == 0 and result["state"] == "done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    reference(asked.repeats)
    largest()
