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


def checkpoint_writers(plan: Plan, ranks: Sequence[int]) -> tuple[int, ...]:
    """Of these ranks of the plan, those that write checkpoints: the first one, and the first one of another node: two copies."""
    others = [rank for rank in ranks if plan.ranks[rank].node != plan.ranks[ranks[0]].node]
    return (ranks[0], *others[:1])


def make_checkpointer(plan: Plan, rank: RankPlan, run_dir: Path, log: RankLog, *, is_chosen: bool = False) -> Checkpointer | None:
    """The writer of this rank; None where it writes none. ``is_chosen``: it is one, whatever ranks the plan began with."""
    if plan.checkpoints is None:
        return None
    if not is_chosen and rank.rank not in checkpoint_writers(plan, [one.rank for one in plan.ranks]):
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
