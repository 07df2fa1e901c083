"""The real cases of the balancer: rates from the ranks' lines, and a call that goes on with what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.events import EpochEnded, SharesChanged
from paceline.engine.inventory.nodes_file import read_inventory

from benchmarks.balancer import real
from benchmarks.balancer.reference_lab import Outcome, lab


def launched(case: real.Case) -> list[real.Row]:
    """What five rounds say in which hybrid takes 9 s where proportional takes 10 s."""
    outcome = Outcome({})
    for turn in range(real.ROUNDS):
        number = f" {turn + 1}" if turn else ""
        for policy, seconds in (("proportional", 10.0), ("hybrid", 9.0 + 0.1 * turn)):
            outcome.lines += [EpochEnded(case=policy + number, epoch=epoch, samples=500, seconds=seconds) for epoch in range(2)]
        outcome.lines.append(SharesChanged(case=f"hybrid{number}", step=7))
    return [real._row(case, outcome, turn) for turn in range(real.ROUNDS)]


def test_a_call_measures_what_is_missing_and_begins_no_case_that_would_pass_the_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []

    def measure(case: real.Case) -> list[real.Row]:
        measured.append(case.name)
        return launched(case)

    monkeypatch.setattr(real, "measure", measure)
    monkeypatch.setattr(real, "FILE", tmp_path / "balancer_real.csv")
    monkeypatch.setattr("benchmarks.table.RESULTS", tmp_path)
    for words, status in ((["--minutes", "1", "noise 20 %"], 1), (["noise 20 %", "micro-batches"], 0), ([], 0)):
        monkeypatch.setattr("sys.argv", ["real", *words])
        assert real.main() == status
    assert measured == ["noise 20 %", "micro-batches", "outliers 30 %", "alternation, 8 steps", "10 ms steps"]
    (row, *_) = [row for row in real.stored() if row[0] == "noise 20 %"]
    assert (row[:3], row[5:]) == (("noise 20 %", 0, 50.0), (1, 12))
    assert row[3:5] == pytest.approx((500 / 9, 10 / 9), rel=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert "not measured yet" in lines[0]
    assert "1.087, 95 % [1.064, 1.110], 7.1 changes in 100" in lines[-1]


def test_an_interval_below_the_goal_misses_it(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", turn, 100.0, 95.0 + turn / 10, 0.95 + turn / 1000, 0, 100) for turn in range(real.ROUNDS)]
    assert not real.show(rows, ["a"])
    assert capsys.readouterr().out.startswith("MISSED")


@pytest.mark.parametrize("case", real.CASES, ids=lambda case: case.name)
def test_every_case_is_a_lab_that_can_be_read(case: real.Case) -> None:
    with lab(case.faults, case.keys, case.devices) as place:
        assert len(read_inventory(place.path / "nodes.toml").nodes) == 4
