"""From a command line to the terminal UI: live, or a replay. The only file of the command line that imports Textual."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from paceline.engine.inventory.choice import inventory_for

from .commands import VERBS
from .session import Session


def run(args: argparse.Namespace, nodes: Path) -> int:
    """Open the screen and stay until the person leaves; returns the exit status."""
    from .app import PacelineApp
    from .live import LiveSession

    session = _session(args, nodes)
    app = PacelineApp(session)
    if isinstance(session, LiveSession):
        session.ask = app.ask
    app.run()
    return app.return_code or 0


def _session(args: argparse.Namespace, nodes: Path) -> Session:
    if args.verb == "replay":
        from paceline.engine.telemetry.replay import ReplaySession

        return ReplaySession(args.file, args.speed)
    from .live import LiveSession

    is_embedded_only = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    inventory = inventory_for(nodes, args.only, is_embedded_only)
    words = sys.argv[sys.argv.index(args.verb) :] if args.verb else []
    return LiveSession(inventory, shlex.join(words), args.record)
