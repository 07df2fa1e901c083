"""The journal of an experiment: cut at any byte it is read again, and another plan under its name is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.errors import StorageFailed, UsageError
from paceline.engine.experiments.journal import PLAN_FILE, ROWS_FILE, begin, digest_of, resume

PLAN = {"workload": "digits-cnn", "sets": [["a:0"], ["a:0", "b:0"]], "seed": 3, "csv": None}


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    journal = begin(tmp_path / "mine", "scale", PLAN)
    journal.note_run(0, "20260101-0000-aaaaaa")
    journal.note_row(0, {"samples_per_second": 12.5, "state": "done"})
    journal.note_run(1, "20260101-0001-bbbbbb")
    again = resume(tmp_path / "mine", "scale")
    assert (again.plan, again.rows, again.run_ids) == (journal.plan, journal.rows, journal.run_ids)


def test_a_journal_cut_at_any_byte_loses_the_last_line_only(tmp_path: Path) -> None:
    journal = begin(tmp_path / "mine", "scale", PLAN)
    for case in range(3):
        journal.note_run(case, f"20260101-000{case}-aaaaaa")
        journal.note_row(case, {"samples_per_second": float(case)})
    path = tmp_path / "mine" / ROWS_FILE
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        cut = resume(tmp_path / "mine", "scale")
        lines = whole[:length].count(b"\n")
        complete = length == len(whole) or whole[length : length + 1] == b"\n"  # all of a line but its end is a line
        assert len(cut.run_ids) + len(cut.rows) == lines + (complete and whole[:length][-1:] not in (b"\n", b""))
        cut.note_row(7, {"after": "the cut"})
        assert resume(tmp_path / "mine", "scale").rows[7] == {"after": "the cut"}


def test_the_same_plan_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "mine", "scale", PLAN).note_row(0, {"x": 1})
    assert begin(tmp_path / "mine", "scale", dict(PLAN)).rows == {0: {"x": 1}}
    with pytest.raises(UsageError, match="another plan: csv, seed differ"):
        begin(tmp_path / "mine", "scale", {**PLAN, "seed": 4, "csv": "b.csv"})


def test_unknown_damaged_and_foreign_experiments_are_refused(tmp_path: Path) -> None:
    begin(tmp_path / "mine", "scale", PLAN)
    with pytest.raises(UsageError, match="no experiment other") as refused:
        resume(tmp_path / "other", "scale")
    assert refused.value.hint == "known: mine"
    with pytest.raises(UsageError, match="of scale, not of search"):
        resume(tmp_path / "mine", "search")
    path = tmp_path / "mine" / PLAN_FILE
    path.write_text(path.read_text().replace('"seed":3', '"seed":4'))
    with pytest.raises(StorageFailed, match="digest does not fit"):
        resume(tmp_path / "mine", "scale")


def test_the_digest_follows_from_the_plan_alone() -> None:
    assert digest_of("scale", PLAN) == digest_of("scale", dict(reversed(PLAN.items())))
    assert len({digest_of("scale", PLAN), digest_of("search", PLAN), digest_of("scale", {**PLAN, "seed": 4})}) == 3
