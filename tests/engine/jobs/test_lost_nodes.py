"""The state of a run that has lost nodes and goes on without them, and of nodes that only say so."""

from __future__ import annotations

from typing import Any

import pytest
from paceline.engine.jobs.lifecycle import combine_verdicts, node_verdict
from paceline.tui.command_line.batch import exit_status

KILLED: dict[str, Any] = {"is_alive": False}
RUNS: dict[str, Any] = {"is_alive": True, "is_launched": True}


def state_of(**facts: dict[str, Any] | None) -> str:
    return combine_verdicts({name: None if one is None else node_verdict(one) for name, one in facts.items()}).state


@pytest.mark.parametrize("lost", [KILLED, None, {"exit": {"state": "failed", "reason": "out of reach", "gone": ["n1"]}}])
def test_a_run_is_what_the_nodes_are_that_went_on(lost: dict[str, Any] | None) -> None:
    assert state_of(n0={**RUNS, "gone": ["n2"]}, n1={**RUNS, "gone": ["n2"]}, n2=lost) == "running"
    done = {"exit": {"state": "done", "gone": ["n2"]}}
    assert state_of(n0=done, n1=done, n2=lost) == "done"
    assert state_of(n0=done, n1={**RUNS, "gone": ["n2"]}, n2=lost) == "running"


def test_one_node_alone_cannot_say_that_others_do_not_count() -> None:
    failed = {"exit": {"state": "failed", "reason": "killed", "rank": 1}}
    assert state_of(n0={**RUNS, "gone": ["n1"]}, n1=failed, n2=RUNS) == "failed"
    assert state_of(n0={**RUNS, "gone": ["n0", 7, "n1"]}, n1=RUNS) == "running"
    assert state_of(n0=KILLED, n1=KILLED) == "failed"


def test_a_run_that_ended_with_fewer_devices_says_so_by_its_status() -> None:
    document = {"type": "train", "state": "done", "lost_ranks": [3]}
    assert exit_status(document) == 6
    assert exit_status({**document, "state": "failed"}) == 1
    assert exit_status({**document, "lost_ranks": []}) == 0
