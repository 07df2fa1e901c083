"""``drain`` and ``grow``: what the centre asks of the nodes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from paceline.engine.errors import DeviceInUse, NodeUnreachable, UsageError, WorkFailed
from paceline.engine.jobs.members.change import drain, grow
from paceline.engine.jobs.members.revive import prove_deaths, read_parts
from paceline.tui.command_line.batch import exit_status

from tests.support.screens.documents import documented, paths

ROW: dict[str, Any] = {"run_id": "20260101-0000-abcdef", "state": "running", "nodes": ["n0", "n1", "n2"]}
OTHER: dict[str, Any] = {"run_id": "20260102-0000-abcdef", "state": "running", "nodes": ["n1"]}


class Nodes:
    """What changing members needs of a fleet. ``answers``: by node; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[tuple[str, str, str]]()

    async def link(self, name: str, patience: float = 0.0) -> Any:
        nodes = self

        class Link:
            async def ask(self, word: str, *, run_id: str, **fields: str) -> Any:
                nodes.asked.append((name, word, run_id))
                answer = nodes.answers[name]
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return Link()


async def test_a_node_is_taken_out_of_all_its_runs_or_of_one() -> None:
    fleet: Any = Nodes(n1={"ranks": [1, 2], "left": 2})
    document = await drain("n1", [ROW, OTHER, {**ROW, "state": "done"}], fleet)
    assert [run["run_id"] for run in document["runs"]] == [ROW["run_id"], OTHER["run_id"]]
    assert paths(document) | {"schema"} == documented("drain")
    assert exit_status(document) == 0
    fleet.asked.clear()
    out_of_reach = {**OTHER, "state": "unreachable"}  # another node of it is silent
    assert (await drain("n1", [ROW, out_of_reach], fleet, run_id=OTHER["run_id"]))["runs"][0]["left"] == 2
    assert fleet.asked == [("n1", "drain", OTHER["run_id"])]


async def test_a_node_comes_back_alone_or_all_that_rest_do() -> None:
    fleet: Any = Nodes(n0=UsageError("n0 takes part in the run already"), n1={"ranks": [1, 2]}, n2={"ranks": [3]})
    document = await grow(ROW, None, fleet)
    assert [node["node"] for node in document["joining"]] == ["n1", "n2"]
    assert paths(document) | {"schema"} == documented("grow")
    assert exit_status(document) == 0
    assert [node["ranks"] for node in (await grow(ROW, "n2", fleet))["joining"]] == [[3]]
    with pytest.raises(UsageError, match="takes part in the run already"):
        await grow(ROW, "n0,n1", fleet)
    everybody: Any = Nodes(**dict.fromkeys(("n0", "n1", "n2"), UsageError("it takes part already")))
    with pytest.raises(UsageError, match="all nodes of run"):
        await grow(ROW, None, everybody)


class Machines:
    """Nodes by name, each of which answers words by a function; what they were asked is kept."""

    def __init__(self, **nodes: dict[str, Any]) -> None:
        self.nodes, self.asked = nodes, list[tuple[str, str, dict[str, Any]]]()

    async def link(self, name: str, patience: float = 0.0) -> Any:
        machines = self

        class Link:
            async def ask(self, word: str, **body: Any) -> Any:
                machines.asked.append((name, word, body))
                if word not in machines.nodes[name]:
                    raise NodeUnreachable("no answer", node=name)
                return machines.nodes[name][word]

        return Link()


def part(*, is_alive: bool, life: int = 0, members: dict[str, int] | None = None) -> dict[str, Any]:
    lives = members if members is not None else {"n0": 0, "n1": 0, "n2": 0}
    generation = {"number": 4, "members": [{"name": name, "numbers": [0], "life": one} for name, one in lives.items()]}
    facts = {"is_known": True, "is_alive": is_alive, "is_over": False, "has_members": True, "address": "10.0.0.1", "ranks": [0]}
    return {"member_facts": {**facts, "life": life, "record": {"generation": generation}}}


async def test_a_node_whose_runner_is_gone_is_proved_dead_and_returns_through_doors_that_the_others_open() -> None:
    door = {"open_door": {"port": 7000, "authority": "PEM of the run"}, "bury": {}}
    fleet: Any = Machines(
        n0={**part(is_alive=True), **door},
        n1={**part(is_alive=True), **door},
        n2={**part(is_alive=False), "rejoin": {"ranks": [3]}},
    )
    document = await grow(ROW, "n2", fleet, env={"n2": {"TOKEN": "secret"}})
    assert document["joining"] == [{"node": "n2", "ranks": [3]}]
    buried = [(name, body["member"], body["life"]) for name, word, body in fleet.asked if word == "bury"]
    assert sorted(buried) == [("n0", "n2", 0), ("n1", "n2", 0)]
    (request,) = [body for name, word, body in fleet.asked if (name, word) == ("n2", "rejoin")]
    assert request["peers"] == {"n0": ["10.0.0.1", 7000], "n1": ["10.0.0.1", 7000]}
    assert (request["authorities"], request["env"]) == (["PEM of the run"], {"TOKEN": "secret"})
    vouching = {body["authority"] for _, word, body in fleet.asked if word == "open_door"}
    assert vouching == {request["certificates"]["authority"]}


async def test_no_node_returns_to_a_run_that_nobody_holds_or_past_a_member_that_does_not_answer() -> None:
    nobody: Any = Machines(n0=part(is_alive=False), n1=part(is_alive=False), n2=part(is_alive=False))
    with pytest.raises(UsageError, match="no runner of run") as refused:
        await grow(ROW, "n2", nobody)
    assert "paceline resume" in str(refused.value.hint)
    silent: Any = Machines(
        n0={**part(is_alive=True), "bury": {}}, n1={"member_facts": {"is_known": False}}, n2=part(is_alive=False)
    )
    with pytest.raises(NodeUnreachable, match="n2 would have to meet it again"):
        await grow(ROW, "n2", silent)


async def test_a_runner_of_an_earlier_life_proves_nothing_about_the_present_one() -> None:
    others = {"n0": 0, "n1": 0, "n2": 1}
    fleet: Any = Machines(
        n0=part(is_alive=True, members=others), n1=part(is_alive=True, members=others), n2=part(is_alive=False, members=others)
    )
    assert await prove_deaths(ROW["run_id"], await read_parts(ROW["run_id"], ROW["nodes"], fleet), fleet) == ()
    assert {word for _, word, _ in fleet.asked} == {"member_facts"}


async def test_what_cannot_be_is_refused_before_a_node_is_asked() -> None:
    fleet: Any = Nodes()
    with pytest.raises(UsageError, match="no run is on n9"):
        await drain("n9", [ROW], fleet)
    with pytest.raises(UsageError, match="does not run on n0"):
        await drain("n0", [OTHER], fleet, run_id=OTHER["run_id"])
    with pytest.raises(UsageError, match=r"n1 is read_only in nodes\.toml: drain refused"):
        await drain("n1", [ROW], fleet, read_only=["n1"])
    with pytest.raises(UsageError, match=r"n1, n2 are read_only in nodes\.toml: grow refused"):
        await grow(ROW, "n[1-2]", fleet, read_only=["n1", "n2"])
    with pytest.raises(UsageError, match="n7 was not part of run") as refused:
        await grow(ROW, "n1,n7", fleet)
    assert "paceline resume" in str(refused.value.hint)
    with pytest.raises(UsageError, match="is done: only a running one grows"):
        await grow({**ROW, "state": "done"}, None, fleet)
    assert fleet.asked == []


async def test_a_refusal_of_a_node_keeps_its_kind_and_names_the_run() -> None:
    for error in (
        UsageError("n1 is the last node of the run"),
        DeviceInUse("in use"),
        WorkFailed("the other nodes have not answered"),
    ):
        fleet: Any = Nodes(n1=error)
        with pytest.raises(type(error), match=f"run {ROW['run_id']}: {error.reason}"):
            await drain("n1", [ROW], fleet)
    lost: Any = Nodes(n1=NodeUnreachable("the link is lost"))
    with pytest.raises(NodeUnreachable, match="the link is lost") as unsure:
        await drain("n1", [ROW], lost)
    assert "it may have happened all the same" in str(unsure.value.hint)


@pytest.mark.parametrize("answer", [{}, {"ranks": "1", "left": 2}, {"ranks": [1], "left": -1}, {"ranks": [None], "left": 1}])
async def test_an_answer_without_sense_is_an_error_of_that_node(answer: dict[str, Any]) -> None:
    fleet: Any = Nodes(n1=answer)
    with pytest.raises(WorkFailed, match="its answer has no valid"):
        await drain("n1", [ROW], fleet)
