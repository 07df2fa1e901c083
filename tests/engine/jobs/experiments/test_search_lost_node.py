"""A node is killed in the middle of a real search, or the centre is: every trial is counted once, and the search ends."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed import needs
from tests.support.runs.labs import LabDirectory
from tests.support.waiting import until_sync

pytestmark = [needs("torch", "sklearn"), pytest.mark.slow]
WORDS = ("search", "--grid", "lr=0.01,0.001,0.0001", "--grid", "hidden-dim=32,64", "--epochs", "3", "--name", "mine")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabDirectory]:
    lab = LabDirectory(tmp_path, {"fast": 12.0, "slow": 6.0})
    yield lab
    lab.end_runs()


def events(lab: LabDirectory, node: str, rank: int) -> list[dict[str, object]]:
    paths = sorted((lab.node(node) / "runs").glob(f"*/ranks/{rank}.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines() if line.endswith("}")]


def facts(lab: LabDirectory) -> list[dict[str, object]]:
    lines = (lab.path / "logs" / "experiments" / "mine" / "rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_trials_of_a_killed_node_run_again_and_each_is_counted_once(lab: LabDirectory) -> None:
    process = lab.start(*WORDS)

    def is_in_the_middle() -> bool:
        assert process.poll() is None, lab.narration()
        over = [event for event in events(lab, "n0", 0) if event["kind"] == "TrialEnded"]
        kinds = [event["kind"] for event in events(lab, "n1", 1)]
        return bool(over) and kinds.count("TrialStarted") > kinds.count("TrialEnded")

    until_sync(is_in_the_middle)
    lab.kill_everything_of("n1", lab.run_id())
    out, _ = process.communicate()
    assert process.returncode == 0, lab.narration()
    document = json.loads(out)
    assert document["state"] == "done"
    assert [trial["trial"] for trial in document["trials"]] == list(range(6))
    assert {trial["state"] for trial in document["trials"]} == {"done"}
    assert len({trial["run_id"] for trial in document["trials"]}) == 2  # before the loss, and after it
    assert Counter(fact["case"] for fact in facts(lab) if "row" in fact) == dict.fromkeys(range(6), 1)
    assert document["parallel_seconds"] is not None


def test_a_centre_closed_at_a_random_moment_and_resumed_has_every_trial_once(lab: LabDirectory, seed: int) -> None:
    process = lab.start(*WORDS)
    after = random.Random(seed).randint(0, 4)
    until_sync(lambda: sum(event["kind"] == "TrialEnded" for event in [*events(lab, "n0", 0), *events(lab, "n1", 1)]) >= after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, document = lab.run("search", "--resume", "mine")
    assert status == 0, lab.narration()
    assert [trial["state"] for trial in document["trials"]] == ["done"] * 6
    assert Counter(fact["case"] for fact in facts(lab) if "row" in fact) == dict.fromkeys(range(6), 1)
    assert len({trial["run_id"] for trial in document["trials"]}) == 1  # the run that went on was followed
