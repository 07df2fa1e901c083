"""Prepares a script for a launch: packs its project, fills its part of the job, and checks that nodes have what it imports."""

from __future__ import annotations

import ast
import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ...errors import PlanImpossible, UsageError
from ...plan import DataPlan
from ...specs import NodeSpec, ScriptSpec, TrainSpec
from ...ssh.fleet import Fleet
from ..gather import gather_all
from ..retry import call_with_retry
from .data_calls import asked_data_sets
from .data_sets import NamedData, named_data
from .imports import read_modules
from .project import Project, pack_project, read_packed, read_project

CHECK_PATIENCE_S = 30.0
"""Seconds to wait for a node that is asked for its modules."""


@dataclass(frozen=True, slots=True)
class PreparedScript:
    """A script that is ready for a launch."""

    spec: TrainSpec
    """The job with paths below the project."""
    project: DataPlan
    """The packed project as data of the plan,"""
    directory: Path
    """and where it lies here."""
    modules: tuple[str, ...]
    """Top-level names of what it imports from outside its project."""
    named: tuple[NamedData, ...]
    """Data that it is given by name."""


async def prepare_script(spec: TrainSpec, directory: Path) -> PreparedScript:
    """Read and pack the project of a script. ``directory``: where packed projects are kept. Raises UsageError, StorageFailed."""
    return await asyncio.to_thread(_prepare, spec, directory)


def _prepare(spec: TrainSpec, directory: Path) -> PreparedScript:
    script = spec.script
    assert script is not None
    here = Path(script.origin) if script.project else Path.cwd()
    asked = replace(script, path=script.asked_path, workdir=script.asked_workdir) if script.project else script
    project = read_project(asked, here) if not script.project else _read_again(asked, script, here, directory)
    trees, modules = _read_modules(project, script)
    named = named_data(script.data, asked_data_sets(trees, script.args), here)
    packed = pack_project(project, directory)
    digest = hashlib.sha256(project.program + b"\0".join(argument.encode() for argument in ("", *script.args))).hexdigest()
    if script.project and digest[:16] != script.digest and not script.may_change:
        reason = f"{asked.path} is not what it was when the run began that is to go on"
        raise UsageError(reason, hint="--changed goes on with it as it is now, or train it from the beginning")
    resolved = replace(
        script,
        path=project.target,
        workdir=project.workdir,
        digest=digest[:16],
        project=project.digest,
        origin=str(here),
        asked_path=asked.path,
        asked_workdir=asked.workdir,
    )
    data = DataPlan(digest=project.digest, source=f"project {project.root.name}", rows=0, sha256=project.digest)
    return PreparedScript(replace(spec, script=resolved, workload=script.name), data, packed, modules, named)


def _read_again(asked: ScriptSpec, packed: ScriptSpec, here: Path, directory: Path) -> Project:
    """The project of a script that ran before: as it is now, else where it is gone as it was packed then."""
    try:
        return read_project(asked, here)
    except UsageError:
        project = read_packed(directory / packed.project, packed.path, packed.workdir or ".")
        if project is None:
            raise
        return project


def _read_modules(project: Project, script: ScriptSpec) -> tuple[list[ast.Module], tuple[str, ...]]:
    folder = str(PurePosixPath(project.target).parent) if not script.is_module else project.workdir
    try:
        trees, required = read_modules(project.files, project.program, folder)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{script.path}:{line}" if line else script.path
        raise UsageError(f"{where}: not Python: {getattr(error, 'msg', None) or error}") from None
    if script.is_module and not project.program:
        return trees, tuple(sorted({*required, script.path.partition(".")[0]}))
    return trees, required


async def check_modules(fleet: Fleet, nodes: Iterable[NodeSpec], modules: tuple[str, ...]) -> None:
    """Raise PlanImpossible where the interpreter of a node lacks a module that the script imports."""

    async def missing(node: NodeSpec) -> tuple[str, list[str]]:
        env = {"PYTHONPATH": node.env.get("PYTHONPATH")}
        answer = await call_with_retry(fleet, node.name, "find_modules", CHECK_PATIENCE_S, modules=list(modules), env=env)
        return node.name, [str(name) for name in answer.get("missing") or ()]

    lacking = {name: names for name, names in await gather_all(missing(node) for node in nodes) if names}
    if lacking:
        reason = "; ".join(f"{node} lacks {', '.join(names)}" for node, names in lacking.items())
        packages = " ".join(sorted({name for names in lacking.values() for name in names}))
        hint = f"install there what the script imports (pip install {packages}), or set python in nodes.toml"
        raise PlanImpossible(reason, hint=hint)
