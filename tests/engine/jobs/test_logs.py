"""Logs of a run, from copies and from nodes, as a person reads them."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.agent.runs.tail import FileTail
from paceline.engine.errors import NodeUnreachable, UsageError, WorkFailed
from paceline.engine.events import LaunchStarted, RankFailed, RunnerStarted
from paceline.engine.jobs.logs.merge import MAX_LOG_LINE_BYTES, Clock, LineReader, MergedLine, merge
from paceline.engine.jobs.logs.read import LogQuery, measure_clocks, read_logs
from paceline.engine.wire import encode
from paceline.tui.command_line.log_printer import log_line

from tests.engine.jobs.test_attach import ROW, Centre, break_once, centre
from tests.support.runs.fault_histories import RUN

__all__ = ["centre"]


def launches(centre: Centre) -> list[str]:
    """What the node's events read like."""
    events = [event for event in centre.written.expected("events.jsonl") if isinstance(event, LaunchStarted)]
    return [f"torchrun has started, process {event.pid}" if event.pid else "torchrun has started" for event in events]


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_lines_are_the_same_however_their_bytes_arrive(pieces: list[bytes]) -> None:
    def read(parts: list[bytes]) -> list[MergedLine]:
        lines = LineReader("a", "out.log", (), Clock())
        return [line for part in parts for line in lines.feed(part)] + list(lines.flush())

    assert read(pieces) == read([b"".join(pieces)])


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(0, 9)), max_size=6), max_size=4))
def test_merging_never_changes_the_order_within_a_file(times: list[list[float | None]]) -> None:
    files = [[MergedLine(str(i), None, at, str(j)) for j, at in enumerate(file)] for i, file in enumerate(times)]
    found = list(merge(files))
    for i, file in enumerate(files):
        assert [line for line in found if line.node == str(i)] == file


def test_output_stands_before_the_last_event_of_its_node() -> None:
    events = [MergedLine("a", None, 1.0, "started"), MergedLine("a", None, 9.0, "ended")]
    output = [MergedLine("a", 0, None, "Traceback"), MergedLine("a", 0, None, "boom")]
    found = merge([events, output, [MergedLine("b", None, 5.0, "b")]])
    assert [line.text for line in found] == ["started", "b", "Traceback", "boom", "ended"]


def test_a_line_names_its_rank_by_its_prefix_or_by_being_the_only_one() -> None:
    named = list(LineReader("a", "out.log", (4, 5), Clock()).feed(b"[rank5]: boom\n[rank 4] hm\n[4]:x\nplain\n"))
    assert [line.rank for line in named] == [5, 4, 4, None]
    assert [line.rank for line in LineReader("a", "out.log", (4,), Clock()).feed(b"plain\n")] == [4]


def test_times_of_a_node_are_converted_to_the_clock_of_the_centre() -> None:
    line = encode(RankFailed(rank=1, case="equal", reason="boom", node_time=1000.0)).encode() + b"\n"
    (found,) = LineReader("a", "ranks/1.jsonl", (1,), Clock(offset=30.0)).feed(line)
    assert (found.at, found.rank, "boom" in found.text) == (970.0, 1, True)
    (ours,) = LineReader("a", "events.jsonl", (1,), Clock()).feed(encode(RunnerStarted(pid=7)).encode() + b"\n")
    assert (ours.at, ours.rank) == (None, None)


async def test_clocks_are_measured_of_nodes_that_answer_only() -> None:
    class Ahead:
        """Nodes whose clocks are a minute ahead; b does not answer, c tells nonsense."""

        async def link(self, name: str, patience: float) -> Ahead:
            if name == "b":
                raise NodeUnreachable("silent", node=name)
            self.name = name
            return self

        async def ask(self, word: str) -> dict[str, object]:
            return {"time": time.time() + 60.0 if self.name == "a" else "noon"}

    fleet: Any = Ahead()
    assert await measure_clocks(["b", "c"], fleet) == {}
    told = await measure_clocks(["a", "b"], fleet)
    assert list(told) == ["a"]
    assert told["a"].uncertainty is not None
    assert abs(told["a"].offset - 60.0) <= told["a"].uncertainty + 1e-6


@pytest.mark.parametrize("is_coloured", [True, False])
def test_no_line_of_a_node_reaches_the_terminal_but_through_the_gate(is_coloured: bool) -> None:
    shown = log_line("a\x1b[2J", 1, 1e30, "\x1b]52;c;x\x07\u202e" + "y" * 9000, is_coloured)
    assert not re.search(r"[\x07\u202e]|\x1b\]|\x1b\[2J", shown)
    assert len(shown) < 4100
    assert ("\x1b" in shown) is is_coloured


async def test_logs_come_from_the_nodes_where_no_copy_is_and_from_the_copies_else(centre: Centre, tmp_path: Path) -> None:
    await centre.written.write()
    there = await read_logs(ROW, LogQuery(), centre.fleet(), connected=["a"], runs=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    await centre.attach(centre.runs, [])
    here = await read_logs(ROW, LogQuery(), centre.fleet(), connected=["a"], runs=centre.runs)
    assert there["lines"] == here["lines"]
    wanted = [line for line in here["lines"] if line["text"].startswith("torchrun has started")]
    assert len(wanted) == len(centre.written.expected("events.jsonl"))


async def test_logs_are_filtered_and_cut_to_the_last_lines(centre: Centre) -> None:
    await centre.written.write()
    await centre.attach(centre.runs, [])
    wish = LogQuery(grep=re.compile("torchrun has started"), lines=3)
    found = await read_logs(ROW, wish, centre.fleet(), connected=["a"], runs=centre.runs)
    assert [line["text"] for line in found["lines"]] == launches(centre)[-3:]
    with pytest.raises(UsageError, match="not on b"):
        await read_logs(ROW, LogQuery(nodes=("b",)), centre.fleet(), connected=["a"], runs=centre.runs)


async def test_a_rank_that_the_run_does_not_have_is_refused_with_those_it_has(centre: Centre) -> None:
    await centre.written.write()
    await centre.attach(centre.runs, [])
    with pytest.raises(UsageError, match=r"has no rank 9 \(ranks 0"):
        await read_logs(ROW, LogQuery(rank=9), centre.fleet(), connected=["a"], runs=centre.runs)


async def test_followed_logs_show_every_line_once_until_the_run_has_ended(centre: Centre) -> None:
    shown: list[MergedLine] = []

    reading = asyncio.ensure_future(
        read_logs({**ROW, "run_id": RUN}, LogQuery(), centre.fleet(), connected=["a"], runs=centre.runs, show=shown.append)
    )
    await centre.written.write()
    await reading
    assert [line.text for line in shown if line.text.startswith("torchrun has started")] == launches(centre)


@pytest.mark.parametrize("word", ["follow", "unfollow"])
async def test_followed_logs_go_on_over_another_link(centre: Centre, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    shown: list[MergedLine] = []
    broken = break_once(monkeypatch, word)
    fleet = centre.fleet()
    reading = asyncio.ensure_future(
        read_logs({**ROW, "run_id": RUN}, LogQuery(), fleet, connected=["a"], runs=centre.runs, show=shown.append)
    )
    await centre.written.write()
    await reading
    assert broken == [word]
    assert [line.text for line in shown if line.text.startswith("torchrun has started")] == launches(centre)


async def test_a_log_that_cannot_be_read_is_an_error_and_not_an_end(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    await centre.written.write()

    def refused(tail: FileTail, is_final: bool) -> bytes:
        raise PermissionError(13, "Permission denied", str(tail.path))

    monkeypatch.setattr(FileTail, "read", refused)
    with pytest.raises(WorkFailed, match=r"cannot read .*: Permission denied"):
        await read_logs(ROW, LogQuery(), centre.fleet(), connected=["a"], runs=centre.runs)


async def test_a_copy_that_no_process_continues_is_read_to_its_end_on_the_node(centre: Centre) -> None:
    await centre.written.write()
    copies = centre.runs / RUN / "nodes" / "a"
    copies.mkdir(parents=True)
    (copies / "out.log").write_bytes((centre.written.run / "out.log").read_bytes()[:7])
    shown: list[MergedLine] = []
    await read_logs(ROW, LogQuery(), centre.fleet(), connected=[], runs=centre.runs, show=shown.append)
    assert [line.text for line in shown if line.text.startswith("torchrun has started")] == launches(centre)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "RankFailed", "node_time": 1e999}',
        f'{{"kind": "RankFailed", "node_time": {10**400}}}',
        '{"kind": "RankFailed", "node_time": true, "rank": true}',
        '{"kind": "RankFailed", "node_time": NaN, "rank": 1.5}',
    ],
)
def test_times_and_ranks_that_cannot_be_are_none(line: str) -> None:
    (found,) = LineReader("a", "ranks/1.jsonl", (1,), Clock(offset=30.0)).feed(line.encode() + b"\n")
    assert (found.at, found.rank) == (None, None)
    assert re.fullmatch(r"Rank failed|rank [01] failed", found.text)


@pytest.mark.parametrize(
    "line", ["[" * 20000, '{"kind": "RankFailed", "a": ' + "[" * 20000, "no event", '{"kind": ', "[1]", '{"a": 1}']
)
def test_a_line_that_is_no_event_is_shown_unchanged(line: str) -> None:
    (found,) = LineReader("a", "ranks/1.jsonl", (1,), Clock()).feed(line.encode() + b"\n")
    assert found == MergedLine("a", None, None, line[:MAX_LOG_LINE_BYTES])
