"""Trials that belong to a place: to one node, or to all devices as one group. ``fit`` finds with them what a place can hold.

Every node runs its own trials alone; then all run those of the group, one after another.
"""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta

from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

from ...events import RankJoined, TrialEnded, TrialStarted
from ...plan import Plan, RankPlan, ScriptPlan
from ...specs import TrialSpec
from ...training.group.run_store import RunStore
from ...training.rank_log import RankLog
from .child import RunTrial, run_in_child
from .shared_out import LAST_TRIAL_TIMEOUT_S, POLL_S

GROUP_MARGIN_S = 120.0
"""Seconds beyond the time limit of a trial within which every rank of its group says how it ended."""
WORST_FIRST = ("oom", "timeout", "failed", "skipped", "success")
"""Outcomes of the ranks of a group: one that ran out of memory is why the others failed."""


def worst(outcomes: list[str]) -> str:
    """The outcome of a group from those of its ranks; ``failed`` for one that is unknown."""
    return min(outcomes, key=lambda outcome: WORST_FIRST.index(outcome if outcome in WORST_FIRST else "failed"))


def run_placed(plan: Plan, rank: RankPlan, script: ScriptPlan, log: RankLog, store: RunStore, run: RunTrial) -> None:
    """Run the trials of this node on its first device, then those of the group. One that does not fit ends nothing."""
    log.write(RankJoined(pid=os.getpid(), world_size=len(plan.ranks), backend="none"))
    shared = PrefixStore("placed", store)
    outcomes: dict[int, str] = {}
    if rank.local_rank == 0:
        for trial in (trial for trial in script.trials if trial.place == plan.nodes[rank.node_rank].name):
            outcomes[trial.number] = _run_or_skip(trial, outcomes, log, run)
    for trial in (trial for trial in script.trials if trial.is_group):
        _meet(shared, f"ready/{trial.number}", len(plan.ranks))
        own = _run_or_skip(trial, outcomes, log, run)
        shared.set(f"outcome/{trial.number}/{rank.rank}", json.dumps(own))
        keys = [f"outcome/{trial.number}/{peer.rank}" for peer in plan.ranks]
        shared.wait(keys, timedelta(seconds=(trial.time_limit or LAST_TRIAL_TIMEOUT_S) + GROUP_MARGIN_S))
        outcomes[trial.number] = worst([json.loads(value) for value in shared.multi_get(keys)])
    store.finish(rank.rank, LAST_TRIAL_TIMEOUT_S)


def _run_or_skip(trial: TrialSpec, outcomes: dict[int, str], log: RankLog, run: RunTrial) -> str:
    """Run a trial unless a smaller one did not fit, and write how it ended; returns its outcome."""
    before = "success" if trial.after is None else outcomes.get(trial.after, "success")
    if before != "success":
        ended = TrialEnded(trial=trial.number, state="skipped", outcome="skipped", reason="a smaller one did not fit")
    else:
        log.write(TrialStarted(trial=trial.number))
        ended = run_in_child(trial, run)
    log.write(ended)
    return ended.outcome or ("failed" if ended.state == "failed" else "success")


def _meet(shared: PrefixStore, key: str, world: int) -> None:
    """Return when every rank has come here: their own trials take unlike times."""
    shared.add(key, 1)
    while int(shared.add(key, 0)) < world:
        time.sleep(POLL_S)
