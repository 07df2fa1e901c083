"""The first minutes of a new user: ``git clone`` and ``make replay``, until a straggler is on the screen, and as a picture.

The clone is of the last commit of this checkout. Packages come from wherever pip takes them on this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures
from benchmarks.tui.terminal import Terminal

LIMIT_S = 240.0
NAMED = b"slower"
"""What the screen says of a straggler."""
HURRY = b">>>"
"""Keys that let the replay run eight times as fast."""


def first_minutes(place: Path) -> list[Figure]:
    """Clone, install without torch, replay and draw, as a person would who has only git, make and Python."""
    home = place / "home"
    home.mkdir()
    kept = ("PATH", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CACHE_DIR", "SSL_CERT_FILE", "TMPDIR")
    env = {**{name: os.environ[name] for name in kept if name in os.environ}, "HOME": str(home), "PYTHON": sys.executable}
    began = time.monotonic()
    subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(place / "paceline")], env=env, check=True)
    with Terminal(["make", "-s", "replay"], 120, 36, env, cwd=place / "paceline") as terminal:
        seen = terminal.read(LIMIT_S, lambda output: b"demo2" in output)
        terminal.write(HURRY)
        seen += terminal.read(LIMIT_S, lambda output: NAMED in output)
        seconds = time.monotonic() - began
        is_named = NAMED in seen
        terminal.write(b"q")
        terminal.read(5.0)
    picture = place / "straggler.svg"
    words = ["picture", str(picture), "--of", "straggler", "--at", "StragglerFound", "--screen", "alerts"]
    drawn = subprocess.run([str(place / "paceline/.venv/bin/paceline"), *words], env=env, cwd=home, check=False)
    is_drawn = drawn.returncode == 0 and NAMED in picture.read_bytes()
    return [
        Figure(
            "from the clone to a named straggler on the screen, two commands",
            "<= 240 s",
            f"{seconds:.0f} s",
            is_named and seconds <= LIMIT_S,
        ),
        Figure("a picture of it, without torch and without a terminal", "1", str(int(is_drawn)), is_drawn),
    ]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    with tempfile.TemporaryDirectory(prefix="first-minutes-") as place:
        figures = first_minutes(Path(place))
    return print_figures(figure for figure in figures)


if __name__ == "__main__":
    sys.exit(main())
