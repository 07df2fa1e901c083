"""The lines of the Experiments screen, from boards of every kind, and from boards that nobody wrote so."""

from __future__ import annotations

import random
from typing import Any

import pytest
from paceline.engine.events import ExperimentAdvanced
from paceline.engine.experiments.board import board_of
from paceline.engine.experiments.search import search_document
from paceline.engine.jobs.experiments.search import SearchRequest, plan_of
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.tui.views import experiments as views

from tests.support.screens.experiments import BOARDS


def texts(strips: Any) -> str:
    return "\n".join(strip.text.rstrip() for strip in strips)


def test_a_search_shows_what_runs_where_and_the_best_so_far() -> None:
    plan = plan_of(SearchRequest(grid=("lr=0.1,0.01,0.001",)))
    shared = {"state": "done", "peak_bytes": None, "reason": None, "run_id": "r"}
    rows = {
        0: {"value": 0.5, "device": "a:0", "seconds": 4.0, "wall_seconds": 4.0, **shared},
        1: {"value": 0.2, "device": "b:0", "seconds": 8.0, "wall_seconds": 9.0, **shared},
    }
    document = search_document("mine", plan, rows)
    board = board_of(document, running=[{"trial": 2, "device": "a:0", "start": 4.0}])
    shown = views.parse_board(board)
    assert shown is not None
    head = texts(views.experiment_lines(shown, 2, 120))
    assert "mine" in head
    assert "2 of 3" in head
    assert "best so far  trial 1, mse 0.2: lr=0.01" in head
    assert [row[0] for row in shown.rows] == ["1", "0", "2"]
    assert texts([views.board_row(shown, "2", 100, False)]).split()[-2:] == ["—", "a:0"]
    gantt = texts(views.gantt_lines(shown, 60, 6)).splitlines()
    assert gantt[0].startswith("a:0")
    assert "▒" in gantt[0]
    assert "▒" not in gantt[1]
    assert len(texts(views.experiment_curves(shown, 60, 8)).splitlines()) == 8
    assert views.board_table(shown)[1][0] == "1"


@pytest.mark.parametrize("kind", sorted(BOARDS))
@pytest.mark.parametrize("size", [(36, 4), (80, 24), (160, 50)])
def test_every_kind_is_drawn_at_every_size_within_its_lines(kind: str, size: tuple[int, int]) -> None:
    shown = views.parse_board(BOARDS[kind])
    assert shown is not None
    width, height = size
    strips = [
        *views.experiment_lines(shown, 1, width),
        views.board_heading(shown, width),
        *(views.board_row(shown, str(number), width, False) for number in range(len(shown.rows))),
        *views.gantt_lines(shown, width, height),
        *views.experiment_curves(shown, width, height),
    ]
    assert {strip.cell_length for strip in strips} == {width}
    assert len(views.gantt_lines(shown, width, height)) <= max(2, height)


def test_boards_that_are_none_change_nothing_and_hostile_ones_are_made_safe(seed: int) -> None:
    rng = random.Random(seed)
    assert reduce(State(), ExperimentAdvanced(board={})).experiments == {}
    for _ in range(200):
        board: Any = dict(BOARDS[rng.choice(sorted(BOARDS))])
        board[rng.choice(sorted(board))] = rng.choice([None, 3, "\x1b[31mx[/]", [], {}, [["a"]], float("nan"), [{"points": [[1]]}]])
        shown = views.parse_board(board)
        strips = [
            *views.experiment_lines(shown, 1, 80),
            views.board_heading(shown, 80),
            views.board_row(shown, "0", 80, True),
            *views.gantt_lines(shown, 80, 8),
            *views.experiment_curves(shown, 80, 8),
        ]
        assert "\x1b" not in texts(strips)


def test_the_newest_experiment_is_the_last_and_old_ones_are_let_go() -> None:
    state = State()
    for number in [*range(40), 20]:
        state = reduce(state, ExperimentAdvanced(board={"name": f"e{number}", "kind": "search"}))
    assert len(state.experiments) == 32
    assert list(state.experiments)[-1] == "e20"
