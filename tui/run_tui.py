"""From a command line to the terminal UI: live, or a replay. The only file of the command line that imports Textual."""

from __future__ import annotations

import argparse
import gc
from dataclasses import replace
from pathlib import Path

from paceline.engine.inventory.choice import inventory_for

from .command_line.commands import VERBS, check_allowed
from .keymap import check_map
from .preferences import preferences_path, read
from .prompt_history import PromptHistory
from .prompt_history import history_path as past_place
from .sessions.session import Session
from .theme import THEMES


def run(args: argparse.Namespace, nodes: Path, line: str) -> int:
    """Open the screen with the verb of ``line`` started; returns the exit status. Raises PacelineError before anything is drawn."""
    from .app import PacelineApp, every_binding
    from .sessions.live_session import LiveSession

    path = preferences_path()
    preferences = read(path, tuple(THEMES))
    if preferences.keys:  # else no file of a screen is read that is not shown
        read(path, tuple(THEMES), tuple(binding.id for binding in every_binding() if binding.id))
        check_map(preferences.keys, str(path))
    preferences = replace(preferences, ascii=preferences.ascii or args.ascii, read_only=preferences.read_only or args.read_only)
    session = _session(args, nodes, line, preferences.read_only)
    app = PacelineApp(session, preferences, PromptHistory(past_place()), nodes.parent / "logs" / "control.log")
    if isinstance(session, LiveSession):
        session.ask = app.ask
    gc.enable()
    app.run()
    return app.return_code or 0


def _session(args: argparse.Namespace, nodes: Path, line: str, is_read_only: bool) -> Session:
    if args.verb == "replay":
        from paceline.engine.telemetry.replay import ReplaySession

        return ReplaySession(args.file, args.speed)
    from .sessions.live_session import LiveSession

    is_embedded_only = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    inventory = inventory_for(nodes, args.only, is_embedded_only)
    if args.verb:
        check_allowed(VERBS[args.verb], args, is_read_only)
    return LiveSession(inventory, line, args.record, is_read_only)
