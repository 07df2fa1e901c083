"""Opens the terminal UI for a command line: live, or a replay. No other file of the command line imports Textual."""

from __future__ import annotations

import argparse
import gc
from dataclasses import replace
from pathlib import Path

from paceline.engine.inventory.choice import load_inventory

from .command_line.commands import VERBS, check_allowed
from .control_log import control_log, log_path
from .keymap import check_keys
from .preferences import preferences_path, read_preferences
from .prompt_history import PromptHistory, history_path
from .sessions.session import Session
from .theme import THEMES


def run(args: argparse.Namespace, nodes: Path, line: str) -> int:
    """Open the screen and start the verb of ``line``; returns the exit status. Raises PacelineError before anything is drawn."""
    from .app import PacelineApp, every_binding
    from .sessions.live_session import LiveSession

    path = preferences_path()
    preferences = read_preferences(path, tuple(THEMES))
    if preferences.keys:  # else the files of screens that are not shown are not imported
        read_preferences(path, tuple(THEMES), tuple(binding.id for binding in every_binding() if binding.id))
        check_keys(preferences.keys, str(path))
    preferences = replace(preferences, ascii=preferences.ascii or args.ascii, read_only=preferences.read_only or args.read_only)
    session = _session(args, nodes, line, preferences.read_only)
    app = PacelineApp(session, preferences, PromptHistory(history_path()), log_path(nodes))
    if isinstance(session, LiveSession):
        session.ask = app.ask
        session.on_failure = app.show_failure
    gc.enable()
    with control_log(log_path(nodes)):
        app.run()
    return app.return_code or 0


def _session(args: argparse.Namespace, nodes: Path, line: str, is_read_only: bool) -> Session:
    if args.verb == "replay":
        from paceline.engine.telemetry.replay import ReplaySession

        return ReplaySession(args.file, args.speed, args.at)
    from .sessions.live_session import LiveSession

    is_embedded_only = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    inventory = load_inventory(nodes, args.only, is_embedded_only, is_named=args.nodes is not None)
    if args.verb:
        check_allowed(VERBS[args.verb], args, is_read_only)
    return LiveSession(inventory, line, args.record, is_read_only)
