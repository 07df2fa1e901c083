"""Entry point of the command line: parses it and opens the screen, the plain session or --batch. Imports no Textual or torch."""

from __future__ import annotations

import argparse
import gc
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from paceline.engine.demo.sessions import find_recording, lab_directory, prepare_lab
from paceline.engine.errors import PacelineError, UsageError

from .arguments import PROGRAM, Parser, add_arguments, seconds
from .commands import VERBS, Verb, demo_session, parse, unknown_verb, verb_of
from .places import CHECKOUT, state_directory
from .script_words import split_script

EXIT_STATUSES = """exit status: 0 done, 1 the work failed, 2 usage or configuration, 3 a node was unreachable,
4 authentication or host key refused, 5 the plan is impossible, 130 interrupted"""

OPTIONS_WITH_VALUE = ("--nodes", "--only", "--record", "--cast", "--cast-version", "--patience")
"""Options of every verb that a value follows."""
GENERAL_FLAGS = ("--batch", "--json", "-q", "--quiet", "--read-only", "--plain", "--ascii", "--welcome")
"""Options of every verb without a value. Both kinds may stand before the verb or after it."""
OpenSession = Callable[[argparse.Namespace, Path, str], int]
"""Opens a session with a person: arguments, nodes.toml and the line of the verb; returns the exit status."""
MAX_ERROR_CHARS = 2000
"""An error is one line, which may contain the banner of a node."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, with one sub-parser per verb."""
    parser = Parser(
        prog=PROGRAM,
        description="A terminal control centre for heterogeneous GPU labs. Without a verb the screen opens, and so it does\n"
        "for verbs that launch or follow a run; the others print and return.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nodes", metavar="FILE", type=Path, help="the machines (default: nodes.toml here, else that of the checkout)"
    )
    parser.add_argument("--only", metavar="SET", help="only these nodes, such as lab[1-4],atlas")
    parser.add_argument(
        "--record", metavar="FILE", type=Path, help="record the session for paceline replay; *.jsonl: as plain lines"
    )
    parser.add_argument("--cast", metavar="FILE", type=Path, help="film the screen as an asciicast, with markers")
    parser.add_argument(
        "--cast-version", metavar="N", type=int, choices=(2, 3), default=2, help="version of that format: 2 or 3 (2)"
    )
    parser.add_argument("--batch", action="store_true", help="no screen: data on stdout, progress on stderr")
    parser.add_argument("--json", action="store_true", help="no screen: one JSON document on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no screen and no progress: results and errors only")
    parser.add_argument(
        "--patience", metavar="S", type=seconds, help="seconds to wait for a silent node (600 for a run, 5 for a question)"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every verb that acts on a node")
    parser.add_argument("--plain", action="store_true", help="no screen: one sentence per event, for screen readers")
    parser.add_argument("--ascii", action="store_true", help="draw the screen with characters of ASCII only")
    parser.add_argument("--welcome", action="store_true", help="ask which machines to use, as at the first start")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for verb in VERBS.values():
        add_arguments(
            verbs.add_parser(verb.name, help=verb.summary, description=verb.summary, aliases=verb.aliases), verb.arguments
        )
    return parser


def _split_words(words: Sequence[str]) -> tuple[list[str], str]:
    """The words without those of a script, and the line of the verb as the ``:`` prompt takes it; empty without a verb.

    Options of every verb that follow the verb are moved before it. Raises UsageError for a word that is no verb.
    """
    position = 0
    while position < len(words) and words[position].startswith("-"):
        position += 2 if words[position] in OPTIONS_WITH_VALUE else 1
    if position >= len(words):
        return list(words), ""
    if words[position] == "help" and (position + 1 == len(words) or verb_of(words[position + 1])):
        return [*words[position + 1 : position + 2], "--help"], ""
    verb = verb_of(words[position])
    if verb is None:
        raise unknown_verb(words[min(len(words) - 1, position + (words[position] == "help"))], hint=f"see {PROGRAM} --help")
    rest = list(words[position + 1 :])
    ours = split_script(verb.arguments, rest)[0] if verb.takes_script else rest
    general, own = _general_words(verb, ours)
    return [*words[:position], *general, verb.name, *own], shlex.join([verb.name, *own, *rest[len(ours) :]])


def _general_words(verb: Verb, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of every verb among the words of one, and the other words."""
    options = {argument.name: argument for argument in verb.arguments if argument.is_option}
    general: list[str] = []
    own: list[str] = []
    position = 0
    while position < len(words):
        name = words[position].partition("=")[0]
        is_own = name in options or name not in (*GENERAL_FLAGS, *OPTIONS_WITH_VALUE)
        has_value = options[name].has_value if name in options else name in OPTIONS_WITH_VALUE
        taken = words[position : position + (2 if has_value and "=" not in words[position] else 1)]
        (own if is_own else general).extend(taken)
        position += len(taken)
    return general, own


def nodes_file(args: argparse.Namespace) -> Path:
    """The nodes.toml to use: --nodes, else that of the current directory, else that of the checkout.

    The lab of a demo session is written first, in a directory of its own.
    """
    checkout = CHECKOUT / "nodes.toml"
    try:
        here = Path.cwd() / "nodes.toml"
    except FileNotFoundError:
        raise UsageError("the current directory was removed", hint="change to another one: cd ~") from None
    is_demo = args.verb is not None and VERBS[args.verb].is_on_embedded_lab
    if is_demo and (name := demo_session(args)) is not None:
        if args.nodes is not None:
            raise UsageError("a demo session has a lab of its own", hint="leave out --nodes")
        return prepare_lab(name, lab_directory(name, CHECKOUT, state_directory())).resolve()
    path: Path = args.nodes or (here if here.exists() and not is_demo else checkout)
    return path.resolve()


def has_terminal() -> bool:
    """Whether a screen can be drawn: standard input and output are a capable terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def is_shown_on_screen(args: argparse.Namespace) -> bool:
    """Whether the screen opens: in a terminal, without a verb or with one that launches or follows something."""
    is_headless = args.batch or args.json or args.quiet or args.plain or not has_terminal()
    return not is_headless and (args.verb is None or VERBS[args.verb].is_launch)


def has_dumb_terminal() -> bool:
    """Whether standard input and output are a terminal that prints lines only."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") == "dumb"


def _open_missing_streams() -> None:
    """Replace a standard stream that is closed, as in ``paceline jobs 2>&-`` where Python sets it to None, by /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the process ends


def _prepare_environment() -> None:
    """Take what is missing on small machines: characters beyond ASCII, a name of the user, a home."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not {"USER", "LOGNAME", "HOME"} <= os.environ.keys():
        from paceline.engine.ssh.openssh.config_file import local_user

        os.environ.setdefault("LOGNAME", local_user())
        if "HOME" not in os.environ and os.path.expanduser("~") == "~":  # a container's user without a line in passwd
            os.environ["HOME"] = "/"


def _require(open_session: OpenSession | None) -> OpenSession:
    if open_session is None:
        raise UsageError("this program has no screen", hint="add --batch")
    return open_session


def main(argv: list[str] | None = None, open_screen: OpenSession | None = None, open_plain: OpenSession | None = None) -> int:
    """Run one command line; returns its exit status. Without ``open_screen`` and ``open_plain`` it is headless."""
    _open_missing_streams()
    _prepare_environment()
    try:
        words, line = _split_words(sys.argv[1:] if argv is None else argv)
        args = build_parser().parse_args(words)
        if args.version:
            from importlib.metadata import version

            print(f"paceline {version('paceline')}")
            return 0
        if args.verb is not None and VERBS[args.verb].takes_script:
            vars(args).update(vars(parse(line)[1]))
        if args.verb == "replay":
            args.file = find_recording(args.file, CHECKOUT)
            args.other = args.other and find_recording(args.other, CHECKOUT)
        if args.verb == "picture" and args.of is not None:
            args.of = find_recording(args.of, CHECKOUT)
        if args.verb is not None and VERBS[args.verb].is_drawn:
            return _require(open_screen)(args, Path(), line)
        if args.cast is not None and not is_shown_on_screen(args):
            raise UsageError(
                "--cast films the screen, and this opens none", hint="in a terminal and without --batch; --record keeps events"
            )
        if args.plain or (args.verb is None and not args.batch and has_dumb_terminal()):
            return _require(open_plain)(args, nodes_file(args), line)
        if args.welcome and (args.verb is not None or not is_shown_on_screen(args)):
            raise UsageError("--welcome asks on the screen", hint="use it in a terminal, alone")
        if args.verb is None and (args.batch or args.json or args.quiet or not has_terminal()):
            raise UsageError("name a verb", hint="paceline --help; without a verb the screen opens, which needs a terminal")
        if not is_shown_on_screen(args):
            from .batch import run

            return run(args, nodes_file(args))
        gc.disable()  # until the screen opens: nothing created so early is garbage, and collecting delays the first paint
        return _require(open_screen)(args, nodes_file(args), line)
    except PacelineError as error:
        from ..terminal.format import sanitize

        print(f"paceline: {sanitize(error, MAX_ERROR_CHARS)}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # the reader of the output has closed it, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
