"""Nodes that err, lie, hang or flood, and odd run directories: each hides itself, and the good nodes answer as ever."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runs.cleanup import list_stored, remove
from paceline.engine.agent.runs.run_dir import all_run_facts
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable, PacelineError, WorkFailed
from paceline.engine.jobs import gather
from paceline.engine.jobs.gather import gather_answers
from paceline.engine.jobs.runs import cancel as cancelling
from paceline.engine.jobs.runs.listing import believed
from paceline.engine.jobs.runs.run_facts import RunFacts
from paceline.engine.protocol.json_files import read_json
from paceline.engine.protocol.regular_files import open_regular, read_regular

from tests.support.ssh.hostile_agent import KINDS
from tests.support.ssh.hostile_nodes import EVERY_DIRECTORY, ODD_DIRECTORIES, VERBS, HostileLab, opened, play, write_run

QUICK = (
    EVERY_DIRECTORY,
    "lies about runs",
    "answers with errors",
    "answers with a foreign error",
    "answers rows of rubbish",
    "claims the greatest epoch",
    "claims impossible figures",
    "reports wild figures",
)
"""Kinds that neither flood nor hang: all at once cost little."""
RUN = "20260101-0000-aaaaaa"


async def test_good_nodes_are_listed_read_and_cancelled_beside_bad_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "ANSWER_TIMEOUT_S", 60.0)
    lab = HostileLab(tmp_path, QUICK)
    try:
        async with opened(lab) as control:
            for verb, ask in VERBS.items():
                if verb != "cancel":
                    assert await ask(control) == []
    finally:
        lab.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ODD_DIRECTORIES, *KINDS])
async def test_a_bad_node_hides_only_itself(tmp_path: Path, kind: str) -> None:
    _, _, wrong = await play(HostileLab(tmp_path, [kind]))
    assert wrong == []


@pytest.mark.parametrize("kind", ODD_DIRECTORIES)
def test_an_odd_directory_hides_no_other_run(tmp_path: Path, kind: str) -> None:
    home = StateDir(tmp_path / "n", "n")
    for name in ("20260101-0000-aaaaaa", "20260101-0001-bbbbbb", "20260101-0002-cccccc"):
        write_run(home.runs / name, ("n",), 0, None)
    ODD_DIRECTORIES[kind](home.runs / "20260101-0001-bbbbbb")
    facts = {row["run_id"]: row for row in all_run_facts(home.runs)}
    json.dumps(list(facts.values()))
    assert [facts[f"20260101-000{i}-{c * 6}"]["exit"] for i, c in ((0, "a"), (2, "c"))] == [{"state": "done"}] * 2
    assert {item["name"] for item in list_stored(home) if item["kind"] == "runs"} >= {
        "20260101-0000-aaaaaa",
        "20260101-0002-cccccc",
    }


def test_a_run_of_any_depth_is_removed(tmp_path: Path) -> None:
    home = StateDir(tmp_path / "n", "n")
    home.prepare()
    (home.runs / RUN).mkdir()
    handle = os.open(home.runs / RUN, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python's recursion
        os.mkdir("dddd", dir_fd=handle)  # and longer than a path may be
        inner = os.open("dddd", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    assert [item["name"] for item in list_stored(home)] == [RUN]
    assert [result["reason"] for result in remove(home, [{"kind": "runs", "name": RUN}])] == [""]
    assert not (home.runs / RUN).exists()
    assert not (home.root / ".swept").exists()


@pytest.mark.parametrize(
    "put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)]
)
def test_only_a_regular_file_is_read_and_nothing_is_waited_for(tmp_path: Path, put: Callable[[Path], object]) -> None:
    put(tmp_path / "x")
    assert read_json(tmp_path / "x") is None
    with pytest.raises(OSError, match="x"):
        open_regular(tmp_path / "x")


def test_a_file_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_regular(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="large"):
        read_regular(tmp_path / "x", 4)


async def test_each_question_fails_by_itself() -> None:
    async def answer() -> int:
        return 1

    async def never() -> int:
        await asyncio.Event().wait()
        return 2

    async def fail(error: Exception) -> int:
        raise error

    questions = {"a": answer(), "b": never(), "c": fail(WorkFailed("no", node="c")), "d": fail(KeyError("runs"))}
    answers, failures = await gather_answers(questions, 0.05)
    assert answers == {"a": 1}
    assert {node: str(error) for node, error in failures.items()} == {
        "b": "b: no answer for 0.05 s",
        "c": "c: no",
        "d": "d: its answer cannot be read: KeyError: 'runs'",
    }
    with pytest.raises(MemoryError):
        await gather_answers({"a": fail(MemoryError())})


def test_a_node_outside_a_run_cannot_end_it() -> None:
    good, lie = RunFacts(nodes=("a", "b"), is_alive=True), RunFacts(nodes=("a", "b", "c"), exit={"state": "failed"})
    assert believed({"a": good, "b": good, "c": lie}) == {"a": good, "b": good}
    assert believed({"a": good, "c": lie}) == {"a": good, "c": lie}, "one word against another: both count"
    assert believed({"a": good, "b": RunFacts()}) == {"a": good, "b": RunFacts()}, "a node of the run whose plan is broken counts"
    assert believed({}) == {}


class Nodes:
    """Nodes that only know leases and cancels, for ``cancel``: each a function from request to answer."""

    def __init__(self, **nodes: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
        self._nodes = nodes
        self.asked: list[tuple[str, str, Any]] = []

    async def link(self, name: str, patience: float = 0.0) -> Any:
        nodes = self

        class Link:
            async def ask(self, word: str, **body: Any) -> dict[str, Any]:
                nodes.asked.append((name, word, body.get("epoch")))
                return nodes._nodes[name](word, body)

        return Link()

    async def cancel(self) -> Any:
        row = {"run_id": RUN, "nodes": list(self._nodes), "state": "running"}
        return await cancelling.cancel(row, self, list(self._nodes), holder="me")  # type: ignore[arg-type]  # a test double

    @property
    def cancelled(self) -> set[str]:
        return {name for name, word, _ in self.asked if word == "cancel"}


def good(word: str, body: dict[str, Any]) -> dict[str, Any]:
    """A node whose lease is free."""
    return {"survivors": []} if word == "cancel" else {"epoch": body.get("epoch", 4), "holder": "me"}


def conflicting(word: str, body: dict[str, Any]) -> dict[str, Any]:
    """A node that says that another centre acts on the run."""
    if word == "take_lease" and "epoch" in body:
        raise WorkFailed(f"bob@lab/7 acts on run {RUN} (epoch 9)")
    return good(word, body)


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "CONFLICT_SETTLE_S", 0.0)
    monkeypatch.setattr(cancelling, "CANCEL_TIMEOUT_S", 0.05)
    monkeypatch.setattr(gather, "ANSWER_TIMEOUT_S", 0.05)


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("word", ["take_lease", "cancel"])
async def test_a_node_that_errs_keeps_no_other_from_ending_its_part(word: str) -> None:
    def failing(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        if asked == word:
            raise WorkFailed("broken")
        return good(asked, body)

    nodes = Nodes(a=failing, b=good, c=good)
    with pytest.raises(PacelineError, match="a: broken"):
        await nodes.cancel()
    assert {"b", "c"} <= nodes.cancelled


@pytest.mark.usefixtures("_hurry")
async def test_a_node_that_claims_the_greatest_epoch_harms_no_other() -> None:
    nodes = Nodes(a=lambda word, body: {"survivors": [], "epoch": (1 << 63) - 2}, b=good)
    await nodes.cancel()
    assert [epoch for name, word, epoch in nodes.asked if (name, word) == ("b", "cancel")] == [5]


@pytest.mark.usefixtures("_hurry")
async def test_a_single_node_cannot_make_a_run_unstoppable() -> None:
    nodes = Nodes(a=conflicting, b=good, c=good)
    with pytest.raises(WorkFailed, match="bob@lab/7 acts on run"):
        await nodes.cancel()
    assert nodes.cancelled == {"b", "c"}


@pytest.mark.usefixtures("_hurry")
async def test_a_centre_that_acts_on_several_nodes_is_respected() -> None:
    epochs = iter((4, 9))
    nodes = Nodes(a=conflicting, b=lambda word, body: {"epoch": next(epochs)})
    with pytest.raises(WorkFailed, match="bob@lab/7 acts on run"):
        await nodes.cancel()
    assert nodes.cancelled == set()


@pytest.mark.usefixtures("_hurry")
async def test_a_node_that_does_not_answer_is_named_and_the_rest_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(fleet: Nodes, node: str, word: str, patience: float, **body: Any) -> dict[str, Any]:
        if node == "a":
            await asyncio.Event().wait()
        return good(word, body)

    monkeypatch.setattr(cancelling, "call_with_retry", ask)
    with pytest.raises(NodeUnreachable, match=r"a out of reach: cancelled on the other nodes; .* \(a: no answer for 0.05 s\)"):
        await Nodes(a=good, b=good).cancel()
    with pytest.raises(NodeUnreachable, match="a out of reach: what runs there goes on"):
        await Nodes(a=good).cancel()
