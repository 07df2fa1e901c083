"""A child that takes too much memory or time ends alone, and says which; whoever forked it goes on."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from paceline.engine.specs import TrialSpec

torch = pytest.importorskip("torch")


def own_bytes(kind: str) -> int:
    """What a child of this process has from the start: a control group counts it less libraries, RLIMIT_DATA all of its data."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = ("RssFile", "RssShmem") if kind == "cgroup" else ("VmData",)
    return 1024 * sum(int(status[name].split()[0]) for name in names)


def takes(mebibytes: int):  # type: ignore[no-untyped-def]  # a script of a trial
    import numpy as np

    def run(trial: TrialSpec, recorder: object) -> None:
        np.empty(mebibytes << 20, dtype=np.uint8)[:] = 1

    return run


@pytest.mark.parametrize("kind", ["cgroup", "rlimit"])
def test_more_memory_than_the_limit_ends_the_child_alone(kind: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    from paceline.engine.script.trials import containment
    from paceline.engine.script.trials.child import run_in_child

    if kind == "rlimit":
        monkeypatch.setattr(containment, "_parents", list)
    limit, rng = own_bytes(kind) + (200 << 20), random.Random(seed)
    fits = run_in_child(TrialSpec(0, (), memory=limit), takes(rng.randint(1, 60)))
    if fits.limited_by != kind:
        pytest.skip("this process may make no control group")
    too_large = run_in_child(TrialSpec(1, (), memory=limit), takes(rng.randint(400, 500)))
    again = run_in_child(TrialSpec(2, (), memory=limit), takes(1))
    assert [one.outcome for one in (fits, too_large, again)] == ["success", "oom", "success"]
    assert "out of memory" in too_large.reason
    assert fits.peak_bytes > 1 << 20
    assert not [path for parent, _ in containment._parents() for path in parent.glob(f"paceline-trial-{os.getpid()}-*")]


def test_a_child_that_takes_too_long_is_ended_and_one_that_says_nothing_failed() -> None:
    from paceline.engine.script.trials.child import run_in_child

    slow = run_in_child(TrialSpec(0, (), time_limit=0.05), lambda trial, recorder: time.sleep(600))
    assert (slow.state, slow.outcome, slow.reason) == ("failed", "timeout", "not over after 0 s")
    gone = run_in_child(TrialSpec(1, (), time_limit=60.0), lambda trial, recorder: os._exit(3))
    assert (gone.outcome, gone.reason) == ("failed", "its process ended with status 3")


def test_a_control_group_gets_the_limit_without_the_libraries_and_one_that_takes_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paceline.engine.script.trials import containment

    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/user.slice/app\n")
    (tmp_path / "proc" / "self" / "statm").write_text("9 8 7 0 0 0 0\n")
    own = tmp_path / "cgroup" / "user.slice" / "app"
    own.mkdir(parents=True)
    monkeypatch.setattr(containment, "PROC", tmp_path / "proc")
    monkeypatch.setattr(containment, "CGROUP_DIR", tmp_path / "cgroup")
    assert containment.make_containment(1 << 30, "one").kind == "rlimit"  # no controller of memory below
    (own / "cgroup.subtree_control").write_text("cpu memory\n")
    made = containment.make_containment(1 << 30, "two")
    assert made.kind == "cgroup"
    assert int((own / "two" / "memory.max").read_text()) == (1 << 30) - 7 * os.sysconf("SC_PAGE_SIZE")
    (own / "two" / "memory.events").write_text("low 0\noom_kill 1\n")
    assert made.has_killed()
    assert containment.make_containment(1 << 30, "two").kind == "rlimit"  # its name is taken


def test_rows_are_the_same_whatever_part_is_made_and_no_copy_is_exact(seed: int) -> None:
    import numpy as np
    from paceline.engine.script.trials.multiplied import RowMaker

    rng = random.Random(seed)
    base = np.random.default_rng(seed).random((50, 6), dtype=np.float32)
    maker = RowMaker(base, base[:, 0], 0.01, seed)
    whole = np.concatenate([np.column_stack(part[1:]) for part in maker.chunks(0, 20_000)])
    for _ in range(5):
        start = rng.randint(0, 19_000)
        stop = rng.randint(start + 1, 20_000)
        parts = list(maker.chunks(start, stop))
        assert parts[0][0] == start
        assert np.array_equal(np.concatenate([np.column_stack(part[1:]) for part in parts]), whole[start:stop])
    assert np.array_equal(whole[:50, :-1], base)
    assert len(np.unique(whole, axis=0)) == len(whole)
    assert abs(float((whole[50:100, :-1] - base).std()) - 0.01) < 0.002


@pytest.mark.slow
@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_program_trains_on_every_row_once(
    is_streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import runpy
    import sys

    import numpy as np
    from paceline.engine.protocol.data_names import DATA_VARIABLE

    folder = tmp_path / "data" / "synthetic-series"
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    np.save(folder / "train_x.npy", draw.random((30, 60), dtype=np.float32))
    np.save(folder / "train_y.npy", draw.random(30, dtype=np.float32))
    (folder / "manifest.json").write_text("{}")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    words = ["--rows", "1000", "--multiply", "3", "--batch", "128", *(["--streamed"] if is_streamed else [])]
    monkeypatch.setattr(sys, "argv", ["fit_rows.py", *words])
    program = Path(__file__).parents[3] / "engine/script/examples/fit_rows.py"
    runpy.run_path(str(program), run_name="__main__")
    assert "rank 0 of 1: 3,000 rows" in capsys.readouterr().out
    assert not list(tmp_path.glob("train_*"))
