"""The closed sets of words: a run's legal transitions, and words of a newer version."""

from __future__ import annotations

from typing import get_args

import pytest
from paceline.engine.events import InventoryRead, NodeSummary, RunEnded, RunListed, RunPlanned, RunUnreachable, StepsTaken
from paceline.engine.specs import FaultSpec, NodeSpec, TrainSpec
from paceline.engine.states import (
    ENDED_STATUSES,
    FINAL,
    RUN_STATUSES,
    RUN_TRANSITIONS,
    EndedStatus,
    RunStatus,
    SlowdownCause,
    WorkCause,
    is_legal,
    member,
    next_status,
)
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.wire import from_plain


def test_every_state_of_a_run_has_a_row_and_only_ended_ones_are_final() -> None:
    assert set(RUN_TRANSITIONS) == set(RUN_STATUSES)
    assert set(ENDED_STATUSES) == FINAL < set(RUN_STATUSES)
    assert set().union(*RUN_TRANSITIONS.values()) <= set(RUN_STATUSES)
    assert set(get_args(WorkCause)) | {"network"} == set(get_args(SlowdownCause))


@pytest.mark.parametrize("state", ENDED_STATUSES)
def test_a_final_state_is_never_left(state: EndedStatus) -> None:
    assert [one for one in RUN_STATUSES if is_legal(state, one)] == [state]
    ended = reduce(State(), RunEnded(run_id="r", state=state, reason="first"))
    other = next(one for one in ENDED_STATUSES if one != state)
    for event in (
        RunEnded(run_id="r", state=other),
        RunUnreachable(run_id="r", nodes=("a",)),
        StepsTaken(run_id="r", case="x", steps=1),
    ):
        later = reduce(ended, event)
        assert (later.runs["r"].state, later.runs["r"].reason) == (state, "first")
    assert reduce(ended, RunEnded(run_id="r", state=other)).alerts == ended.alerts


@pytest.mark.parametrize(
    ("current", "proposed", "following"),
    [("starting", "running", "running"), ("running", "waiting", "running"), ("running", "queued", "queued")],
)
def test_what_the_table_does_not_allow_changes_nothing(current: RunStatus, proposed: RunStatus, following: RunStatus) -> None:
    assert next_status(current, proposed) == following


def test_a_listed_state_is_an_observation_and_the_first_end_that_is_followed_decides() -> None:
    state = reduce(State(), RunListed(run_id="r", state="failed"))
    assert reduce(state, RunListed(run_id="r", state="running")).runs["r"].state == "running"
    followed = reduce(reduce(state, RunPlanned(run_id="r", cases=("x",))), RunEnded(run_id="r", state="cancelled"))
    assert followed.runs["r"].state == "cancelled"


def test_words_of_a_newer_version_break_neither_the_reducer_nor_the_reading_of_specs() -> None:
    state = reduce(State(), InventoryRead(nodes=(NodeSummary("a", "quantum"),)))
    state = reduce(reduce(state, RunListed(run_id="r", state="dreaming")), RunEnded(run_id="s", state="dreaming"))
    assert (state.nodes["a"].kind, state.runs["r"].state, state.runs["s"].state) == ("ssh", "starting", "failed")
    assert from_plain(TrainSpec, {"policies": ["guess"], "compression": "int4"}).compression == "int4"  # type: ignore[comparison-overlap]  # a newer word
    assert from_plain(NodeSpec, {"name": "a", "kind": "quantum"}).name == "a"
    assert member("quantum", RUN_STATUSES) is None
    with pytest.raises(ValueError, match="cause"):
        from_plain(FaultSpec, {"at_step": 0, "slowdown": 2.0, "cause": 3})
