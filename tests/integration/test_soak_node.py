"""What must never be lost on a node, in full counts (make soak) and a quick set of each; seeds and counts are printed."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from paceline.engine.agent.system.processes import boot_id

from tests.support.runs.kills import cancel_stubborn, kill_centres, kill_runners
from tests.support.runs.labs import LabDirectory

NEVER = ("double starts", "false failures", "false ends", "false states", "survivors", "reported", "forgotten", "late")


def check_counts(what: str, seed: int, counts: Counter[str]) -> None:
    """Print, then judge."""
    print(f"\n{what}, seed {seed}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    assert {name: counts[name] for name in NEVER if counts[name]} == {}


async def test_a_killed_control_centre_loses_nothing_quick(tmp_path: Path) -> None:
    counts = await kill_centres(tmp_path / "lab", 3, 7, is_waited_for=False)
    check_counts("control centres killed", 7, counts)


async def test_a_killed_runner_is_known_and_its_run_starts_once_quick(tmp_path: Path) -> None:
    counts = await kill_runners(tmp_path, 3, 7)
    check_counts("runners killed", 7, counts)
    assert counts["named"] == 3


@pytest.mark.slow  # test_supervisor.py has children that ignore TERM
async def test_who_does_not_want_to_go_is_gone_after_ten_seconds_quick(tmp_path: Path) -> None:
    counts, longest = await cancel_stubborn(tmp_path, 5, 7)
    check_counts(f"cancels (longest {longest:.1f} s)", 7, counts)


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize("seed", range(4))
async def test_a_killed_control_centre_loses_nothing(tmp_path: Path, seed: int) -> None:
    check_counts("control centres killed", seed, await kill_centres(tmp_path / "lab", 50, seed))


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize("seed", range(2))
async def test_a_killed_runner_is_known_and_its_run_starts_once(tmp_path: Path, seed: int) -> None:
    counts = await kill_runners(tmp_path, 50, seed)
    check_counts("runners killed", seed, counts)
    assert counts["named"] == 50


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize("seed", range(5))
async def test_who_does_not_want_to_go_is_gone_after_ten_seconds(tmp_path: Path, seed: int) -> None:
    counts, longest = await cancel_stubborn(tmp_path, 100, seed)
    check_counts(f"cancels (longest {longest:.1f} s)", seed, counts)


def many_runs(lab: LabDirectory, count: int) -> None:
    """As many ended runs on each of two nodes as a year leaves behind, one in ten killed with its machine."""
    for node in ("n0", "n1"):
        for number in range(count):
            run = lab.node(node) / "runs" / f"20260101-{number // 60 % 24:02d}{number % 60:02d}-{number:06d}"
            (run / "ranks").mkdir(parents=True)
            plan = {"run_id": run.name, "nodes": [{"name": "n0"}, {"name": "n1"}], "filler": "x" * 2000}
            start = {"pid": 1, "boot_id": boot_id() if number % 2 else "another", "start_time": 1, "wall_time": float(number)}
            steps = {"kind": "StepsTaken", "rank": 0, "step": number}
            files = {"spec.json": {"workload": "digits-cnn"}, "plan.json": plan, "start.json": start, "lease.json": {"epoch": 1}}
            if number % 10:
                files["exit.json"] = {"state": "done", "reason": ""}
            for name, value in files.items():
                (run / name).write_text(json.dumps(value))
            (run / "ranks" / "0.jsonl").write_text((json.dumps(steps) + "\n") * 200)
            (run / "events.jsonl").write_text('{"kind":"LaunchStarted"}\n' * 200)


def adopted(lab: LabDirectory, count: int) -> float:
    """Seconds of ``paceline jobs`` in a fresh process, which finds them all."""
    many_runs(lab, count)
    began = time.monotonic()
    status, document = lab.run("jobs")
    seconds = time.monotonic() - began
    states = Counter(row["state"] for row in document["runs"])
    assert (status, states) == (0, Counter(done=count * 9 // 10, failed=count // 10)), lab.narration()
    return seconds


@pytest.mark.slow
def test_many_run_directories_are_adopted_quick(tmp_path: Path) -> None:
    print(f"\n100 run directories on each of 2 nodes: {adopted(LabDirectory(tmp_path, {'a': 1.0, 'b': 1.0}), 100):.2f} s")


@pytest.mark.slow
def test_a_thousand_run_directories_are_adopted(tmp_path: Path) -> None:
    seconds = adopted(LabDirectory(tmp_path, {"a": 1.0, "b": 1.0}), 1000)
    print(f"\n1,000 run directories on each of 2 nodes: {seconds:.2f} s on {os.cpu_count()} cores")
