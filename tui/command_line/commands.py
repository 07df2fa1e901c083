"""The one registry of verbs: the same word in the shell, at the ``:`` prompt, in the palette and in the help.

A verb takes the control door and its arguments and returns a JSON document. Imports nothing heavy: a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paceline.engine.demo.sessions import SESSIONS
from paceline.engine.errors import UsageError
from paceline.engine.experiments.fit import MULTIPLIERS
from paceline.engine.experiments.scale import ORDERS
from paceline.engine.inventory.link_presets import LINK_PRESETS
from paceline.engine.jobs.launch.job_options import exclusive_groups, job_file_options, train_spec
from paceline.engine.jobs.logs.since import SINCE_EXAMPLES
from paceline.engine.jobs.mirror.levels import LEVELS
from paceline.engine.publishing.formats import DEFAULT_FORMATS, EXPORTS, FORMATS, LAYOUTS
from paceline.engine.reports.document_type import Document
from paceline.engine.states import COMPRESSIONS, POLICIES, PRECISIONS
from paceline.engine.telemetry.moments import MOMENT_EXAMPLES
from paceline.engine.workloads import WORKLOADS
from paceline.engine.workloads.datasets import DATASETS
from paceline.engine.workloads.models import MODELS

from .arguments import (
    JOB_FILE,
    RUN,
    Argument,
    Parser,
    add_arguments,
    bandwidth,
    did_you_mean,
    experiment_arguments,
    fraction,
    job_arguments,
    latency,
    memory_size,
    moment,
    positive,
    seconds,
    seed,
    since,
    terminal_size,
)
from .cluster_verbs import EXPORT_ARGUMENTS, SETUP_ARGUMENTS, export, setup
from .data_verb import DATA_ARGUMENTS, data, data_files
from .script_words import script_of_file, split_script

if TYPE_CHECKING:
    from paceline.engine.control import Control


@dataclass(frozen=True, slots=True)
class Verb:
    """One command of the control centre."""

    name: str
    summary: str
    perform: Callable[[Control, argparse.Namespace], Coroutine[Any, Any, Document]]
    arguments: tuple[Argument, ...] = ()
    is_launch: bool = False
    """Whether it launches or follows something: in a terminal the screen opens on it. The other verbs print and return."""
    is_on_embedded_lab: bool = False
    """Whether it always runs on the embedded lab."""
    aliases: tuple[str, ...] = ()
    """Short names at the ``:`` prompt."""
    acts: bool = False
    """Whether it starts, ends or removes something on a node: refused in a read-only session."""
    read_files: Callable[[Path, argparse.Namespace], Document] | None = None
    """Of a verb that reads files here only: its document, from the runs directory and the arguments. No node is connected."""
    is_drawn: bool = False
    """Whether it draws a screen and needs no terminal for it."""
    needs_consent: bool = False
    """Whether it only reports what it would do until ``--yes`` is given: a screen asks then."""

    @property
    def takes_script(self) -> bool:
        """Whether a script with its own arguments may follow its options, where a job file may stand."""
        return any(argument.key == JOB_FILE.key for argument in self.arguments)

    @property
    def needs_words(self) -> bool:
        """Whether it is refused without arguments, such as the id of a run."""
        return any(argument.is_required for argument in self.arguments)


async def _status(control: Control, args: argparse.Namespace) -> Document:
    return await control.status()


async def _train(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    async with with_on_end_hook(control, args.on_end):
        resume_from = Path(args.resume_from) if args.resume_from is not None else None
        return await control.run(train_spec("train", vars(args)), args.wait, resume_from)


async def _resume(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_policies
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    given = {"epochs": args.epochs, "devices": args.devices, "is_shared": args.share or None}
    changes = {name: value for name, value in given.items() if value is not None}
    if args.policy is not None:
        changes["policies"] = check_policies((args.policy,))
    async with with_on_end_hook(control, args.on_end):
        return await control.resume(args.run_id, changes, args.wait, args.changed)


async def _bench(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_explicit_devices
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    check_explicit_devices(args.devices)
    async with with_on_end_hook(control, args.on_end):
        return await control.run(train_spec("bench", vars(args)), args.wait)


async def _scale(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_explicit_devices, check_policies
    from paceline.engine.jobs.experiments.scale import ScaleRequest
    from paceline.engine.specs import TrainSpec

    check_explicit_devices(args.devices)
    names = ("workload", "epochs", "global_batch_size", "seed", "compression", "precision", "csv", "devices")
    job = TrainSpec(
        policies=check_policies((args.policy,)),
        is_shared=args.share,
        **{name: getattr(args, name) for name in names},
    )
    links = tuple(word.strip() for word in args.links.split(",")) if args.links is not None else ()
    request = ScaleRequest(job, args.order, args.sets, args.weak, links, args.repeats)
    return await control.scale(request, args.name, args.resume)


async def _search(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_explicit_devices
    from paceline.engine.jobs.experiments.search import SearchRequest

    check_explicit_devices(args.devices)
    names = ("model", "dataset", "script", "random", "tpe", "halving", "metric", "epochs", "devices", "seed")
    request = SearchRequest(
        batch=args.at_once,
        **{name: getattr(args, name) for name in names},
        grid=tuple(args.grid),
        is_more_better=None if args.direction is None else args.direction == "max",
        is_sequential=args.sequential,
        is_shared=args.share,
    )
    return await control.search(request, args.name, args.resume)


async def _fit(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.fit import parse_multipliers
    from paceline.engine.experiments.policies import check_explicit_devices
    from paceline.engine.jobs.experiments.fit import FitRequest

    check_explicit_devices(args.devices)
    request = FitRequest(
        multipliers=parse_multipliers(args.multipliers),
        is_streamed=args.streamed,
        is_shared=args.share,
        **{name: getattr(args, name) for name in ("dataset", "rows", "memory", "time_limit", "repeats", "devices", "seed")},
    )
    return await control.fit(request, args.name, args.resume)


async def _suite(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.experiments.policies import check_explicit_devices, check_policies
    from paceline.engine.jobs.experiments.suite import SuiteRequest
    from paceline.engine.jobs.experiments.suite_file import read_suite_file

    usual = {"workloads": ["digits-cnn"], "policies": list(POLICIES), "repeats": 3, "devices": "all", "seed": 0}
    values: dict[str, Any] = {**usual, **({} if args.file is None else read_suite_file(args.file))}
    for name in ("workloads", "policies"):
        if (given := getattr(args, name)) is not None:
            values[name] = [word.strip() for word in given.split(",") if word.strip()]
    for name in ("repeats", "epochs"):
        values[name] = getattr(args, name) or values.get(name)
    values["devices"] = args.devices if args.devices != "all" else values["devices"]
    check_explicit_devices(values["devices"])
    is_quick = args.quick or values.get("quick", False)
    request = SuiteRequest(
        workloads=tuple(values["workloads"]),
        policies=check_policies(values["policies"]),
        repeats=values["repeats"],
        epochs=None if is_quick and args.epochs is None else values["epochs"],
        is_quick=is_quick,
        devices=values["devices"],
        seed=args.seed or values["seed"],
        is_shared=args.share or values.get("share", False),
    )
    return await control.suite(request, args.name or values.get("name"), args.resume)


async def _plan(control: Control, args: argparse.Namespace) -> Document:
    return await control.plan(train_spec("plan", vars(args)))


async def _profile(control: Control, args: argparse.Namespace) -> Document:
    return await control.profile(train_spec("profile", vars(args)))


async def _advise(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.advisor.whatif import WhatIf

    what_if = WhatIf(tuple(args.without), tuple(args.more), args.bandwidth, args.latency)
    return await control.advise(train_spec("advise", vars(args)), what_if)


async def _jobs(control: Control, args: argparse.Namespace) -> Document:
    return await control.jobs()


async def _cancel(control: Control, args: argparse.Namespace) -> Document:
    return await control.cancel(args.run_id)


async def _drain(control: Control, args: argparse.Namespace) -> Document:
    return await control.drain(args.node, args.run)


async def _grow(control: Control, args: argparse.Namespace) -> Document:
    return await control.grow(args.run_id, args.devices)


async def _attach(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.on_end_hook import with_on_end_hook

    async with with_on_end_hook(control, args.on_end):
        return await control.attach(args.run_id)


async def _logs(control: Control, args: argparse.Namespace) -> Document:
    import re

    from paceline.engine.inventory.nodeset import expand_node_set
    from paceline.engine.jobs.logs.read import LogQuery

    from .log_printer import print_line

    if not hasattr(args, "json"):
        raise UsageError("logs prints to a shell only", hint=f"paceline --batch logs {args.run_id}")
    try:
        grep = re.compile(args.grep) if args.grep is not None else None
    except re.error as error:
        raise UsageError(f"--grep {args.grep!r}: {error}") from None
    nodes = tuple(expand_node_set(args.node)) if args.node is not None else None
    query = LogQuery(args.rank, nodes, grep, args.lines, args.level, args.since)
    return await control.logs(args.run_id, query, print_line if args.follow and not args.json else None)


async def _fetch(control: Control, args: argparse.Namespace) -> Document:
    return await control.fetch(args.run_id, args.patterns, args.to)


async def _clean(control: Control, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.clean import CLEAN_KINDS, CleanRequest

    kinds = tuple(kind for kind in CLEAN_KINDS if getattr(args, kind, False))
    request = CleanRequest(tuple(args.run_ids), args.older_than, kinds or (("runs",) if args.run_ids else CLEAN_KINDS), args.all)
    return await control.clean(request, args.yes)


async def _kill(control: Control, args: argparse.Namespace) -> Document:
    return await control.kill(args.node, args.pid, args.started, args.yes)


def _compare_files(runs: Path, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.runs.compare import compare_runs

    return compare_runs(runs, args.a, args.b, args.max_regression)


async def _compare(control: Control, args: argparse.Namespace) -> Document:
    return _compare_files(control.runs, args)


def _report_files(runs: Path, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.experiments.report import export_runs, report_runs

    if args.to is not None:
        return export_runs(runs, args.results, args.out, args.to)
    formats = None if args.formats is None else [word.strip() for word in args.formats.split(",")]
    return report_runs(runs, args.results, args.out, formats, args.like)


async def _report(control: Control, args: argparse.Namespace) -> Document:
    return await asyncio.to_thread(_report_files, control.runs, args)


def _example_file(runs: Path, args: argparse.Namespace) -> Document:
    from paceline.engine.jobs.scripts.examples import example

    return example(args.name)


async def _example(control: Control, args: argparse.Namespace) -> Document:
    return _example_file(control.runs, args)


async def _demo(control: Control, args: argparse.Namespace) -> Document:
    if (name := demo_session(args)) is None:
        return await _bench(control, args)

    async def perform(line: str) -> Document:
        verb, act = parse(line)
        return await verb.perform(control, act)

    return await control.demo(name, perform)


def demo_session(args: argparse.Namespace) -> str | None:
    """The demo session that the arguments of ``demo`` name; None: the benchmark of the embedded lab."""
    name = str(getattr(args, "job", None))
    return name if name in SESSIONS else None


async def _picture(control: Control, args: argparse.Namespace) -> Document:
    raise UsageError("a picture is drawn by the screen", hint="F12 or :picture FILE there, or paceline picture FILE --of RECORDING")


async def _replay(control: Control, args: argparse.Namespace) -> Document:
    raise UsageError("a replay is a session of its own", hint=f"leave with q, then: paceline replay {args.file}")


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("status", "nodes, devices and what runs on them", _status, aliases=("st", "nodes")),
        Verb(
            "demo",
            f"the embedded lab, then bench on it, or a session: {', '.join(SESSIONS)}",
            _demo,
            (
                replace(JOB_FILE, help=f"a session ({', '.join(SESSIONS)}); or for bench {JOB_FILE.help}", choices=tuple(SESSIONS)),
                *job_arguments("bench"),
            ),
            is_launch=True,
            acts=True,
            is_on_embedded_lab=True,
        ),
        Verb(
            "profile",
            "measure devices, disks and links",
            _profile,
            (JOB_FILE, *job_arguments("profile")),
            is_launch=True,
            acts=True,
        ),
        Verb(
            "advise",
            "predicted speed-up, best subset, remedies",
            _advise,
            (
                JOB_FILE,
                *job_arguments("advise"),
                Argument("--without", "what if NODE or NODE:INDEX were not there", "DEVICE", is_repeatable=True),
                Argument("--with", "what if there were one more like it; 3xNODE: three", "DEVICE", dest="more", is_repeatable=True),
                Argument("--bandwidth", 'what if every link had it, such as "1 Gbit/s"', "B", bandwidth),
                Argument("--latency", 'what if every hop took it, such as "200 us"', "T", latency),
            ),
            acts=True,
        ),
        Verb("plan", "what train would do, without doing it", _plan, (JOB_FILE, *job_arguments("plan"))),
        Verb(
            "train",
            "one job: a workload, or a script of your own, under one policy",
            _train,
            (JOB_FILE, *job_arguments("train")),
            is_launch=True,
            acts=True,
            aliases=("run",),
        ),
        Verb("bench", "policies against each other", _bench, (JOB_FILE, *job_arguments("bench")), is_launch=True, acts=True),
        Verb(
            "scale",
            "growing sets of devices: speed-up, efficiency, where it ends",
            _scale,
            (
                Argument("--workload", "what to train (default: digits-cnn)", "W", default="digits-cnn", choices=tuple(WORKLOADS)),
                Argument("--order", "which come first (default: fastest)", "O", choices=ORDERS, is_strict=True, default=ORDERS[0]),
                Argument("--sets", 'these sets instead of growing ones, such as "lab1;lab1,lab2"', "SETS"),
                Argument("--weak", "let the global batch grow with the devices (weak scaling)"),
                Argument("--links", f"over emulated networks, one after another: {', '.join(LINK_PRESETS)}", "A,B"),
                Argument("--policy", f"one of {', '.join(POLICIES)} (default: hybrid)", "P", default="hybrid", choices=POLICIES),
                Argument("--repeats", "rounds over all sets, interleaved (default: 3)", "N", positive, default=3),
                Argument("--epochs", "passes over the data in each run (default: 3)", "N", positive, default=3),
                Argument("--global-batch-size", "samples per optimizer step of all ranks together", "N", positive),
                Argument(
                    "--compression", f"one of {', '.join(COMPRESSIONS)}", "C", choices=COMPRESSIONS, is_strict=True, default="none"
                ),
                Argument("--precision", f"one of {', '.join(PRECISIONS)}", "P", choices=PRECISIONS, is_strict=True),
                Argument("--csv", "own data, as for train", "FILE"),
                *experiment_arguments("scale"),
            ),
            is_launch=True,
            acts=True,
        ),
        Verb(
            "suite",
            "policies on several workloads, in interleaved rounds",
            _suite,
            (
                Argument("file", "a suite in TOML with such keys: workloads, policies, repeats", "SUITE", Path, nargs="?"),
                Argument("--workloads", "what to train (default: digits-cnn)", "A,B", choices=tuple(WORKLOADS)),
                Argument("--policies", "policies to compare (default: all four)", "A,B", choices=POLICIES),
                Argument("--repeats", "rounds over all workloads (default: 3)", "N", positive),
                Argument("--epochs", "passes over the data in each case (default: that of the workload)", "N", positive),
                Argument("--quick", "one round of two epochs"),
                *experiment_arguments("suite"),
            ),
            is_launch=True,
            acts=True,
        ),
        Verb(
            "search",
            "hyperparameters: each trial on one device, all devices at once",
            _search,
            (
                JOB_FILE,
                Argument("--model", "what to train (default: mlp)", "M", default="mlp", choices=tuple(MODELS)),
                Argument(
                    "--dataset",
                    "with which data (default: synthetic-series)",
                    "D",
                    default="synthetic-series",
                    choices=tuple(DATASETS),
                ),
                Argument(
                    "--grid",
                    "values of a parameter, such as lr=0.1,0.01 (default: 18); a range lr=0.0001..0.1 with --tpe and --halving",
                    "P=A,B",
                    is_repeatable=True,
                ),
                Argument("--random", "draw so many combinations of the grid instead of trying all", "N", positive),
                Argument("--tpe", "let Optuna's TPE choose so many trials, by the results of those before", "N", positive),
                Argument("--halving", "begin so many trials with few epochs; the best third goes on with more", "N", positive),
                Argument("--at-once", "trials that TPE chooses at once (default: twice the devices)", "N", positive),
                Argument("--sequential", "measure the same trials one after another on the fastest device too"),
                Argument("--metric", "what trials are judged by (default: that of the model)", "NAME"),
                Argument(
                    "--direction", "which metric is better (default: the model's)", "D", choices=("min", "max"), is_strict=True
                ),
                Argument("--epochs", "passes over the data in each trial (default: that of the model)", "N", positive),
                *experiment_arguments("search"),
            ),
            is_launch=True,
            acts=True,
        ),
        Verb(
            "fit",
            "the largest data set that fits: each node alone, and all together",
            _fit,
            (
                Argument(
                    "--multipliers",
                    "multiples of the data (default: 1,10,50,100,200,1000)",
                    "N,N",
                    default=",".join(map(str, MULTIPLIERS)),
                ),
                Argument(
                    "--memory",
                    'imposed on each process, such as "600MB" (default: 600MB)',
                    "SIZE",
                    memory_size,
                    default=600_000_000,
                ),
                Argument("--time-limit", "seconds that a trial may take (default: 300)", "S", seconds, default=300.0),
                Argument("--rows", "rows of the multiple 1 (default: 16000)", "N", positive, default=16_000),
                Argument(
                    "--dataset",
                    "whose rows are multiplied (default: synthetic-series)",
                    "D",
                    default="synthetic-series",
                    choices=("synthetic-series", "sp500"),
                    is_strict=True,
                ),
                Argument("--streamed", "nodes stream their rows from shards too, instead of holding all in memory"),
                Argument("--repeats", "rounds, whose verdicts are compared (default: 1)", "N", positive, default=1),
                *experiment_arguments("fit"),
            ),
            is_launch=True,
            acts=True,
        ),
        Verb(
            "resume",
            "go on from the newest checkpoint of an ended run",
            _resume,
            (
                RUN,
                Argument("--devices", "all or a set such as lab[1-3],atlas:0 (default: as before)", "SET"),
                Argument("--epochs", "passes over the data in all (default: as before)", "N", positive),
                Argument("--policy", f"one of {', '.join(POLICIES)} (default: as before)", "P", choices=POLICIES),
                Argument("--changed", "go on although the script has changed"),
                Argument("--wait", "wait until the devices are free, then start", group="devices in use"),
                Argument("--share", "start although others use the devices", group="devices in use"),
                *job_arguments("attach"),
            ),
            is_launch=True,
            acts=True,
        ),
        Verb("jobs", "all runs on the nodes", _jobs, aliases=("ps",)),
        Verb(
            "attach",
            "follow any run to its end",
            _attach,
            (RUN, *job_arguments("attach")),
            is_launch=True,
        ),
        Verb(
            "logs",
            "what a run wrote, by node or by rank",
            _logs,
            (
                RUN,
                Argument("--rank", "only lines of this rank", "N", seed),
                Argument("--node", "only these nodes, such as lab[1-4]", "SET"),
                Argument("--grep", "only lines that match this regular expression", "TEXT"),
                Argument(
                    "--level", "only warnings and errors, or only errors", "LEVEL", choices=LEVELS, is_strict=True, default="info"
                ),
                Argument("--since", f"only lines from then on: {SINCE_EXAMPLES}", "TIME", since),
                Argument("--lines", "number of last lines; 0: all (default: 1000)", "N", seed, default=1000),
                Argument("--follow", "print new lines until the run has ended"),
            ),
        ),
        Verb(
            "cancel",
            "stop a run and all its processes",
            _cancel,
            (Argument("run_id", "as paceline jobs names it; waiting: the job of this session that waits for devices", "RUN"),),
            aliases=("stop",),
            acts=True,
        ),
        Verb(
            "drain",
            "take a node out of its runs at the next step, without loss",
            _drain,
            (
                Argument("node", "whose devices are wanted free", "NODE"),
                Argument("--run", "only out of this run (default: of all that outlive their devices)", "RUN"),
            ),
            acts=True,
        ),
        Verb(
            "grow",
            "bring nodes back into a run: drained ones and rebooted ones",
            _grow,
            (RUN, Argument("--devices", "nodes such as lab[1-3] (default: all that are out)", "SET")),
            acts=True,
        ),
        Verb(
            "fetch",
            "copy checkpoints and other files of a run from its nodes",
            _fetch,
            (
                RUN,
                Argument("patterns", "such as checkpoints or '*.pt' (default: all but logs)", "PATTERN", nargs="*"),
                Argument("--to", "directory for one directory per node (default: logs/runs/RUN/files)", "DIR", Path),
            ),
        ),
        Verb(
            "clean",
            "remove runs, bundles and data that nodes no longer need",
            _clean,
            (
                Argument("run_ids", "only these runs (default: every run that ended and is copied here)", "RUN", nargs="*"),
                Argument("--older-than", "only what has not changed for so many days", "DAYS", seconds, default=0.0),
                Argument("--bundles", "node-side code that no process runs from"),
                Argument("--data", "data sets that no active run uses"),
                Argument("--all", "also runs that are not completely copied here"),
                Argument("--yes", "remove; without it only list what would be removed"),
            ),
            acts=True,
            needs_consent=True,
        ),
        Verb(
            "kill",
            "end a process of your own on a node",
            _kill,
            (
                Argument("node", "where it runs", "NODE"),
                Argument("pid", "of a process of your own user there", "PID", positive),
                Argument("--started", "only if it started then, as printed without --yes", "N", seed),
                Argument("--yes", "end it; without it only print whose it is"),
            ),
            acts=True,
            needs_consent=True,
        ),
        Verb(
            "compare",
            "two results: what differed, what came of it, what is noise",
            _compare,
            (
                Argument("a", "a run, a result.json, a directory with one, or a recording", "A"),
                Argument("b", "the other one; changes are from A to B", "B"),
                Argument("--max-regression", 'end with status 1 if a metric is worse by more, such as "5%"', "X", fraction),
            ),
            read_files=_compare_files,
        ),
        Verb(
            "report",
            "results as Markdown, HTML, CSV, LaTeX and pictures",
            _report,
            (
                Argument("results", "runs, experiments, or paths of a result.json", "RESULT", nargs="+"),
                Argument("--out", "directory of the report (default: report, beside the result)", "DIR", Path),
                Argument("--formats", f"some of {','.join(FORMATS)} (default: {','.join(DEFAULT_FORMATS)})", "A,B"),
                Argument("--like", "tables and figures of another project", "NAME", choices=LAYOUTS, group="what it writes"),
                Argument("--to", "write what another tool reads instead", "TOOL", choices=EXPORTS, group="what it writes"),
            ),
            read_files=_report_files,
        ),
        Verb("setup", "prepare a cluster of Kubernetes for a job, in one command", setup, SETUP_ARGUMENTS, acts=True),
        Verb("export", "a job as manifests of Kubernetes, or a script of Slurm", export, EXPORT_ARGUMENTS),
        Verb("data", "prepare or look at a data set, or list them", data, DATA_ARGUMENTS, read_files=data_files),
        Verb(
            "example",
            "print a training script to start from",
            _example,
            (Argument("name", f"one of {', '.join(WORKLOADS)}", "NAME", choices=tuple(WORKLOADS)),),
            read_files=_example_file,
        ),
        Verb(
            "picture",
            "the screen, or a moment of a recording, as SVG or PNG",
            _picture,
            (
                Argument("file", "where to write it: a name that ends in .svg or .png", "FILE", Path),
                Argument("--of", "a recording, or the name of a demo session", "RECORDING", Path),
                Argument("--at", "seconds, or a kind of event such as StragglerFound (default: the end)", "MOMENT"),
                Argument("--screen", "which one (default: what the recording points at)", "NAME"),
                Argument("--size", "columns and lines (default: 132x42)", "CxL", terminal_size),
            ),
            is_drawn=True,
        ),
        Verb(
            "replay",
            "a recorded session, or two side by side",
            _replay,
            (
                Argument("file", "a session recorded with --record, or the name of a demo session", "FILE", Path),
                Argument("other", "a second one, shown beside it", "FILE", Path, nargs="?"),
                Argument("--at", f"begin there: {MOMENT_EXAMPLES} (default: before its first run)", "TIME", moment),
                Argument("--speed", "times faster than it happened, such as 0.25 or 64 (default: 1)", "X", float, default=1.0),
                Argument("--marks", "headless: print what happened and when"),
            ),
            is_launch=True,
        ),
    )
}
"""Every verb by its name."""


def verb_of(name: str) -> Verb | None:
    """A verb by its name or one of its aliases."""
    return VERBS.get(name) or next((verb for verb in VERBS.values() if name in verb.aliases), None)


def unknown_verb(word: str, hint: str) -> UsageError:
    """The error for a word that is no verb: the verb that was meant, where one is close; else ``hint``."""
    names = [name for verb in VERBS.values() for name in (verb.name, *verb.aliases)]
    return UsageError(f"there is no verb {word!r}", hint=did_you_mean(word, names) or hint)


def check_allowed(verb: Verb, args: argparse.Namespace, is_read_only: bool) -> None:
    """Raise UsageError where a read-only session would act on a node. A verb that needs consent may run without ``--yes``."""
    if is_read_only and verb.acts and getattr(args, "yes", True):
        hint = "leave out --read-only, or take read_only out of config.toml"
        raise UsageError(f"{verb.name} is refused: this session is read-only", hint=hint)


def _parse_with_job_file(verb: Verb, parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a verb, with those of its job file where none was typed, and with its script.

    Raises ConfigurationError for a wrong file.
    """
    words, script = split_script(verb.arguments, words) if verb.takes_script else (words, None)
    args = parser.parse_args(words)
    args.script = script
    if getattr(args, "job", None) is None or (verb.name == "demo" and demo_session(args)):
        return args
    from paceline.engine.jobs.launch.job_file import read_job_file

    typed_parser = Parser(prog=verb.name, add_help=False)
    add_arguments(typed_parser, verb.arguments, without_defaults=True)
    typed = vars(typed_parser.parse_args(words))
    job = read_job_file(args.job)
    for names in exclusive_groups(job_file_options()):
        if any(name in typed for name in names):  # the typed one excludes those of the file
            job = {name: value for name, value in job.items() if name not in names}
    named = {name: value for name, value in job.items() if hasattr(args, name)}
    return argparse.Namespace(**{**vars(args), **named, **typed, "script": script_of_file(job)})


def parse(line: str) -> tuple[Verb, argparse.Namespace]:
    """The verb and arguments of a line typed at the ``:`` prompt, with those of its job file. Raises UsageError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read {line!r}: {error}") from None
    if not words:
        raise UsageError("name a verb", hint="known: " + ", ".join(VERBS))
    verb = verb_of(words[0])
    if verb is None:
        raise unknown_verb(words[0], hint="known: " + ", ".join(VERBS))
    parser = Parser(prog=verb.name, description=verb.summary, add_help=False)
    add_arguments(parser, verb.arguments)
    return verb, _parse_with_job_file(verb, parser, words[1:])
