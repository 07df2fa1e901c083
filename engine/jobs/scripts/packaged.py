"""Scripts that come with Paceline, launched as a person's own: run directory, resume, bench and documents are the same."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from ...errors import UsageError
from ...specs import ScriptSpec, TrialSpec

EXAMPLES_PACKAGE = "paceline.engine.script.examples"
SCRIPT_SUFFIX = ".py"


def packaged_script(
    script: str, args: Sequence[str] = (), *, workload: str, data: Sequence[str] = (), trials: Sequence[TrialSpec] = ()
) -> ScriptSpec:
    """The script of a launch that trains a packaged program: ``TrainSpec(workload=workload, script=packaged_script(...))``.

    ``script``: module of ``engine/script/examples``, with ``-`` or ``_``. ``args``: of the script, as after its name in a shell.
    ``workload``: what documents, lists and profiles call it. ``data``: data sets as of ``--data``; those that the source names are
    found without. Raises UsageError where there is no such script.
    """
    name = f"{script.replace('-', '_')}{SCRIPT_SUFFIX}"
    read_packaged(name)
    return ScriptSpec(name, tuple(args), data=tuple(data), is_packaged=True, workload=workload, trials=tuple(trials))


def read_packaged(name: str) -> bytes:
    """The source of a packaged script by its file name. Raises UsageError."""
    stem = name.removesuffix(SCRIPT_SUFFIX)
    if not stem.isidentifier() or stem.startswith("_"):
        raise UsageError(f"there is no script {stem[:60]!r} in Paceline")
    try:
        return resources.files(EXAMPLES_PACKAGE).joinpath(name).read_bytes()
    except OSError:
        raise UsageError(f"there is no script {stem[:60]!r} in Paceline") from None
