"""Entry point of ``paceline`` and ``python -m paceline.tui``: the command line with its two kinds of session."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def _open_screen(args: argparse.Namespace, nodes: Path, line: str) -> int:
    from .run_tui import run

    return run(args, nodes, line)


def _open_plain(args: argparse.Namespace, nodes: Path, line: str) -> int:
    from .sessions.plain_session import run

    return run(args, nodes, line)


def main() -> None:
    """Run the command line; the umask makes every file that it creates private."""
    os.umask(0o077)
    try:
        from .command_line.cli import main as run

        sys.exit(run(open_screen=_open_screen, open_plain=_open_plain))
    except KeyboardInterrupt:  # before a verb handles the signal
        sys.exit(130)


if __name__ == "__main__":
    main()
