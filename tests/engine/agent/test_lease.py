"""Leases: epochs that only grow, and control centres that act on one run at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.agent.rpc import run_control
from paceline.engine.agent.runs import lease
from paceline.engine.agent.runs.lease import Lease, may_act, may_take
from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.errors import NodeUnreachable, UsageError, WorkFailed
from paceline.engine.jobs.retry import call_with_retry
from paceline.engine.jobs.runs import cancel as cancelling
from paceline.engine.wire import to_plain

from tests.support.runs.runners import RUN, SPEC, STAYS, Lab
from tests.support.waiting import loop_turns


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc")), max_size=30))
def test_an_epoch_is_granted_once_and_they_only_grow(asked: list[tuple[int, str]]) -> None:
    held, granted = Lease(), []
    for epoch, holder in asked:
        if may_take(held, epoch):
            held = Lease(epoch, holder)
            granted.append(epoch)
            assert may_act(held, epoch)
        assert not may_act(held, held.epoch - 1)
    assert granted == sorted(set(granted))


def test_a_lease_is_refused_with_the_name_and_epoch_of_its_holder(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    assert lease.acquire(tmp_path, 2, "ada@desk/1") == Lease(2, "ada@desk/1")
    assert lease.acquire(tmp_path, 2, "ada@desk/1") == Lease(2, "ada@desk/1"), "a repeated request after a lost answer"
    for epoch in (1, 2):
        with pytest.raises(WorkFailed, match=rf"ada@desk/1 acts on run {tmp_path.name} \(epoch 2\)"):
            lease.acquire(tmp_path, epoch, "bob@lab/7")
    assert lease.acquire(tmp_path, 3, "bob@lab/7").epoch == 3
    with pytest.raises(WorkFailed, match="bob@lab/7"):
        lease.check(tmp_path, 2)


class Link:
    """A centre's link to a node of the lab. It breaks after the first answer to each word in ``breaks``."""

    def __init__(self, lab: Lab, node: int, breaks: list[str]) -> None:
        self._lab, self._node, self._breaks = lab, node, breaks

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        answer = await self._lab.ask(self._node, word, **body)
        if word in self._breaks:
            self._breaks.remove(word)
            raise NodeUnreachable("the link was lost")
        return answer


class Centre:
    """The part of a fleet that ``cancel`` uses."""

    def __init__(self, lab: Lab, breaks: tuple[str, ...] = ()) -> None:
        self._lab, self._breaks = lab, list(breaks)

    async def link(self, name: str, patience: float = 0.0) -> Link:
        await loop_turns()
        return Link(self._lab, int(name[1:]), self._breaks)

    async def cancel(self, holder: str, read_only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        nodes = [home.name for home in self._lab.homes]
        row = {"run_id": RUN, "nodes": nodes, "state": "running"}
        return await cancelling.cancel(row, self, nodes, read_only, holder)  # type: ignore[arg-type]  # a test double


async def test_of_two_centres_that_cancel_at_once_one_acts_and_the_other_gets_its_name(tmp_path: Path) -> None:
    two = Lab(tmp_path, [STAYS, STAYS])
    await two.start()
    ends = await asyncio.gather(Centre(two).cancel("ada@desk/1"), Centre(two).cancel("bob@lab/7"), return_exceptions=True)
    (refused,) = [end for end in ends if isinstance(end, WorkFailed)]
    assert [] in ends
    winner = "bob@lab/7" if isinstance(ends[0], WorkFailed) else "ada@desk/1"
    assert f"{winner} acts on run {RUN} (epoch 2)" in str(refused)
    assert {(await two.until(node, "exit.json"))["state"] for node in (0, 1)} == {"cancelled"}
    assert await Centre(two).cancel("bob@lab/7") == [], "a second try is granted"


async def test_a_cancel_with_an_older_lease_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    await one.start()
    await one.ask(0, "take_lease", run_id=RUN, epoch=5, holder="ada@desk/1")
    with pytest.raises(WorkFailed, match="ada@desk/1"):
        await one.ask(0, "cancel", run_id=RUN, epoch=4)
    assert runner_is_alive(one.run(0))
    await one.ask(0, "cancel", run_id=RUN, epoch=5)


async def test_a_link_that_breaks_after_every_answer_changes_nothing(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    await one.start()
    assert await Centre(one, ("take_lease", "take_lease", "cancel")).cancel("ada@desk/1") == []
    assert (await one.until(0, "exit.json"))["state"] == "cancelled"


async def test_a_read_only_node_refuses_a_cancel(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    await one.start()
    with pytest.raises(UsageError, match="n0 is read_only"):
        await Centre(one).cancel("ada@desk/1", ("n0",))
    assert runner_is_alive(one.run(0))
    await one.end()


async def test_a_launch_whose_answer_is_lost_is_repeated_and_starts_once(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])
    body = {"spec": SPEC, "plan": to_plain(one.plan), "certificates": {}, "env": {}, "holder": "ada@desk/1"}
    answer = await call_with_retry(Centre(one, ("launch", "launch")), "n0", "launch", 30.0, **body)  # type: ignore[arg-type]  # a test double
    assert answer["pid"] == one.pid(0)
    assert await one.ask(0, "take_lease", run_id=RUN) == {"epoch": 1, "holder": "ada@desk/1"}
    await one.end()


async def test_two_launches_at_once_start_one_runner(tmp_path: Path) -> None:
    one = Lab(tmp_path, [STAYS])

    async def launch() -> dict[str, Any]:
        run_control._run_locks.clear()  # as from two agents, which share only the directory
        return await one.launch(0)

    answers = await asyncio.gather(*(launch() for _ in range(4)))
    assert len({answer["pid"] for answer in answers}) == 1
    await one.end()


@pytest.mark.parametrize("answer", [{}, *({"epoch": epoch} for epoch in (None, "x", -1, True, 10**400, 1))])
async def test_a_node_with_a_malformed_answer_is_named(answer: dict[str, Any]) -> None:
    class MalformedLink:
        async def ask(self, word: str, **body: Any) -> dict[str, Any]:
            return answer

    class Fleet:
        async def link(self, name: str, patience: float = 0.0) -> MalformedLink:
            return MalformedLink()

    row = {"run_id": RUN, "nodes": ["n0"], "state": "running"}
    with pytest.raises(WorkFailed, match=r"n0: its answer has no (valid epoch|list of remaining processes)"):
        await cancelling.cancel(row, Fleet(), ["n0"])  # type: ignore[arg-type]  # a test double
