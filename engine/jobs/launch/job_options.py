"""The options of a job: one table that feeds the command line, job files, completion and help.

A new option is a row here and, where it reaches a run, a field of ``TrainSpec``, which also holds its default. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum, auto
from typing import Any

from ...errors import UsageError
from ...experiments.policies import check_policies
from ...specs import ScriptSpec, TrainSpec
from ...states import COMPRESSIONS, POLICIES, PRECISIONS
from ...workloads import WORKLOADS
from ...workloads.datasets import DATASETS
from ...workloads.models import MODELS
from ...workloads.options import OPTIONS
from ...workloads.pairs import PAIRS
from ..runs.run_names import check_run_name
from ..scripts.pairs import script_of_pair

JOB_VERBS = ("train", "plan", "bench")
"""Verbs that take a job and a job file."""


_SCRIPT_VERBS = (*JOB_VERBS, "profile", "advise")
"""Verbs that take a script."""


class OptionKind(Enum):
    """Type of the value of an option; the command line and job files have one reader for each."""

    FLAG = auto()
    COUNT = auto()
    """An integer of at least 1."""
    SEED = auto()
    """An integer from 0 to 2^63 - 1."""
    TEXT = auto()
    TEXTS = auto()
    """A list of texts, in a job file only."""
    DATA_SETS = auto()
    """A name of data or a folder of the centre; may be given several times. In a job file one or a list, folders relative to it."""
    PATH = auto()
    """A file of the centre; in a job file relative to that file."""
    CHOICE = auto()
    """One of ``choices``; the engine refuses an unknown one."""
    STRICT_CHOICE = auto()
    """One of ``choices``; the command line refuses an unknown one."""
    CHOICES = auto()
    """Several of ``choices``: comma-separated on the command line, a list in a job file."""
    DEVICES = auto()
    """A set of devices, or in a job file a list of sets."""
    VALUE = auto()
    """A number or a word, which the table of model options reads."""


def _identity(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class JobOption:
    """One option; ``global_batch_size`` is ``--global-batch-size`` on the command line and ``global_batch_size`` in a job file."""

    name: str
    kind: OptionKind
    help: str
    metavar: str = ""
    field: str | None = None
    """The field of TrainSpec that it sets; None: it concerns the launch only."""
    _: KW_ONLY
    verbs: tuple[str, ...] = JOB_VERBS
    choices: tuple[str, ...] = ()
    default: Any = None
    """Value where a person gives none; None: the default of the field."""
    to_field: Callable[[Any], Any] = _identity
    """Turns the value into that of the field."""
    group: str = ""
    """Options of one group exclude each other."""
    is_file_only: bool = False
    """Whether only job files have it: on the command line its value stands without a name."""

    @property
    def default_value(self) -> Any:
        """Value where a person gives none."""
        if self.kind is OptionKind.FLAG:
            return False
        if self.kind is OptionKind.DATA_SETS:
            return ()
        return _DEFAULTS[self.field] if self.default is None and self.field is not None else self.default


def _one(policy: str) -> tuple[str, ...]:
    return (policy,)


def _several(policies: str) -> tuple[str, ...]:
    return tuple(policies.split(","))


def _name(name: str) -> str:
    return check_run_name(name) if name else ""


_IN_FILES = " (in a job file; on the command line it follows the options)"
_DEFAULTS: Mapping[str, Any] = {name: getattr(TrainSpec(), name) for name in TrainSpec.__dataclass_fields__}
_BATCH_HELP = "samples per optimizer step of all ranks together"
_SET_HELP = "or a set such as lab[1-3],atlas:0 (default: all)"

JOB_OPTIONS: tuple[JobOption, ...] = (
    JobOption(
        "workload",
        OptionKind.CHOICE,
        "what to train: one of the trainer's, or a model with a data set (default: digits-cnn)",
        "W",
        "workload",
        choices=(*WORKLOADS, *PAIRS),
    ),
    JobOption("model", OptionKind.TEXT, f"a model, one of {', '.join(MODELS)}", "M", choices=tuple(MODELS)),
    JobOption("dataset", OptionKind.TEXT, f"its data set, one of {', '.join(DATASETS)}", "D", choices=tuple(DATASETS)),
    JobOption(
        "workload",
        OptionKind.CHOICE,
        "whose steps are timed (default: digits-cnn)",
        "W",
        "workload",
        verbs=("profile", "advise"),
        choices=tuple(WORKLOADS),
    ),
    JobOption("epochs", OptionKind.COUNT, "passes over the data (default: that of the workload)", "N", "epochs"),
    JobOption("global_batch_size", OptionKind.COUNT, _BATCH_HELP, "N", "global_batch_size", verbs=(*JOB_VERBS, "advise")),
    JobOption("seed", OptionKind.SEED, "seed of the model and of the order of samples (default: 0)", "N", "seed"),
    JobOption("accumulation", OptionKind.COUNT, "global batches per optimizer step (1)", "K", "accumulation"),
    JobOption(
        "compression", OptionKind.STRICT_CHOICE, f"one of {', '.join(COMPRESSIONS)}", "C", "compression", choices=COMPRESSIONS
    ),
    JobOption(
        "precision",
        OptionKind.STRICT_CHOICE,
        f"number format of products, one of {', '.join(PRECISIONS)} (default: that of the workload)",
        "P",
        "precision",
        choices=PRECISIONS,
    ),
    JobOption("sync_batch_norm", OptionKind.FLAG, "normalise over all ranks (CUDA devices only)", field="is_norm_synchronized"),
    JobOption("local_steps", OptionKind.COUNT, "optimizer steps between two averages of the weights (1)", "H", "local_steps"),
    JobOption("name", OptionKind.TEXT, "a name for the run, by which other verbs find it", "NAME", "name", to_field=_name),
    JobOption("wait", OptionKind.FLAG, "wait until the devices are free, then start", group="devices in use"),
    JobOption("share", OptionKind.FLAG, "start although others use the devices", field="is_shared", group="devices in use"),
    JobOption(
        "csv",
        OptionKind.PATH,
        "own data: Date,Close (sp500) or class,title,description (agnews), or the files of another data set",
        "FILE",
        "csv",
        group="own data",
    ),
    JobOption("npz", OptionKind.PATH, "windows of prices, as paceline data sp500 --out writes them", "FILE", group="own data"),
    JobOption("column", OptionKind.TEXT, "column of that file with the prices (default: Close)", "NAME", "column"),
    JobOption("date_column", OptionKind.TEXT, "column of that file with the dates (default: Date)", "NAME", "date_column"),
    JobOption("devices", OptionKind.DEVICES, f"all, auto (recommended) {_SET_HELP}", "SET", "devices", verbs=("train", "plan")),
    JobOption("devices", OptionKind.DEVICES, f"all {_SET_HELP}", "SET", "devices", verbs=("bench",)),
    JobOption(
        "on_end",
        OptionKind.TEXT,
        "command to run when the run has ended; PACELINE_STATE holds its state",
        "COMMAND",
        verbs=(*JOB_VERBS, "attach"),
    ),
    JobOption(
        "policy",
        OptionKind.CHOICE,
        f"one of {', '.join(POLICIES)} (default: hybrid)",
        "P",
        "policies",
        verbs=("train",),
        choices=POLICIES,
        default="hybrid",
        to_field=_one,
    ),
    JobOption(
        "policy",
        OptionKind.CHOICE,
        f"one or more of {','.join(POLICIES)} (default: hybrid)",
        "P",
        "policies",
        verbs=("plan",),
        choices=POLICIES,
        default="hybrid",
        to_field=_several,
    ),
    JobOption(
        "policies",
        OptionKind.CHOICES,
        "policies to compare (default: all four)",
        "A,B",
        "policies",
        verbs=("bench",),
        choices=POLICIES,
        default=",".join(POLICIES),
        to_field=_several,
    ),
    JobOption(
        "checkpoint_every",
        OptionKind.TEXT,
        'interval of checkpoints, such as "5 min", "200 steps" or never (60 s, and every epoch)',
        "T",
        "checkpoint_every",
        verbs=("train", "plan"),
    ),
    JobOption(
        "min_devices",
        OptionKind.COUNT,
        "go on when devices or nodes are lost, as long as so many are left (default: the run ends)",
        "N",
        "min_devices",
        verbs=("train", "plan"),
    ),
    JobOption(
        "spare",
        OptionKind.TEXT,
        "nodes that rest until other devices are missing, with --min-devices",
        "NODES",
        "spare",
        verbs=("train", "plan"),
    ),
    JobOption("resume_from", OptionKind.PATH, "go on from this checkpoint", "FILE", verbs=("train",)),
    JobOption("script", OptionKind.PATH, "a training program of your own" + _IN_FILES, "SCRIPT", is_file_only=True),
    JobOption("module", OptionKind.TEXT, "a module as after python -m" + _IN_FILES, "MODULE", is_file_only=True),
    JobOption("args", OptionKind.TEXTS, "arguments of the script" + _IN_FILES, "LIST", is_file_only=True),
    JobOption(
        "workdir", OptionKind.PATH, "directory that travels with a script (default: its git checkout)", "DIR", verbs=_SCRIPT_VERBS
    ),
    JobOption(
        "data",
        OptionKind.DATA_SETS,
        "a data set, or a folder here, that a script finds by name; repeatable",
        "NAME[=DIR]",
        verbs=_SCRIPT_VERBS,
    ),
    *(
        JobOption(option.name, OptionKind.VALUE, option.help, option.metavar, choices=option.choices)
        for option in OPTIONS.values()  # of the table of models
    ),
    JobOption("strict", OptionKind.FLAG, "refuse a script whose batches cannot be balanced"),
    JobOption("repeats", OptionKind.COUNT, "rounds, for a mean and its 95 % interval (1)", "N", "repeats", verbs=("bench",)),
)


def options_of(verb: str) -> tuple[JobOption, ...]:
    """The options that a verb takes on the command line, in the order of its help."""
    return tuple(option for option in JOB_OPTIONS if verb in option.verbs and not option.is_file_only)


def job_file_options() -> dict[str, JobOption]:
    """Every key of a job file: the options of all verbs that take one."""
    options: dict[str, JobOption] = {}
    for option in JOB_OPTIONS:
        if set(option.verbs) & set(JOB_VERBS):
            options.setdefault(option.name, option)
    return options


def exclusive_groups(names: Mapping[str, JobOption]) -> list[list[str]]:
    """Names of options that exclude each other, group by group."""
    groups: dict[str, list[str]] = {}
    for option in names.values():
        if option.group:
            groups.setdefault(option.group, []).append(option.name)
    return list(groups.values())


def train_spec(verb: str, values: Mapping[str, Any]) -> TrainSpec:
    """The job that the option values of a verb describe. Raises UsageError where a policy is unknown or named twice.

    ``script``: a ScriptSpec beside the options.
    """
    fields = {option.field: option.to_field(values[option.name]) for option in options_of(verb) if option.field is not None}
    if "policies" in fields:
        fields["policies"] = check_policies(fields["policies"])
    if values.get("npz") is not None:
        fields["csv"] = values["npz"]  # loaders tell the formats apart
    spec = TrainSpec(**fields, is_bench=verb == "bench")
    script: ScriptSpec | None = values.get("script") or script_of_pair(values)
    if script is None:
        if values.get("data"):
            raise UsageError("--data is for a script; a workload has its data", hint="--csv gives a workload other data")
        return spec
    own = tuple(values.get("data") or ())
    named = tuple(name for name in script.data if name not in {word.partition("=")[0] for word in own})  # a person's NAME=DIR wins
    script = replace(script, workdir=values["workdir"], is_strict=values.get("strict", False), data=(*named, *own))
    return replace(spec, script=script, workload=script.name)
