"""The command line in an embedded lab of its own, for benchmarks of whole experiments."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import Figure, print_figures


def paceline(folder: Path, *words: str) -> dict[str, Any]:
    """The document of a command that runs in the lab of a folder. Ends the program where it fails."""
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", "-q", *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"paceline {words[0]} ended with status {ended.returncode}: {ended.stderr.strip()[-500:]}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def run(measure: Callable[[Path, int], Sequence[Figure]], description: str | None) -> None:
    """The program of a benchmark: ``measure`` gets a folder, kept with ``--keep``, and how often to repeat. Ends the process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        sys.exit(print_figures(measure(options.keep, options.repeats)))
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(print_figures(measure(Path(directory), options.repeats)))
