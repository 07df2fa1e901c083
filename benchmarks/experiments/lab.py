"""The command line in an embedded lab of its own, for benchmarks of whole experiments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def paceline(folder: Path, *words: str) -> dict[str, Any]:
    """The document of a command that runs in the lab of a folder. Ends the program where it fails."""
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", "-q", *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"paceline {words[0]} ended with status {ended.returncode}: {ended.stderr.strip()[-500:]}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document
