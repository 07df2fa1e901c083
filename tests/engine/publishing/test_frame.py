"""Results as a pandas frame."""

from __future__ import annotations

import json
from pathlib import Path

import paceline
import pytest
from paceline.engine.errors import UsageError
from paceline.engine.reports.bench import bench_document, train_document

from tests.engine.reports.test_reports import EQUAL_AND_HYBRID, LINES, SLOW, case_lines, made_plan

pytest.importorskip("pandas")


def write(runs: Path) -> None:
    train = made_plan("hybrid", is_bench=False)
    documents = [
        bench_document(EQUAL_AND_HYBRID, LINES) | {"state": "done"},
        train_document(train, case_lines(train, "hybrid", SLOW, 1.6), "done", "x"),
        {"type": "scale", "rows": []},
        [1],
    ]
    for place, document in enumerate(documents):
        (runs / str(place)).mkdir(parents=True)
        (runs / str(place) / "result.json").write_text(json.dumps(document))
    (runs / "torn").mkdir()
    (runs / "torn" / "result.json").write_text('{"type": "be')


def test_a_row_is_a_case_with_the_figures_of_its_document(tmp_path: Path) -> None:
    write(tmp_path)
    frame = paceline.results(str(tmp_path))
    bench = bench_document(EQUAL_AND_HYBRID, LINES)
    assert list(frame["type"]) == ["bench"] * len(bench["cases"]) + ["train"]
    assert list(frame["policy"])[: len(bench["cases"])] == [case["policy"] for case in bench["cases"]]
    assert list(frame["samples_per_second"])[: len(bench["cases"])] == [case["samples_per_second"] for case in bench["cases"]]
    assert frame["loss"].notna().all()


def test_with_epochs_a_row_is_an_epoch(tmp_path: Path) -> None:
    write(tmp_path)
    frame = paceline.results(str(tmp_path), epochs=True)
    bench = bench_document(EQUAL_AND_HYBRID, LINES)
    hybrid = next(case for case in bench["cases"] if case["policy"] == "hybrid")
    own = frame[(frame["type"] == "bench") & (frame["policy"] == "hybrid")]
    assert list(own["epoch"]) == [epoch["epoch"] for epoch in hybrid["epochs"]]
    assert list(own["loss"]) == [epoch["loss"] for epoch in hybrid["epochs"]]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        paceline.results(str(tmp_path / "nowhere"))
