"""What Slurm's commands print, read as values; and what they refuse, as errors with hints."""

from __future__ import annotations

import random

import pytest
from paceline.engine.errors import PacelineError
from paceline.engine.slurm.listings import end_text, parse_job, parse_machines, parse_queue, position_of, waiting_text
from paceline.engine.slurm.refusals import command_missing, refusal

QUEUE = """\
812+0|PENDING|Resources|gpu|400|ann|2026-11-30T14:05:00|4:00:00|0:00|1||paceline-20261130-1200-abcdef
812+1|PENDING|Priority|gpu|399|ann|N/A|4:00:00|0:00|2||paceline-20261130-1200-abcdef.1
811|PENDING|Priority|gpu|900|bob|N/A|1:00|0:00|1||a|b|c
810|RUNNING|None|gpu|950|eve|2026-11-30T12:00:00|UNLIMITED|1-02:03:04|4|lab[1-4]|train
nonsense
"""


def test_a_queue_is_read_with_positions_and_reasons() -> None:
    jobs = parse_queue(QUEUE)
    assert [(job.job_id, job.component, job.run_id) for job in jobs] == [
        (812, 0, "20261130-1200-abcdef"),
        (812, 1, ""),
        (811, 0, ""),
        (810, 0, ""),
    ]
    assert jobs[2].name == "a|b|c"
    assert position_of(jobs[0], jobs) == (2, 2)
    assert position_of(jobs[3], jobs) is None
    assert waiting_text(jobs[0], jobs) == "Resources, number 2 of 2 in gpu, expected at 14:05"


@pytest.mark.parametrize("seed", range(30))
def test_no_text_that_a_command_prints_is_an_error(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice(QUEUE + "\x00\x1b[|=\u202e") for _ in range(600))
    assert parse_queue(text) is not None
    assert parse_machines(text) is not None
    assert isinstance(parse_job("JobId=1 " + text), dict)


def test_gpus_are_counted_by_class_and_broken_machines_do_not_count() -> None:
    up, down, free = parse_machines(
        "gpu|up|1-00:00:00|mix|3|gpu:a100:4(S:0-1),gpu:v100:2|a100,nvlink|n[1-3]\n"
        "gpu|up|infinite|down*|1|gpu:a100:4|(null)|n4\ncpu|up|1:00:00|idle|2|(null)|(null)|c[1-2]\n"
    )
    assert up.gpus == {"a100": 4, "v100": 2}
    assert (up.is_free, up.is_working, up.features) == (False, True, ("a100", "nvlink"))
    assert (down.is_working, free.is_free, free.gpus) == (False, True, {})


def test_the_end_of_a_job_is_said_in_words() -> None:
    fields = parse_job("JobId=7 JobName=x JobState=TIMEOUT Reason=TimeLimit TimeLimit=00:01:00 ExitCode=0:15")
    assert end_text(fields["JobState"], fields) == "Slurm: its time limit was reached (00:01:00)"
    assert "forgotten" in end_text("", {})
    assert end_text("FAILED", {"ExitCode": "7:0"}) == "Slurm: its script failed (status 7:0)"


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("sbatch: error: invalid partition specified: nope", 2, "set partitions"),
        ("sbatch: error: Invalid account or account/partition combination specified", 2, "set account"),
        ("sbatch: error: You must specify an account", 2, "set account"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", 2, "set qos"),
        ("sbatch: error: Invalid --time specification", 2, "set time_limit"),
        ("sbatch: error: Requested time limit is invalid (missing or exceeds some limit)", 2, "set time_limit"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", 2, "set constraint"),
        ("sbatch: error: Invalid generic resource (gres) specification", 2, "set gres"),
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Job violates accounting/QOS policy", 5, "a limit of the account"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", 5, "no machines"),
        ("sbatch: error: Batch job submission failed: I/O error writing script/environment to file", 1, "free some space"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 3, "does not answer"),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 3, "does not answer"),
        ("sbatch: error: something new", 1, "something new"),
        ("", 1, "it said nothing"),
    ],
)  # fmt: skip
def test_every_refusal_is_named_with_its_hint(said: str, status: int, words: str) -> None:
    error = refusal("sbatch", said)
    assert isinstance(error, PacelineError)
    assert error.exit_status == status
    assert words in str(error)


def test_a_missing_command_says_that_this_is_no_login_node() -> None:
    assert command_missing("sbatch").exit_status == 2
    assert "login node" in str(command_missing("sbatch"))
