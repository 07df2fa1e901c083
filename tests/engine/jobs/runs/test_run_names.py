"""How a person names a run: id, end of the id, name, last."""

from __future__ import annotations

import random
import string

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.jobs.runs.run_names import KnownRun, check_run_name, find_run

RUNS = [
    KnownRun("20261130-1601-aaaaaa", "night", "running"),
    KnownRun("20261130-1600-bbbbbb", "night", "done"),
    KnownRun("20261129-0900-cccaaa", "", "done"),
    KnownRun("20261128-0900-dddddd", "last.week", "failed"),
]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("20261129-0900-cccaaa", 2),
        ("cccaaa", 2),
        ("bbbbbb", 1),
        ("last", 0),
        ("night", 0),
        ("last.week", 3),
    ],
)
def test_a_run_is_found_by_what_a_person_calls_it(text: str, place: int) -> None:
    assert find_run(RUNS, text) == RUNS[place].run_id


@pytest.mark.parametrize(("text", "told"), [("aaa", "no run"), ("zzzzzz", "no run"), ("", "no run")])
def test_what_names_no_run_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_run(RUNS, text)
    with pytest.raises(UsageError, match="no run"):
        find_run([], "last")


def test_what_may_be_several_runs_is_refused_with_their_ids() -> None:
    with pytest.raises(UsageError, match="20261130-1601-aaaaaa, 20261129-0900-caaaaa"):
        find_run([RUNS[0], KnownRun("20261129-0900-caaaaa", "", "done")], "aaaaa")
    twice = [KnownRun("20261130-1601-aaaaaa", "a", "running"), KnownRun("20261130-1602-bbbbbb", "a", "starting")]
    with pytest.raises(UsageError, match="'a' may be any of 2 runs"):
        find_run(twice, "a")


@pytest.mark.parametrize("name", ["last", "waiting", "20261130-1601-aaaaaa", "-x", "a b", "a/b", "é", "x" * 41, "a\n"])
def test_a_name_that_means_something_else_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no run can be named"):
        check_run_name(name)


def test_every_run_is_found_by_its_whole_id_and_by_its_last_six_characters(seed: int) -> None:
    numbers = random.Random(seed)
    alphabet = string.ascii_lowercase + string.digits
    endings = {"".join(numbers.choices(alphabet, k=6)) for _ in range(200)}
    runs = [KnownRun(f"20261130-{numbers.randrange(2400):04}-{ending}", "", "done") for ending in endings]
    assert all(find_run(runs, run.run_id) == find_run(runs, run.run_id[-6:]) == run.run_id for run in runs)
