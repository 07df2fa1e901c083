"""Opens the terminal UI for a command line: live, or a replay. No other file of the command line imports Textual."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from paceline.engine.demo.sessions import embedded_lab
from paceline.engine.inventory.choice import load_inventory

from .command_line.commands import VERBS, check_allowed
from .command_line.places import CHECKOUT, state_directory
from .control_log import control_log, log_path
from .keymap import check_keys
from .preferences import Preferences, preferences_path, read_preferences, seen_file
from .prompt_history import PromptHistory, history_path
from .sessions.session import Session
from .terminal.cast import CastWriter
from .theme import THEMES


def run(args: argparse.Namespace, nodes: Path, line: str) -> int:
    """Open the screen and start the verb of ``line``; returns the exit status. Raises PacelineError before anything is drawn."""
    if args.verb is not None and VERBS[args.verb].is_drawn:
        from .stills.picture_verb import draw_moment

        return draw_moment(args)
    from .app import PacelineApp, every_binding
    from .sessions.live_session import LiveSession

    path = preferences_path()
    preferences = read_preferences(path, tuple(THEMES))
    if preferences.keys:  # else the files of screens that are not shown are not imported
        read_preferences(path, tuple(THEMES), tuple(binding.id for binding in every_binding() if binding.id))
        check_keys(preferences.keys, str(path))
    preferences = replace(preferences, ascii=preferences.ascii or args.ascii, read_only=preferences.read_only or args.read_only)
    has_tour = False
    if args.welcome or (args.verb is None and args.nodes is None and not nodes.exists()):
        choice = _welcome(preferences)
        if choice is None:
            return 0
        nodes, has_tour = choice
    session = _session(args, nodes, line, preferences.read_only)
    cast = _cast(args, line)
    app = PacelineApp(session, preferences, PromptHistory(history_path()), log_path(nodes), cast)
    app.begins_with_tour = has_tour
    app.beside = args.other if args.verb == "replay" else None
    if isinstance(session, LiveSession):
        session.ask = app.ask
        session.on_failure = app.show_failure
    gc.enable()
    with control_log(log_path(nodes)):
        app.run()
    if cast is not None:
        cast.close(app.return_code or 0)
        if cast.failure is not None:
            print(f"paceline: {cast.failure}", file=sys.stderr)
    return app.return_code or 0


def _welcome(preferences: Preferences) -> tuple[Path, bool] | None:
    """Ask for the machines: their nodes.toml, and whether the tour comes; None: the person leaves."""
    from .welcome.welcome import WelcomeApp

    is_new = not (preferences.remember_tour and seen_file().exists())
    choice = WelcomeApp(Path.cwd() / "nodes.toml", Path.home(), preferences, has_tour=is_new).run()
    if choice is None:
        return None
    return choice.nodes or embedded_lab(CHECKOUT, state_directory()), choice.has_tour


def _cast(args: argparse.Namespace, line: str) -> CastWriter | None:
    """The cast that the arguments ask for. Raises UsageError or StorageFailed before anything is drawn."""
    if args.cast is None:
        return None
    values = {"timestamp": int(time.time()), "title": f"paceline {line}".strip(), "term": os.environ.get("TERM")}
    columns, lines = os.get_terminal_size()
    return CastWriter(args.cast, (columns, lines), time.monotonic, version=args.cast_version, header=values)


def _session(args: argparse.Namespace, nodes: Path, line: str, is_read_only: bool) -> Session:
    if args.verb == "replay":
        from paceline.engine.telemetry.recording import Recording
        from paceline.engine.telemetry.replay import ReplaySession

        if args.other is not None:
            Recording(args.other)  # what is wrong with it is said before anything is drawn
        return ReplaySession(args.file, args.speed, args.at)
    from .sessions.live_session import LiveSession

    is_embedded_only = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    inventory = load_inventory(nodes, args.only, is_embedded_only, is_named=args.nodes is not None)
    if args.verb:
        check_allowed(VERBS[args.verb], args, is_read_only)
    return LiveSession(inventory, line, args.record, is_read_only)
