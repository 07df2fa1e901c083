"""Duration and accuracy of ``profile``: ``python -m benchmarks.advice.profile [--repeats N]``.

REAL runs, emulated devices: the command line profiles the reference lab (the repository's nodes.toml) repeatedly in a temporary
directory. Scores are compared with the declared speeds up to one common factor, and with each other over the repeats. Then a lab of
four small devices is profiled and trained in equal shares of the smallest device's largest batch, so that its memory is full in
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

from benchmarks.places import CHECKOUT
from benchmarks.table import print_line, write_csv

SMALL = """
[[node]]
name = "small{number}"
kind = "embedded"
devices = [{{ name = "small", speed = {speed}, memory = "{memory}MiB" }}]
"""
EPOCHS = 5


def paceline(place: Path, *words: str) -> tuple[dict[str, Any], float]:
    """Run one headless command: its document and its seconds. Raises SystemExit where it fails."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
    env = {**os.environ, "HOME": str(place)}
    ended = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout), time.monotonic() - begun


def relative_errors(measured: list[float], declared: list[float]) -> list[float]:
    """Relative errors of scores, after division by the best common factor."""
    logs = [log(a / b) for a, b in zip(measured, declared, strict=True)]
    factor = exp(fsum(logs) / len(logs))
    return [a / b / factor - 1 for a, b in zip(measured, declared, strict=True)]


def scores(document: dict[str, Any]) -> list[float]:
    """Scores of all devices, in their order."""
    return [device["score"] for device in document["devices"]]


def profile_reference_lab(repeats: int) -> None:
    """Print seconds, accuracy and spread on the reference lab."""
    declared = [float(speed) for speed in re.findall(r"speed = ([0-9.]+)", (CHECKOUT / "nodes.toml").read_text())]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copy(CHECKOUT / "nodes.toml", place)
        paceline(place, "status")  # creates the keys of the lab
        runs = [paceline(place, "profile") for _ in range(repeats)]
    documents, seconds = [document for document, _ in runs], [took for _, took in runs]
    errors = [error for document in documents for error in relative_errors(scores(document), declared)]
    worst = max(map(abs, errors))
    every = [
        *zip(*(scores(document)[1:] for document in documents), strict=True),
        *zip(*([device["fit"]["c"] for device in document["devices"]] for document in documents), strict=True),
    ]
    spread = max((max(column) - min(column)) / fmean(column) for column in every)
    sums = [document["all_reduce"]["alpha"] for document in documents]
    print_line(
        "profile of the reference lab",
        "<= 60 s",
        f"{median(seconds):.0f} s (max {max(seconds):.0f}, n={repeats})",
        max(seconds) <= 60,
    )
    print_line("scores against declared emulated speeds, worst", "<= 3 %", f"{worst * 100:.2f} %", worst <= 0.03)
    print_line("repeat-to-repeat spread of scores and seconds a sample, worst", "printed", f"{spread * 100:.2f} %", True)
    alpha = f"{median(sums) * 1000:.1f} ms ({min(sums) * 1000:.1f} to {max(sums) * 1000:.1f})"
    print_line("repeat-to-repeat spread of alpha of sums, real gloo", "printed", alpha, True)
    write_csv(
        "advice_profile",
        ("repeat", "seconds", "node", "score", "fixed_seconds", "seconds_per_sample", "residual", "largest_batch"),
        [
            (number, took, device["node"], device["score"], *device["fit"].values(), device["largest_batch"])
            for number, (document, took) in enumerate(runs)
            for device in document["devices"]
        ],
    )


def train_at_largest_batch() -> None:
    """Profile the largest batches of small devices, then train with them."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        nodes = [SMALL.format(number=number, speed=12, memory=memory) for number, memory in enumerate((402, 403, 404, 405))]
        (place / "nodes.toml").write_text("".join(nodes))
        document, _ = paceline(place, "profile")
        found = [device["largest_batch"] for device in document["devices"]]
        batch = 4 * min(found)  # equal shares: the memory of the smallest device is full
        result, _ = paceline(place, "train", "--policy", "equal", "--global-batch-size", str(batch), "--epochs", str(EPOCHS))
        lines = [path.read_text() for path in (place / "logs" / "runs").glob("*/nodes/*/ranks/*.jsonl")]
        lines += [path.read_text() for path in (place / "logs" / "runs").glob("*/nodes/*/out.log")]
        broken = sum(len(re.findall(r"out of memory|OutOfMemory|declares", text)) for text in lines)
        states = [node["state"] for node in paceline(place, "status")[0]["nodes"]]
    is_alive = states == ["ok"] * 4
    print_line(
        "largest batch found, agents alive", "4 of 4", f"{'/'.join(map(str, found))}, {states.count('ok')} of 4 alive", is_alive
    )
    value = f"{broken} in {EPOCHS} epochs at {batch // 4} a device, run {result['state']}"
    print_line("out of memory afterwards at that size", "0", value, broken == 0 and result["state"] == "done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    profile_reference_lab(parser.parse_args().repeats)
    train_at_largest_batch()
