"""The batch script of a run: a component a class, names that do not wait for each other, and values that no shell reads."""

from __future__ import annotations

import random
import re
import shlex
import subprocess

import pytest
from paceline.engine.slurm.script import JobPlaces, batch_script, components_of, job_name, run_of_job
from paceline.engine.specs import SlotSpec

RUN = "20261130-1200-abcdef"
PLACES = JobPlaces(f"/shared/it's 50%/jobs/{RUN}", "/shared/it's 50%", "/opt/py thon", "/shared/it's 50%/bundles/a.zip")


def test_alike_neighbours_are_one_component_and_ranks_stay_in_the_order_of_the_plan() -> None:
    a, b = SlotSpec("hpc", constraint="a100"), SlotSpec("hpc", constraint="v100")
    assert [(one.machines, one.slot.constraint) for one in components_of([a, a, b, a])] == [(2, "a100"), (1, "v100"), (1, "a100")]


@pytest.mark.parametrize("seed", range(20))
def test_every_component_has_its_own_name_and_waits_for_its_own_kind_only(seed: int) -> None:
    draw = random.Random(seed)
    kinds = [
        SlotSpec("hpc", constraint=f"c{i}", partition=draw.choice(("", "gpu")), gres=draw.choice(("", f"gpu:{i + 1}")))
        for i in range(4)
    ]
    slots = [draw.choice(kinds) for _ in range(draw.randint(1, 9))]
    script = batch_script(RUN, slots, PLACES)
    parts = script.split("#SBATCH hetjob\n")
    names = [re.search(r"--job-name=(\S+)", part)[1] for part in parts]  # type: ignore[index]
    assert len(set(names)) == len(names) == len(components_of(slots))
    assert all("--dependency=singleton" in part and "--requeue" in part for part in parts)
    assert [run_of_job(name) for name in names] == [RUN, *[""] * (len(names) - 1)]
    groups = ",".join(map(str, range(len(parts))))
    assert (f"--het-group={groups}" in script) == (len(parts) > 1)
    assert sum(int(count) for count in re.findall(r"--ntasks=(\d+)", script)) == len(slots)


def test_paths_with_quotes_spaces_and_percents_reach_the_task_unchanged() -> None:
    script = batch_script(RUN, [SlotSpec("hpc")], PLACES, "a run\nof two lines")
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    words = shlex.split(script.splitlines()[-1])
    assert words[-2:] == [PLACES.root, RUN]
    assert PLACES.python in words
    assert "50%%" in next(line for line in script.splitlines() if "--output" in line)
    assert all(line.startswith("#") for line in script.splitlines()[:3])


def test_a_name_of_a_foreign_job_is_no_run() -> None:
    assert run_of_job(job_name(RUN)) == RUN
    assert [run_of_job(name) for name in ("paceline", "my-paceline-x", job_name(RUN, 2))] == ["", "", ""]
