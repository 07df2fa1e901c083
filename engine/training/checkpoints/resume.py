"""A run goes on from a checkpoint: read and checked on every rank, weights and place in the data taken over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataRefused
from ...plan import Plan, RankPlan
from ...protocol.checkpoints import CHECKPOINT_DIR, RESUME_FILE, digest_of_file
from ..rank_log import RankLog
from ..shares.sampler import SamplerState
from .writer import Checkpointer, load_checkpoint


def make_checkpointer(
    plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog, numbers: Sequence[int] | None = None
) -> Checkpointer | None:
    """The writer of this rank; None where it writes none. The first rank writes, and the first of one other node: two copies.

    ``numbers``: of the ranks that are left; None: all.
    """
    if plan.checkpoints is None:
        return None
    left = [one for one in plan.ranks if numbers is None or one.rank in numbers]
    others = [other.rank for other in left if other.node != left[0].node]
    if rank.rank not in (left[0].rank, *others[:1]):
        return None
    return Checkpointer(
        run_dir / CHECKPOINT_DIR,
        log.write,
        every_steps=plan.checkpoints.every_steps,
        every_seconds=plan.checkpoints.every_seconds,
        keep=plan.checkpoints.keep,
    )


def read_resumed(plan: Plan, run_dir: Path) -> dict[str, Any] | None:
    """The checkpoint of the plan; None where the run begins at the beginning. Raises DataRefused where it is missing or spoilt."""
    if plan.resume is None:
        return None
    path = run_dir.parents[1] / "data" / plan.resume.digest / RESUME_FILE
    try:
        _, sha256 = digest_of_file(path)
    except OSError as error:
        raise DataRefused(f"the checkpoint to resume from cannot be read: {error}", hint="resume the run again") from None
    if sha256 != plan.resume.digest:
        raise DataRefused("the checkpoint to resume from is spoilt on this node", hint=f"remove {path.parent} and resume again")
    state = load_checkpoint(path)
    if state.get("workload") != plan.workload:
        raise DataRefused(f"the checkpoint is of {state.get('workload')!r}, not of {plan.workload}", hint="name another one")
    return state


def resumed_place(state: dict[str, Any], samples: int, seed: int, epochs: int) -> SamplerState:
    """Where the training goes on in its data. Raises DataRefused where these are other data, or all epochs are trained."""
    place = state["place"]
    if place.get("samples") != samples:
        raise DataRefused(f"the checkpoint is of a training on {place.get('samples')} samples; here are {samples}")
    if int(place["epoch"]) >= epochs:
        raise DataRefused(f"the checkpoint has trained {place['epoch']} epochs of {epochs}", hint="raise --epochs")
    return SamplerState(samples, seed, int(place["epoch"]), int(place["offset"]))
