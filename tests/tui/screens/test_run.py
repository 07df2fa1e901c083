"""The screens of a run: ranks, decisions, alerts, logs and results; few ranks or many, and hostile log lines."""

from dataclasses import replace
from pathlib import Path

import pytest
from paceline.engine.events import CaseStarted, Event, NodeConnected, RankFailed, RankSummary, RunPlanned, StepsTaken, Ticked
from paceline.engine.jobs.logs.line_index import SCAN_BYTES, LineFilter, LineIndex
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp
from paceline.tui.messages import View
from paceline.tui.screens.node import NodeScreen
from paceline.tui.views.alerts import alert_detail, alert_key, ordered_alerts
from paceline.tui.views.logs import LineNumberKeys, clock_summary
from paceline.tui.views.run.charts import throughput_chart
from paceline.tui.views.run.decisions import decision_lines, moments
from paceline.tui.views.run.ranks import rank_keys, rank_legend, rank_line, ranks_layout
from paceline.tui.widgets.line_canvas import LineCanvas, RowList

from benchmarks.tui.replay import compare
from tests.support.screens import story
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.tui.test_app import HOSTILE


def view_of(events: list[Event]) -> View:
    state = State()
    for event in events:
        state = reduce(state, event)
    return View(state)


def crowd(ranks: int) -> list[Event]:
    """A run of ``ranks`` ranks, of which number 40 is by far the slowest."""
    summaries = tuple(RankSummary(rank, f"n{rank // 8}", rank % 8, "H100", "cuda") for rank in range(ranks))
    events: list[Event] = [
        Ticked(at=1.0, clock=story.CLOCK),
        RunPlanned(at=1.0, run_id="r", workload="w", cases=("hybrid",), ranks=summaries, epochs=2, global_batch_size=64 * ranks),
        CaseStarted(at=2.0, run_id="r", case="hybrid", policy="hybrid", local_batch_sizes=(64,) * ranks),
    ]
    for rank in range(ranks):
        own = 0.9 if rank == 40 else 0.3 + 0.001 * rank
        step = StepsTaken(
            at=3.0, run_id="r", case="hybrid", rank=rank, steps=1, samples=64, compute_seconds=own, wait_seconds=0.95 - own
        )
        events.append(replace(step, step_seconds=0.95, data_seconds=0.02, node=f"n{rank // 8}"))
    return events


def lines_of(view: View, width: int = 150) -> list[str]:
    layout = ranks_layout(view, width)
    assert view.run is not None
    assert layout is not None
    return [rank_line(view, layout, key, width, False).text for key in rank_keys(view.run, 14)]


# Ranks --------------------------------------------------------------------------------------------------------------------------


def test_few_ranks_are_listed_in_order_and_many_worst_first() -> None:
    run = view_of(crowd(64)).run
    assert run is not None
    assert rank_keys(run, 64) == [str(rank) for rank in range(64)]
    assert rank_keys(run, 14)[:3] == ["40", "63", "62"]
    failed = view_of([*crowd(64), RankFailed(at=4.0, run_id="r", case="hybrid", rank=7, reason="x")]).run
    assert failed is not None
    assert rank_keys(failed, 14)[0] == "7"


def test_hidden_ranks_are_counted() -> None:
    assert "+50 hidden" in rank_legend(view_of(crowd(64)), 80, 50)[0].text


def test_the_parts_of_a_step_are_shown_as_numbers_and_in_the_legend() -> None:
    view = view_of(crowd(2))
    first = lines_of(view)[0].split()
    assert first[-5:-1] != first
    assert [word for word in first if word.isdecimal()][-4:] == ["20", "280", "649", "1"]
    legend = rank_legend(view, 150, 0)[0].text
    assert [part in legend for part in ("data 2 %", "compute 30 %", "communication 68 %")] == [True] * 3
    assert "imbalance 0 %" in legend


def test_a_rank_that_all_others_wait_for_is_marked() -> None:
    assert "waited for" in lines_of(view_of(crowd(64)))[0]


@pytest.mark.parametrize("width", [40, 80, 119, 120, 160])
def test_every_line_of_a_rank_has_exactly_the_width_it_was_given(width: int) -> None:
    for events in (crowd(64), story.trouble(), story.healthy()):
        view = view_of(events)
        layout = ranks_layout(view, width)
        assert view.run is not None
        assert layout is not None
        assert {rank_line(view, layout, key, width, True).cell_length for key in rank_keys(view.run, 14)} == {width}


async def test_many_ranks_scroll_and_hidden_ones_are_counted() -> None:
    events = crowd(64)
    async with PacelineApp(story.StorySession(events)).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        await app.action_visit("run")
        await until_app(pilot, lambda: "+58 hidden" in screen_text(app))
        assert "  40 n5 H100" in screen_text(app)
        await pilot.press("G")
        await until_app(pilot, lambda: "   0 n0 H100" in screen_text(app))


# Decisions ----------------------------------------------------------------------------------------------------------------------


def test_moments_are_listed_newest_first_with_their_effect() -> None:
    view = view_of(story.trouble())
    kinds = [type(moment.what).__name__ for moment in moments(view.state, view.run)]
    assert kinds == ["Alert", "Alert", "Straggler", "Alert", "Alert", "ShareDecision"]
    text = "\n".join(strip.text for strip in decision_lines(view, 150, 12))
    assert "96/96/96/96 → 176/126/41/41" in text
    assert "measured 406 ms ✔" in text
    assert "demo3 rank 2 1.52x slower" in text


def test_a_single_line_shows_the_last_decision() -> None:
    assert "176/126/41/41" in decision_lines(view_of(story.trouble()), 80, 3)[0].text


def test_hidden_moments_are_counted_and_the_selected_one_is_visible() -> None:
    view = view_of(story.trouble())
    assert "+3 hidden" in decision_lines(view, 150, 4)[-1].text
    last = moments(view.state, view.run)[-1]
    assert any("176/126/41/41" in strip.text for strip in decision_lines(view, 150, 4, last.key))


def test_a_wrong_prediction_is_a_cross_with_its_error() -> None:
    view = view_of(story.healthy())
    run = view.run
    assert run is not None
    decision = replace(run.cases[2].decisions[0], measured=0.6)
    case = replace(run.cases[2], decisions=(decision,))
    worse = replace(run, cases=(*run.cases[:2], case, *run.cases[3:]))
    state = replace(view.state, runs={run.run_id: worse})
    assert "✖ +42%" in "".join(strip.text for strip in decision_lines(View(state), 150, 8))


def test_limit_and_equal_are_named_at_the_end_of_their_lines() -> None:
    text = [strip.text for strip in throughput_chart(view_of(story.healthy()), 100, 16)]
    assert any(line.rstrip().endswith("alone 930") for line in text), "what a case exceeded is no limit"
    assert any(line.rstrip().endswith("equal 401") for line in text)


async def test_n_selects_moments_and_marks_them() -> None:
    async with PacelineApp(story.StorySession(story.healthy())).run_test(size=(160, 50)) as pilot:
        app = await shown(pilot)
        await app.action_visit("run")
        await pilot.press("n")
        await until_app(pilot, lambda: "◆" in screen_text(app))
        await pilot.press("N")
        await pilot.press("N")
        await until_app(pilot, lambda: screen_text(app).count("◆") == 1)


# Alerts -------------------------------------------------------------------------------------------------------------------------


def test_acknowledged_alerts_are_listed_below_open_ones_and_above_those_that_are_over() -> None:
    view = view_of([*story.trouble(), NodeConnected(at=300.0, node="demo4")])
    keys = list(ordered_alerts(view))
    assert list(ordered_alerts(replace(view, acknowledged=frozenset({keys[0]})))) == [*keys[1:-1], keys[0], keys[-1]]
    assert ordered_alerts(view)[keys[-1]].node == "demo4"


def test_the_details_of_an_alert_are_shown() -> None:
    state = view_of(story.trouble()).state
    alert = next(alert for alert in state.alerts if alert.key[0] == "straggler")
    text = "\n".join(strip.text for strip in alert_detail(state, alert, False, 80, 9))
    assert "thermal: clock 1,665 -> 1,110 MHz, 87 °C" in text
    assert "next  check its cooling" in text
    assert "+2 lines hidden" in alert_detail(state, alert, False, 80, 3)[-1].text


async def test_a_acknowledges_an_alert_and_enter_opens_the_log_of_its_rank(tmp_path: Path) -> None:
    write_logs(tmp_path)
    session = story.StorySession(story.trouble())
    session.copies = tmp_path
    async with PacelineApp(session).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        await pilot.press("4")
        await until_app(pilot, lambda: app.current_mode == "alerts")
        await pilot.press("a")
        await until_app(pilot, lambda: "1 acknowledged" in screen_text(app))
        assert "✖1" in screen_text(app).splitlines()[0]
        await pilot.press("g", "a")
        await until_app(pilot, lambda: "✖" not in screen_text(app).splitlines()[0])
        await pilot.press("G", "k", "enter")
        await until_app(pilot, lambda: app.current_mode == "logs" and "only node demo2 rank 1" in screen_text(app))
        assert "of demo2" in screen_text(app)
        assert "of demo1" not in screen_text(app)


async def test_an_alert_leads_to_the_log_line_of_its_start_and_to_its_moment(tmp_path: Path) -> None:
    session = story.StorySession(story.trouble())
    session.copies = tmp_path
    failed = next(event for event in session.events if isinstance(event, RankFailed))
    ranks = tmp_path / "demo2" / "ranks"
    ranks.mkdir(parents=True)
    template = '{"kind":"CaseStarted","node_time":%f,"rank":1,"case":"%d","policy":"equal"}\n'
    (ranks / "1.jsonl").write_text("".join(template % (story.CLOCK + failed.at + 0.01 + 0.1 * n, n) for n in range(-300, 300)))
    async with PacelineApp(session).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        await pilot.press("4")
        await until_app(pilot, lambda: app.current_mode == "alerts")
        await pilot.press("enter")
        await until_app(pilot, lambda: app.current_mode == "logs" and app.screen.query_one(RowList).cursor_key == "300")
        assert "following" not in screen_text(app)
        await pilot.press("escape", "m")
        await until_app(pilot, lambda: app.current_mode == "run")
        marked = app.screen.query_one("#decisions", LineCanvas)
        await until_app(
            pilot,
            lambda: any("out of memory" in row.text for row in marked._lines if (style := next(iter(row)).style) and style.bgcolor),
        )


async def test_an_alert_of_a_replay_leads_to_its_moment(tmp_path: Path) -> None:
    events = story.trouble()
    failed = next(event.at for event in events if isinstance(event, RankFailed))
    session = ReplaySession(story.record(tmp_path / "a.jsonl", events), 64.0)
    async with PacelineApp(session).run_test(size=(120, 40)) as pilot:
        app = pilot.app
        assert isinstance(app, PacelineApp)
        await until_app(pilot, lambda: app.view.state.at > failed)
        await pilot.press("4", "p")
        await until_app(pilot, lambda: "out of memory" in screen_text(app))
        await pilot.press("m")
        await until_app(pilot, lambda: app.current_mode == "run" and session.at == failed == app.view.state.at)


def test_an_alert_that_comes_twice_has_two_keys() -> None:
    alert = view_of(story.trouble()).state.alerts[0]
    assert alert_key(alert) != alert_key(replace(alert, at=alert.at + 1))


async def test_enter_on_a_rank_opens_its_log_or_without_one_its_node(tmp_path: Path) -> None:
    session = story.StorySession([event for event in story.healthy() if event.at < 40])
    async with PacelineApp(session).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        await pilot.press("3", "j", "enter")
        await until_app(pilot, lambda: isinstance(app.screen, NodeScreen) and app.screen.node == "demo2")
        await pilot.press("escape")
        write_logs(tmp_path)
        session.copies = tmp_path
        await pilot.press("enter")
        await until_app(pilot, lambda: app.current_mode == "logs" and "only node demo2 rank 1" in screen_text(app))


async def test_results_scroll_by_keys_and_are_exported_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with PacelineApp(story.StorySession(story.healthy())).run_test(size=(80, 12)) as pilot:
        app = await shown(pilot)
        await pilot.press("5")
        await until_app(pilot, lambda: app.current_mode == "results")
        page = app.screen.query_one("#page")
        await pilot.press("pagedown", "j")
        await until_app(pilot, lambda: page.scroll_offset.y > 1)
        await pilot.press("pageup", "k")
        await until_app(pilot, lambda: page.scroll_offset.y == 0)
        await pilot.press("e")
        await until_app(pilot, lambda: any(tmp_path.iterdir()))
        text = next(tmp_path.glob("paceline-results-*.txt")).read_text()
        assert all(policy in text for policy in story.CASES)


# Logs ---------------------------------------------------------------------------------------------------------------------------


def write_logs(copies: Path, amount: int = 3) -> None:
    """Output of two nodes and the events of their ranks."""
    for rank, node in enumerate(("demo1", "demo2")):
        (copies / node / "ranks").mkdir(parents=True)
        output = "".join(f"line {number} of {node}\n" for number in range(amount))
        (copies / node / "out.log").write_text(output)
        lines = [
            f'{{"kind":"RankJoined","node_time":{1000.0 + rank},"rank":{rank},"pid":{rank}}}',
            f'{{"kind":"StepsTaken","node_time":{1001.0 + rank},"rank":{rank}}}',
            f'{{"kind":"CaseStarted","node_time":{2000.0 - rank},"rank":{rank},"case":"x","policy":"equal"}}',
        ]
        (copies / node / "ranks" / f"{rank}.jsonl").write_text("\n".join(lines) + "\n")


def read(copies: Path) -> LineIndex:
    index = LineIndex(copies)
    while lines := index.scan():
        index.add(lines)
    return index


def test_lines_of_ranks_are_merged_by_their_time_and_summaries_of_steps_are_left_out(tmp_path: Path) -> None:
    write_logs(tmp_path)
    index = read(tmp_path)
    lines = [index.line(number) for number in range(len(index))]
    assert [line.rank for line in lines if line.at is not None] == [0, 1, 1, 0]
    assert [line.text for line in lines if line.node == "demo1" and line.rank is None] == [f"line {n} of demo1" for n in range(3)]
    assert not any("StepsTaken" in line.text for line in lines)


def test_lines_of_ranks_are_merged_by_node_time_corrected_by_the_measured_offset(tmp_path: Path) -> None:
    write_logs(tmp_path)
    index = LineIndex(tmp_path)
    index.clocks = {"demo2": Clock(offset=500.0, uncertainty=0.002)}
    while found := index.scan():
        index.add(found)
    lines = [index.line(number) for number in range(len(index))]
    assert [(line.rank, line.at) for line in lines if line.at is not None] == [(1, 501.0), (0, 1000.0), (1, 1499.0), (0, 2000.0)]


def test_the_head_of_the_logs_shows_the_uncertainty_of_the_clocks() -> None:
    known = {"demo1": Clock(0.1, 0.0021), "demo2": Clock(-3.0, 0.0004)}
    assert clock_summary(known, ("demo1", "demo2")) == "clocks within ±3 ms"
    assert clock_summary(known, ("demo1", "demo2", "demo3", "demo4")) == "clock of demo3 and 1 more unknown"
    assert clock_summary({}, ("demo1",)) == "times by the nodes' own clocks"


async def test_the_logs_are_read_with_the_clocks_that_the_session_measured(tmp_path: Path) -> None:
    write_logs(tmp_path)
    session = story.StorySession(story.healthy())
    session.copies = tmp_path
    session.offsets = {f"demo{number}": Clock(0.0, 0.0021) for number in range(1, 5)}
    async with PacelineApp(session).run_test(size=(120, 30)) as pilot:
        app = await shown(pilot)
        await app.action_visit("logs")
        await until_app(pilot, lambda: "clocks within ±3 ms" in screen_text(app))


def test_later_lines_are_appended_with_the_time_of_their_arrival(tmp_path: Path) -> None:
    write_logs(tmp_path)
    index = read(tmp_path)
    with (tmp_path / "demo2" / "out.log").open("a") as file:
        file.write("half a li")
    assert index.scan() == []
    with (tmp_path / "demo2" / "out.log").open("a") as file:
        file.write("ne\n")
    index.add(index.scan())
    last = index.line(len(index) - 1)
    assert (last.node, last.text) == ("demo2", "half a line")
    assert last.at is not None


def test_a_last_line_without_a_newline_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "out.log").write_text("Segmentation fault")
    index = LineIndex(tmp_path)
    assert index.scan() == []
    index.add(index.scan())
    assert index.line(0).text == "Segmentation fault"


def test_logs_can_be_restricted_to_a_node_or_rank(tmp_path: Path) -> None:
    write_logs(tmp_path)
    index = read(tmp_path)
    index.set_filter(LineFilter("demo2", 1))
    assert {index.line(number).node for number in range(len(index))} == {"demo2"}
    index.set_filter(LineFilter())
    assert len(index) == 10


def test_a_large_file_is_indexed_in_pieces_and_every_line_can_be_read(tmp_path: Path) -> None:
    amount = 4 * SCAN_BYTES // 20
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "out.log").write_text("".join(f"line {number:013}\n" for number in range(amount)))
    index = read(tmp_path)
    assert len(index) == amount
    for number in (0, 1, amount // 2, amount - 1):
        assert index.line(number).text == f"line {number:013}"
    assert index.find(f"LINE {amount - 7:013}", 0, 1) == amount - 7
    assert index.find("line 0000000000003", amount - 1, -1) == 3
    assert index.find("nowhere", 0, 1) is None


def test_binary_data_and_very_long_lines_are_lines_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "ranks").mkdir(parents=True)
    (tmp_path / "a" / "out.log").write_bytes(b"\xff\xfe\x00\n" + b"x" * (2 * SCAN_BYTES) + b"\n")
    (tmp_path / "a" / "ranks" / "0.jsonl").write_bytes(
        b'{"kind":7,"node_time":"x"}\n[]\nnull\n{"kind":"X","node_time":1e400}\n\xff\n'
    )
    index = read(tmp_path)
    assert len(index) > 5
    for number in range(len(index)):
        index.line(number)


def test_line_numbers_are_keys_without_a_string_for_each() -> None:
    keys = LineNumberKeys(10**12)
    assert keys[10**12 - 1] == str(10**12 - 1)
    assert str(10**12) not in keys
    assert keys.index("77") == 77


async def test_logs_are_searched_and_followed_unless_the_person_scrolls_back(tmp_path: Path) -> None:
    write_logs(tmp_path, amount=200)
    session = story.StorySession([event for event in story.healthy() if event.at < 40])
    session.copies = tmp_path
    async with PacelineApp(session).run_test(size=(100, 30)) as pilot:
        app = await shown(pilot)
        await pilot.press("7")
        await until_app(pilot, lambda: "404 lines" in screen_text(app) and "following the newest" in screen_text(app))
        await pilot.press("/", *"line 17 of", "enter")
        rows = app.screen.query_one(RowList)
        await until_app(pilot, lambda: "f follows the newest" in screen_text(app) and "line 17 of" in screen_text(app))
        first = rows.cursor
        with (tmp_path / "demo1" / "out.log").open("a") as file:
            file.write("the newest\n")
        await until_app(pilot, lambda: "405 lines" in screen_text(app))
        assert rows.cursor == first
        await pilot.press("N")
        await until_app(pilot, lambda: rows.cursor < first)
        await pilot.press("f")
        await until_app(pilot, lambda: "the newest" in screen_text(app).replace("following the newest", ""))


async def test_hostile_log_lines_are_drawn_harmlessly(tmp_path: Path) -> None:
    (tmp_path / "demo1").mkdir()
    (tmp_path / "demo1" / "out.log").write_text((HOSTILE + "\n") * 50)
    session = story.StorySession([event for event in story.healthy() if event.at < 40])
    session.copies = tmp_path
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await shown(pilot)
        await pilot.press("7")
        await until_app(pilot, lambda: "lines" in screen_text(app) and "yyy" in screen_text(app))
        await pilot.press("right", "/", *"[red]", "enter", "n", "o")
        await until_app(pilot, lambda: "only node demo1" in screen_text(app))
        assert not {"\x1b", "\x07", "\u202e"} & set(screen_text(app))


# Results --------------------------------------------------------------------------------------------------------------------------


async def test_left_and_right_choose_between_the_results_of_several_runs() -> None:
    events = story.healthy()
    later = [replace(event, run_id="20261120-150000-second", at=event.at + 200) for event in events if event.run_id]
    async with PacelineApp(story.StorySession([*events, *later])).run_test(size=(120, 40)) as pilot:
        app = await shown(pilot)
        await pilot.press("5")
        await until_app(pilot, lambda: "run 2 of 2" in screen_text(app))
        await pilot.press("left")
        await until_app(pilot, lambda: "run 1 of 2" in screen_text(app) and story.RUN in screen_text(app))


# Replay ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replay_shows_the_states_and_the_screens_of_the_live_session(tmp_path: Path) -> None:
    recording = story.record(tmp_path / "a.jsonl", story.trouble())
    events, states, drawn, screens = compare(recording, moments=2, sizes=((100, 30),))
    assert events > 500
    assert drawn == 2 * (len(PacelineApp.MODES) - 1), "all but Logs, of which a recording keeps a part"
    assert (states, screens) == (0, 0)


async def test_brackets_seek_a_replay_by_seconds_and_n_to_moments(tmp_path: Path) -> None:
    session = ReplaySession(story.record(tmp_path / "a.jsonl", story.healthy()), 1.0)
    async with PacelineApp(session).run_test(size=(160, 50)) as pilot:
        app = pilot.app
        assert isinstance(app, PacelineApp)
        await until_app(pilot, lambda: app.view.state.run is not None)
        await pilot.press("p")
        begun = session.at
        await pilot.press("]", "]")
        await until_app(pilot, lambda: session.at == pytest.approx(begun + 20) and app.view.state.at > begun + 15)
        await pilot.press("[")
        await until_app(pilot, lambda: session.at == pytest.approx(begun + 10) and app.view.state.at <= begun + 10)
        await pilot.press("3")
        ahead = [mark for mark in session.marks if mark.at > session.at]
        for mark in ahead[: [mark.kind for mark in ahead].index("decision") + 3]:
            await pilot.press("n")
            await until_app(pilot, lambda at=mark.at: session.at == at == app.view.state.at)
            await pilot.pause()
            if mark.kind == "decision":
                assert "first fit of all devices" in screen_text(app)
        await until_app(pilot, lambda: "demo3 slowed" in screen_text(app))
        await pilot.press("N")
        await until_app(pilot, lambda: "demo3 slowed" not in screen_text(app))
        await pilot.press(">")
        await until_app(pilot, lambda: session.speed == 2.0)
