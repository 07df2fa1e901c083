"""Prepares a script for a launch: packs its project, fills its part of the job, and checks that nodes have what it imports."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...errors import PlanImpossible, UsageError
from ...plan import DataPlan
from ...specs import NodeSpec, ScriptSpec, TrainSpec
from ...ssh.fleet import Fleet
from ..gather import gather_all
from ..retry import call_with_retry
from .imports import required_modules
from .project import Project, pack_project, read_project

CHECK_PATIENCE_S = 30.0
"""Seconds to wait for a node that is asked for its modules."""


async def prepare_script(spec: TrainSpec, directory: Path) -> tuple[TrainSpec, DataPlan, Path, tuple[str, ...]]:
    """Read and pack the project of a script.

    Returns the job with paths below the project, the project as data of the plan, its packed directory here, and the modules that
    the script imports. ``directory``: where packed projects are kept. Raises UsageError, StorageFailed.
    """
    return await asyncio.to_thread(_prepare, spec, directory)


def _prepare(spec: TrainSpec, directory: Path) -> tuple[TrainSpec, DataPlan, Path, tuple[str, ...]]:
    script = spec.script
    assert script is not None
    project = read_project(script, Path.cwd())
    modules = _required(project, script)
    packed = pack_project(project, directory)
    digest = hashlib.sha256(project.program + b"\0".join(argument.encode() for argument in ("", *script.args))).hexdigest()
    resolved = replace(script, path=project.target, workdir=project.workdir, digest=digest[:16])
    data = DataPlan(digest=project.digest, source=f"project {project.root.name}", rows=0, sha256=project.digest)
    return replace(spec, script=resolved, workload=script.name), data, packed, modules


def _required(project: Project, script: ScriptSpec) -> tuple[str, ...]:
    folder = str(PurePosixPath(project.target).parent) if not script.is_module else project.workdir
    try:
        required = required_modules(project.files, project.program, folder)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{script.path}:{line}" if line else script.path
        raise UsageError(f"{where}: not Python: {getattr(error, 'msg', None) or error}") from None
    if script.is_module and not project.program:
        return tuple(sorted({*required, script.path.partition(".")[0]}))
    return required


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
