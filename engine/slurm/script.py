"""The batch script of a run: one heterogeneous job with a component for each class of machines. Pure.

Every component has a name of its own: with one name for all, ``--dependency=singleton`` would have the second wait for the first.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ..specs import SlotSpec

TASK_MODULE = "paceline.engine.agent.slurm"
OUTPUT_FILE = "slurm.out"
"""What the job prints beside its run directories, such as why Python did not start."""
ATTEMPT_VARIABLE = "PACELINE_ATTEMPT"
"""Number of the job and how often Slurm has started it before: ``812-0``."""
WARNING_SECONDS = 90
"""Seconds before its time limit at which every task of a job is told. Slurm may send it up to 60 s earlier."""


@dataclass(frozen=True, slots=True)
class Component:
    """Alike machines of a heterogeneous job, with one task on each."""

    machines: int
    slot: SlotSpec


@dataclass(frozen=True, slots=True)
class JobPlaces:
    """Where a job finds its files. All paths are absolute, on a file system that all its machines share."""

    directory: str
    """Of this job: ``jobs/<run_id>`` below the state directory."""
    root: str
    """State directory of the login node."""
    python: str
    bundle: str
    """Paceline's modules, for PYTHONPATH."""


def job_name(run_id: str, component: int = 0) -> str:
    """Name of a component of a run's job; of the first, the name of the job."""
    return f"paceline-{run_id}" + (f".{component}" if component else "")


def run_of_job(name: str) -> str:
    """The run of a job's name; empty where it is none of ours."""
    prefix, _, run_id = name.partition("paceline-")
    return run_id if not prefix and "." not in run_id else ""


def components_of(slots: Sequence[SlotSpec]) -> list[Component]:
    """The components of a job for these machines, in their order: tasks are numbered by component, so ranks stay as planned."""
    return [Component(len(list(alike)), slot) for slot, alike in groupby(slots)]


def batch_script(run_id: str, slots: Sequence[SlotSpec], places: JobPlaces, comment: str = "") -> str:
    """The script for ``sbatch``. ``comment``: lines for people, without control characters."""
    output = f"{places.directory}/{OUTPUT_FILE}".replace("\\", "\\\\").replace("%", "%%")
    words = (shlex.quote(places.root), shlex.quote(places.python), shlex.quote(places.bundle))
    return "\n".join([*_head(run_id, slots, output, comment), "", *_start(run_id, slots, *words), ""])


def exported_script(
    run_id: str, slots: Sequence[SlotSpec], request: str, needed: Sequence[str], root: str | None = None, comment: str = ""
) -> str:
    """A script for ``sbatch`` that a person submits: it carries what ``submit`` sends, and says what it does not find.

    ``request``: request.json as one line; it holds the keys of the run. ``needed``: what must lie below the state directory, the
    modules first. ``root``: the state directory on the cluster; None: below the home directory. Variables change it and Python.
    """
    home = '"${PACELINE_STATE:-$HOME/.local/state/paceline/slurm}"'
    lines = _head(run_id, slots, None, comment)
    lines += [
        "",
        f"ROOT={home if root is None else shlex.quote(root)}",
        "umask 077",
        f'JOB="$ROOT/jobs/{run_id}"',
        f"for needed in {shlex.join(needed)}; do",
        '    [ -e "$ROOT/$needed" ] || { echo "paceline: $ROOT/$needed is missing: bring it there first" >&2; exit 1; }',
        "done",
        'mkdir -p "$JOB" || exit 1',
        '[ -e "$JOB/request.json" ] || cat > "$JOB/request.json" <<\'PACELINE_REQUEST\' || exit 1',
        request,
        "PACELINE_REQUEST",
        'echo "{\\"job_id\\": $SLURM_JOB_ID}" > "$JOB/submitted.json"',
    ]
    return "\n".join([*lines, *_start(run_id, slots, '"$ROOT"', '"${PACELINE_PYTHON:-python3}"', f'"$ROOT"/{needed[0]}'), ""])


def _head(run_id: str, slots: Sequence[SlotSpec], output: str | None, comment: str) -> list[str]:
    """The lines that sbatch reads."""
    lines = ["#!/bin/sh", *(f"# {line}" for line in comment.splitlines())]
    for number, component in enumerate(components_of(slots)):
        if number:
            lines.append("#SBATCH hetjob")
        lines += [f"#SBATCH {option}" for option in _options(run_id, number, component, output)]
    return lines


def _start(run_id: str, slots: Sequence[SlotSpec], root: str, python: str, bundle: str) -> list[str]:
    """The lines that start a task on every machine; root, python and bundle are words of the shell."""
    count = len(components_of(slots))
    groups = [f"--het-group={','.join(map(str, range(count)))}"] if count > 1 else []
    return [
        f"cd {root}/bundles || exit 1",
        f"PYTHONPATH={bundle}",
        f'{ATTEMPT_VARIABLE}="$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"',
        f"export PYTHONPATH {ATTEMPT_VARIABLE}",
        f"exec {shlex.join(['srun', *groups, '--kill-on-bad-exit=0', '--mpi=none'])} {python} -m {TASK_MODULE} {root} {run_id}",
    ]


def _options(run_id: str, number: int, component: Component, output: str | None) -> list[str]:
    slot = component.slot
    optional = {
        "partition": slot.partition,
        "account": slot.account,
        "qos": slot.qos,
        "time": slot.time_limit,
        "constraint": slot.constraint,
        "gres": slot.gres,
        "cpus-per-task": str(slot.cpus or ""),
    }
    return [
        f"--job-name={job_name(run_id, number)}",
        "--dependency=singleton",
        f"--nodes={component.machines} --ntasks={component.machines} --ntasks-per-node=1",
        *(f"--{name}={_quoted(value)}" for name, value in optional.items() if value),
        f"--signal=USR1@{WARNING_SECONDS}",
        "--requeue --open-mode=append",
        *([f"--output={_quoted(output)}"] if output is not None else []),
    ]


def _quoted(value: str) -> str:
    """A value on an #SBATCH line, where quotes group words and backslashes escape."""
    is_plain = all(letter.isalnum() or letter in "-_.,:/=@%+&|*" for letter in value)
    return value if is_plain else '"' + value.replace('"', '\\"') + '"'
