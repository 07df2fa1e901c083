"""The command line: which verb, on which nodes, with a screen or without. Starts without Textual, torch or pandas."""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from pathlib import Path

from paceline.engine.errors import PacelineError, UsageError

from .commands import VERBS, Parser, parse, seconds

EXIT_STATUSES = """exit status: 0 done, 1 the work failed, 2 usage or configuration, 3 a node was unreachable,
4 authentication or host key refused, 5 the plan is impossible, 130 interrupted"""

LONGEST = 2000
"""Characters of an error's one line; a banner of a node may be part of it."""


def build_parser() -> argparse.ArgumentParser:
    """All options, and a sub-parser a verb."""
    parser = Parser(
        prog="paceline",
        description="A terminal control centre for heterogeneous GPU labs.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", metavar="FILE", type=Path, help="the machines (default: nodes.toml here, else in the checkout)")
    parser.add_argument("--only", metavar="SET", help="only these nodes, such as lab[1-4],atlas")
    parser.add_argument("--record", metavar="FILE", type=Path, help="keep the session for paceline replay")
    parser.add_argument("--batch", action="store_true", help="no screen: data on stdout, narration on stderr")
    parser.add_argument("--json", action="store_true", help="with --batch: one JSON document on stdout")
    parser.add_argument(
        "--patience", metavar="S", type=seconds, default=600.0, help="seconds --batch waits for a silent node (600)"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every verb that acts on a node")
    parser.add_argument("--plain", action="store_true", help="no screen but a talk: one sentence an event, for screen readers")
    parser.add_argument("--ascii", action="store_true", help="draw the screen with characters of ASCII only")
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for verb in VERBS.values():
        verb.arguments(verbs.add_parser(verb.name, help=verb.summary, description=verb.summary))
    return parser


def home_of(args: argparse.Namespace) -> Path:
    """nodes.toml to use: the one named, else the current directory's, else the checkout's."""
    checkout = Path(__file__).resolve().parents[2] / "nodes.toml"
    here = Path.cwd() / "nodes.toml"
    is_demo = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    path: Path = args.nodes or (here if here.exists() and not is_demo else checkout)
    return path.resolve()


def has_terminal() -> bool:
    """Whether a screen can be drawn: both ends are a terminal that knows how."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def is_dumb() -> bool:
    """Whether a person sits at a terminal that knows only lines."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") == "dumb"


def _open_missing_streams() -> None:
    """A stream that was closed, as in ``paceline jobs 2>&-``, is None to Python: then nothing is read, and nobody listens."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open for as long as the process


def main(argv: list[str] | None = None) -> int:
    """Run one command line to its exit status."""
    _open_missing_streams()
    try:
        args = build_parser().parse_args(argv)
        if args.version:
            from importlib.metadata import version

            print(f"paceline {version('paceline')}")
            return 0
        words = sys.argv[1:] if argv is None else argv
        line = shlex.join(words[words.index(args.verb) :]) if args.verb else ""
        if getattr(args, "job", None) is not None:
            vars(args).update(vars(parse(line)[1]))
        if args.plain or (args.verb is None and not args.batch and is_dumb()):
            from ..sessions.plain_session import run as run_plain

            return run_plain(args, home_of(args), line)
        if args.verb is None and (args.batch or not has_terminal()):
            raise UsageError("name a verb", hint="paceline --help; without a verb the screen opens, which needs a terminal")
        if args.batch or args.json or not has_terminal():
            from .batch import run

            return run(args, home_of(args))
        gc.disable()  # until the screen opens: nothing made so early is garbage, and looking for it delays the first paint
        from ..run_tui import run as run_screen

        return run_screen(args, home_of(args), line)
    except PacelineError as error:
        from ..terminal.format import untrusted

        print(f"paceline: {untrusted(error, LONGEST)}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # the reader of our output left, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
