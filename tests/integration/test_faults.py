"""Nothing is lost, doubled or reordered, whatever breaks in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs.fault_histories import ALL_KINDS, Tally, hurry, play

QUICK = range(25)
SLICE = 1000


def holds(tally: Tally) -> bool:
    return (tally.wrong_files, tally.lost, tally.doubled, tally.reordered) == (0, 0, 0, 0)


async def test_bytes_and_events_survive_seeded_histories_of_twelve_kinds_of_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    tally = await play(QUICK, tmp_path)
    print(f"\nseeds {QUICK.start} to {QUICK.stop - 1}: {tally}")
    assert holds(tally), tally
    assert all(tally.acted[kind] for kind in ALL_KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 10_000, SLICE))
async def test_bytes_and_events_survive_ten_thousand_seeded_histories(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    tally = await play(range(first, first + SLICE), tmp_path)
    print(f"\nseeds {first} to {first + SLICE - 1}: {tally}")
    assert holds(tally), tally
