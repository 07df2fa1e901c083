"""Which nodes a job takes where a lab has machines of its own and a cluster, and what is asked of the cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from paceline.engine.errors import ConfigurationError, NodeUnreachable, PlanImpossible, UsageError
from paceline.engine.events import Event, RunQueued, Warned
from paceline.engine.jobs.launch.data import one_a_file_system
from paceline.engine.jobs.launch.device_selection import chosen_nodes, slots_named
from paceline.engine.jobs.slurm.queue import begun
from paceline.engine.jobs.slurm.submit import login_of, slots_of, submit_to_slurm
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.specs import NodeSpec, SlotSpec, TrainSpec

SLOTS = [NodeSpec(f"hpc-a-{i}", kind="slurm", slot=SlotSpec("hpc", constraint="a"), env={"A": "1"}) for i in (1, 2)]
NODES = [NodeSpec("hpc", kind="slurm", read_only=True), *SLOTS, NodeSpec("atlas")]
PLAN = Plan(
    "20261130-1200-abcdef",
    "digits-cnn",
    (CasePlan("hybrid", "hybrid"),),
    tuple(NodePlan(node.name, rank, (rank,), "", "", "python3") for rank, node in enumerate(SLOTS)),
    tuple(RankPlan(rank, node.name, rank, 0, 0, "emulated", "A") for rank, node in enumerate(SLOTS)),
    DataPlan("d" * 64, "made up", 1, "0" * 64),
    1,
    8,
)


def test_all_devices_are_those_of_own_machines_and_a_cluster_is_named() -> None:
    assert chosen_nodes("all", NODES) == ["atlas"]
    assert chosen_nodes("all", NODES[:3]) == ["hpc-a-1", "hpc-a-2"]
    assert chosen_nodes("hpc", NODES) == ["hpc-a-1", "hpc-a-2"]
    assert chosen_nodes("hpc-a-[2-2]", NODES) == ["hpc-a-2"]
    assert slots_named("atlas:0,hpc", NODES) == "atlas:0,hpc-a-1,hpc-a-2"
    with pytest.raises(UsageError, match="no node 'nope'"):
        chosen_nodes("nope", NODES)


def test_one_run_is_on_one_cluster_or_on_none() -> None:
    assert login_of(SLOTS) == "hpc"
    assert login_of([NODES[-1]]) is None
    other = replace(SLOTS[0], slot=SlotSpec("other"))
    for mixture in (NODES[1:], [*SLOTS, other]):
        with pytest.raises(PlanImpossible, match="at once"):
            login_of(mixture)
    assert one_a_file_system([*SLOTS, NODES[-1]]) == [SLOTS[0], NODES[-1]]
    assert [slot.constraint for slot in slots_of(NODES, PLAN)] == ["a", "a"]


class Login:
    """A fleet whose login node answers as a list says; errors are raised."""

    root, python, bundle = "/shared/hpc", "python3", "/shared/hpc/bundles/x.zip"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []  # type: ignore[var-annotated]

    async def link(self, name: str, patience: float = 0.0) -> Login:
        return self

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        self.asked.append((kind, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


async def test_a_run_is_submitted_with_its_script_and_what_only_its_slots_may_know() -> None:
    fleet, told = Login({"job_id": 7}), []  # type: ignore[var-annotated]
    await submit_to_slurm(fleet, SLOTS, TrainSpec(), PLAN, "hpc", told.append)  # type: ignore[arg-type]
    ((kind, body),) = fleet.asked
    assert kind == "submit_job"
    assert set(body["certificates"]) == {"hpc-a-1", "hpc-a-2"}
    assert body["env"]["hpc-a-1"] == {"A": "1"}
    assert f"/shared/hpc {PLAN.run_id}" in body["script"]
    await submit_to_slurm(Login({"job_id": None}), SLOTS, TrainSpec(), PLAN, "hpc", told.append)  # type: ignore[arg-type]
    assert any(isinstance(event, Warned) and "does not answer" in event.reason for event in told)
    refusing = Login(ConfigurationError("no such partition"))
    with pytest.raises(ConfigurationError):
        await submit_to_slurm(refusing, SLOTS, TrainSpec(), PLAN, "hpc", told.append)  # type: ignore[arg-type]
    assert [word for word, _ in refusing.asked] == ["submit_job"]


async def test_the_queue_is_told_once_per_reason_and_left_when_every_slot_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.jobs.slurm.queue.QUEUE_POLL_S", 0.0)
    waiting = {"state": "queued", "reason": "Priority", "job_id": 7}
    fleet = Login(
        waiting, waiting, NodeUnreachable("cut"), {**waiting, "reason": "Resources"}, {"state": "running", "has_begun": True}
    )
    told: list[Event] = []
    async with begun(fleet, "hpc", "r", told.append):  # type: ignore[arg-type]
        assert [event.reason for event in told if isinstance(event, RunQueued)] == ["Priority", "Resources"]
    with pytest.raises(UsageError):
        async with begun(Login(UsageError("no such job")), "hpc", "r", told.append):  # type: ignore[arg-type]
            pass
    async with asyncio.timeout(60), begun(fleet, None, "r", told.append):  # type: ignore[arg-type]
        pass
