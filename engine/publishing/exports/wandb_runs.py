"""Results in Weights & Biases: an offline run a case, which ``wandb sync`` sends. Nothing goes over a network here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import StorageFailed, UsageError
from ..result_file import ResultFile
from .tracked_runs import EXPERIMENT, Scalar, tracked_runs


def write_wandb(sources: Sequence[ResultFile], directory: Path) -> tuple[list[Path], list[str]]:
    """Write offline runs of W&B; returns their directories and how to send them. Raises UsageError, StorageFailed."""
    runs = tracked_runs(sources)
    try:
        import wandb
    except ImportError:
        raise UsageError("runs of W&B need wandb", hint="pip install wandb") from None
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _offline():
            for run in runs:
                made = wandb.init(
                    project=EXPERIMENT,
                    name=run.name,
                    config={**run.params, **run.tags},
                    group=run.tags["paceline.result"],
                    dir=str(directory),
                    mode="offline",
                    reinit="finish_previous",
                )
                for step, values in _by_step(run.scalars).items():
                    made.log(values, step=step)
                written.append(Path(made.dir).parent)
                made.finish()
    except OSError as error:
        raise StorageFailed(f"cannot write {directory}: {error.strerror or error}") from None
    except wandb.errors.Error as error:
        raise UsageError(f"W&B refused: {' '.join(str(error).split())[:200]}") from None
    return written, [f"wandb sync {directory}/wandb/offline-run-*"]


def _by_step(scalars: Sequence[Scalar]) -> Mapping[int, dict[str, float]]:
    """Values of one step together, steps ascending: W&B takes no step twice."""
    found: dict[int, dict[str, float]] = {}
    for name, step, value in sorted(scalars, key=lambda one: one[1]):
        found.setdefault(step, {})[name] = value
    return found


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """W&B asks nothing, sends nothing and prints nothing meanwhile."""
    wanted: dict[str, Any] = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_CODE": "true"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
