"""The one registry of verbs: the same word in the shell, at the ``:`` prompt, in the palette and in the help.

A verb takes the control door and its arguments and gives a JSON document. Imports nothing heavy: a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.errors import UsageError
from paceline.engine.specs import COMPRESSIONS, POLICIES, TrainSpec

if TYPE_CHECKING:
    from paceline.engine.control import Control

Document = dict[str, Any]
"""What a verb answers: what ``--json`` prints, without its schema number."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing a person can ask for."""

    name: str
    summary: str
    perform: Callable[[Control, argparse.Namespace], Awaitable[Document]]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    is_launch: bool = False
    """Whether it starts a run or takes one up: then an interrupt asks what to do with it."""
    is_on_embedded_lab: bool = False
    """Whether it always runs on the embedded lab."""
    aliases: tuple[str, ...] = ()
    """Short words for it at the ``:`` prompt."""
    acts: bool = False
    """Whether it starts, ends or removes something on a node: refused where a session is read-only."""

    asks: bool = False
    """Whether it only tells what it would do until ``--yes`` is said: a screen asks then."""

    @property
    def needs_words(self) -> bool:
        """Whether it says nothing without more words, such as the name of a run."""
        parser = Parser(prog=self.name, add_help=False)
        self.arguments(parser)
        return any(action.required for action in parser._actions)


class Parser(argparse.ArgumentParser):
    """argparse that raises our own error in one line instead of ending the process."""

    def error(self, message: str) -> Any:
        """Called by argparse for all that is wrong."""
        raise UsageError(f"{self.prog}: {message}", hint=f"see {self.prog} --help")


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, with nine digits at most, got {text[:40]!r}")
    return value


def seconds(text: str) -> float:
    """A time that can pass: no less than 0, and a number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text[:40]!r}")
    return value


def seed(text: str) -> int:
    """What every random generator takes: 63 bits."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {(1 << 63) - 1}, got {text!r}")
    return value


def bandwidth(text: str) -> float:
    """Bytes a second, in the words of nodes.toml."""
    return _as_in_nodes("bandwidth", text)


def latency(text: str) -> float:
    """Seconds, in the words of nodes.toml."""
    return _as_in_nodes("latency", text)


def _as_in_nodes(key: str, text: str) -> float:
    from paceline.engine.inventory.values import LINK, InvalidValue

    try:
        return float(LINK[key](text))
    except InvalidValue as wrong:
        raise argparse.ArgumentTypeError(f"{wrong}, got {text[:40]!r}") from None


def _job_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?", type=Path, help="a TOML file of such options; those given here win")
    parser.add_argument("--workload", metavar="W", default="digits-cnn", help="what to train (default: digits-cnn)")
    parser.add_argument("--epochs", metavar="N", type=positive, help="passes over the data (default: the workload's own)")
    parser.add_argument("--global-batch-size", metavar="N", type=positive, help="samples per optimizer step of all ranks together")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="of model and order of samples (default: 0)")
    parser.add_argument("--accumulation", metavar="K", type=positive, default=1, help="global batches an optimizer step takes (1)")
    parser.add_argument(
        "--compression", metavar="C", choices=COMPRESSIONS, default="none", help=f"one of {', '.join(COMPRESSIONS)}"
    )
    parser.add_argument("--local-steps", metavar="H", type=positive, default=1, help="optimizer steps between two exchanges (1)")
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--wait", action="store_true", help="wait here until nobody else uses the devices, then start")
    others.add_argument("--share", action="store_true", help="start although others use the devices")
    parser.add_argument("--csv", metavar="FILE", help="own data: Date,Close (sp500-mlp) or class,title,description (agnews)")


def _profile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workload", metavar="W", default="digits-cnn", help="whose steps are timed (default: digits-cnn)")


def _advise_arguments(parser: argparse.ArgumentParser) -> None:
    _profile_arguments(parser)
    parser.add_argument("--global-batch-size", metavar="N", type=positive, help="samples per optimizer step of all ranks together")
    parser.add_argument(
        "--without", metavar="DEVICE", action="append", default=[], help="what if NODE or NODE:INDEX were not there"
    )
    parser.add_argument(
        "--with", metavar="DEVICE", action="append", default=[], dest="more", help="one more like it; 3xNODE: three"
    )
    parser.add_argument("--bandwidth", metavar="B", type=bandwidth, help='what if every link had it, such as "1 Gbit/s"')
    parser.add_argument("--latency", metavar="T", type=latency, help='what if a hop took it, such as "200 us"')


def _devices_argument(parser: argparse.ArgumentParser, choices: str) -> None:
    parser.add_argument(
        "--devices", metavar="SET", default="all", help=f"{choices} or a set such as lab[1-3],atlas:0 (default: all)"
    )


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)
    _devices_argument(parser, "all, auto (those that are recommended)")
    _notice_argument(parser)
    parser.add_argument("--policy", metavar="P", default="hybrid", help=f"one of {', '.join(POLICIES)} (default: hybrid)")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)
    _devices_argument(parser, "all, auto (those that are recommended)")
    _notice_argument(parser)
    parser.add_argument("--policy", metavar="P", default="hybrid", help=f"one or more of {','.join(POLICIES)} (default: hybrid)")


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    _job_arguments(parser)
    _devices_argument(parser, "all")
    _notice_argument(parser)
    parser.add_argument("--policies", metavar="A,B", default=",".join(POLICIES), help="what to compare (default: all four)")
    parser.add_argument("--repeats", metavar="N", type=positive, default=1, help="rounds, for a mean and its 95 %% interval (1)")


def _notice_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on-end", metavar="COMMAND", help="run this when the run has ended; PACELINE_STATE tells it how")


def _run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="the run, as paceline jobs names it")


def _cancel_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN", help="as paceline jobs names it; waiting: the job here that waits for devices")


def _logs_arguments(parser: argparse.ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("--rank", metavar="N", type=seed, help="only lines of this rank")
    parser.add_argument("--node", metavar="SET", help="only these nodes, such as lab[1-4]")
    parser.add_argument("--grep", metavar="TEXT", help="only lines in which this regular expression is found")
    parser.add_argument("--lines", metavar="N", type=seed, default=1000, help="the last so many; 0: all (default: 1000)")
    parser.add_argument("--follow", action="store_true", help="go on until the run has ended")


def _attach_arguments(parser: argparse.ArgumentParser) -> None:
    _run_argument(parser)
    _notice_argument(parser)


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    _run_argument(parser)
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="such as checkpoints or '*.pt' (default: all but logs)")
    parser.add_argument("--to", metavar="DIR", type=Path, help="a directory a node in here (default: logs/runs/RUN/files)")


def _clean_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_ids", metavar="RUN", nargs="*", help="only these runs (default: every run that ended and is here)")
    parser.add_argument("--older-than", metavar="DAYS", type=seconds, default=0.0, help="only what has not changed for so long")
    parser.add_argument("--bundles", action="store_true", help="our own modules that no program runs from")
    parser.add_argument("--data", action="store_true", help="data sets that no living run uses")
    parser.add_argument("--all", action="store_true", help="also runs of which not everything is here")
    parser.add_argument("--yes", action="store_true", help="remove; without it only tell what would be removed")


def _kill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="where it runs")
    parser.add_argument("pid", metavar="PID", type=positive, help="of a process of your own user there")
    parser.add_argument("--started", metavar="N", type=seed, help="only if it began then, as was told without --yes")
    parser.add_argument("--yes", action="store_true", help="end it; without it only tell whose it is")


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a session recorded with --record")
    parser.add_argument("--speed", metavar="X", type=float, default=1.0, help="times faster than it happened (default: 1)")


def _spec(args: argparse.Namespace, policies: tuple[str, ...], is_bench: bool) -> TrainSpec:
    from paceline.engine.experiments.policies import check_policies

    check_policies(policies)
    return TrainSpec(
        workload=args.workload,
        policies=policies,
        epochs=args.epochs,
        global_batch_size=args.global_batch_size,
        seed=args.seed,
        csv=args.csv,
        repeats=args.repeats if is_bench else 1,
        is_bench=is_bench,
        devices=args.devices,
        accumulation=args.accumulation,
        compression=args.compression,
        local_steps=args.local_steps,
        is_shared=args.share,
    )


async def _status(control: Control, args: argparse.Namespace) -> Document:
    return await control.status()


async def _train(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    async with with_on_end_hook(control, args.on_end):
        return await control.run(_spec(args, (args.policy,), is_bench=False), args.wait)


async def _bench(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_named
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    check_named(args.devices)
    async with with_on_end_hook(control, args.on_end):
        return await control.run(_spec(args, tuple(args.policies.split(",")), is_bench=True), args.wait)


async def _plan(control: Control, args: argparse.Namespace) -> Document:
    return await control.plan(_spec(args, tuple(args.policy.split(",")), is_bench=False))


async def _profile(control: Control, args: argparse.Namespace) -> Document:
    return await control.profile(args.workload)


async def _advise(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.advisor.whatif import WhatIf

    wish = WhatIf(tuple(args.without), tuple(args.more), args.bandwidth, args.latency)
    return await control.advise(TrainSpec(workload=args.workload, global_batch_size=args.global_batch_size), wish)


async def _jobs(control: Control, args: argparse.Namespace) -> Document:
    return await control.jobs()


async def _cancel(control: Control, args: argparse.Namespace) -> Document:
    return await control.cancel(args.run_id)


async def _attach(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    async with with_on_end_hook(control, args.on_end):
        return await control.attach(args.run_id)


async def _logs(control: Control, args: argparse.Namespace) -> Document:
    import re

    from paceline.engine.inventory.nodeset import expand
    from paceline.engine.jobs.logs.read import LogQuery

    from .log_printer import show

    if not hasattr(args, "json"):
        raise UsageError("logs speaks to a shell", hint=f"paceline --batch logs {args.run_id}")
    try:
        grep = re.compile(args.grep) if args.grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {args.grep!r}: {error}") from None
    nodes = tuple(expand(args.node)) if args.node is not None else None
    wish = LogQuery(args.rank, nodes, grep, args.lines)
    return await control.logs(args.run_id, wish, show if args.follow and not args.json else None)


async def _fetch(control: Control, args: argparse.Namespace) -> Document:
    return await control.fetch(args.run_id, args.patterns, args.to)


async def _clean(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.clean import KINDS, CleanRequest

    kinds = tuple(kind for kind in KINDS if getattr(args, kind, False))
    wish = CleanRequest(tuple(args.run_ids), args.older_than, kinds or (("runs",) if args.run_ids else KINDS), args.all)
    return await control.clean(wish, args.yes)


async def _kill(control: Control, args: argparse.Namespace) -> Document:
    return await control.kill(args.node, args.pid, args.started, args.yes)


async def _replay(control: Control, args: argparse.Namespace) -> Document:
    raise UsageError("a recording is replayed on its own", hint=f"paceline replay {args.file}")


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("status", "nodes, devices and what runs on them", _status, aliases=("st", "nodes")),
        Verb(
            "demo",
            "the embedded lab, then bench on it",
            _bench,
            _bench_arguments,
            is_launch=True,
            acts=True,
            is_on_embedded_lab=True,
        ),
        Verb("profile", "measure devices, disks and links", _profile, _profile_arguments, is_launch=True, acts=True),
        Verb(
            "advise",
            "predicted speed-up, best subset, remedies",
            _advise,
            _advise_arguments,
            is_launch=True,
            acts=True,
        ),
        Verb("plan", "what train would do, without doing it", _plan, _plan_arguments),
        Verb("train", "one job: a workload under one policy", _train, _train_arguments, is_launch=True, acts=True),
        Verb("bench", "policies against each other", _bench, _bench_arguments, is_launch=True, acts=True),
        Verb("jobs", "all runs the nodes know of", _jobs, aliases=("ps",)),
        Verb("attach", "follow a run to its end, whoever launched it", _attach, _attach_arguments, is_launch=True),
        Verb("logs", "what a run wrote, node by node or rank by rank", _logs, _logs_arguments),
        Verb("cancel", "stop a run and all its processes", _cancel, _cancel_arguments, aliases=("stop",), acts=True),
        Verb("fetch", "bring checkpoints and other files of a run home", _fetch, _fetch_arguments),
        Verb("clean", "remove what nodes keep of ours and nobody needs", _clean, _clean_arguments, acts=True, asks=True),
        Verb("kill", "end a process of your own on a node", _kill, _kill_arguments, acts=True, asks=True),
        Verb("replay", "a recorded session", _replay, _replay_arguments),
    )
}
"""Every verb by its word."""


def verb_of(word: str) -> Verb | None:
    """A verb by its word or by one of its short ones."""
    return VERBS.get(word) or next((verb for verb in VERBS.values() if word in verb.aliases), None)


def check_allowed(verb: Verb, args: argparse.Namespace, is_read_only: bool) -> None:
    """Refuse what acts on nodes while a session is read-only; to tell what ``--yes`` would do is allowed. Raises UsageError."""
    if is_read_only and verb.acts and getattr(args, "yes", True):
        hint = "leave out --read-only, or take read_only out of config.toml"
        raise UsageError(f"{verb.name} is refused: this session is read-only", hint=hint)


def _with_job(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What was asked, with what its job file says where no option does. Raises ConfigurationError where the file is wrong."""
    args = parser.parse_args(words)
    if getattr(args, "job", None) is None:
        return args
    from paceline.engine.jobs.launch.job_file import read_job

    for action in parser._actions:
        action.default = argparse.SUPPRESS  # whatever stands in the next namespace was typed
    typed = vars(parser.parse_args(words))
    job = read_job(args.job)
    if typed.get("wait") or typed.get("share"):  # one of them excludes the other of the file
        job = {key: value for key, value in job.items() if key not in ("wait", "share")}
    return argparse.Namespace(**{**vars(args), **{key: value for key, value in job.items() if hasattr(args, key)}, **typed})


def parse(line: str) -> tuple[Verb, argparse.Namespace]:
    """A line as typed at the ``:`` prompt, with the job file that it names. Raises UsageError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read {line!r}: {error}") from None
    verb = verb_of(words[0]) if words else None
    if verb is None:
        raise UsageError(f"unknown verb {words[0] if words else ''!r}", hint="known: " + ", ".join(VERBS))
    parser = Parser(prog=verb.name, description=verb.summary, add_help=False)
    verb.arguments(parser)
    return verb, _with_job(parser, words[1:])
