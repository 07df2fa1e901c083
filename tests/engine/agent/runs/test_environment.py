"""What of a person's environment reaches a run: no value of it ends the run or leads it away from its plan."""

from __future__ import annotations

import random
import string

import pytest
from paceline.engine.agent.runner.failure_cause import spoken_line
from paceline.engine.agent.runs.environment import run_environment, thread_count


@pytest.mark.parametrize(
    ("text", "threads"),
    [("4", 4), ("4,2", 4), (" 8 ", 8), ("2,", 2), ("+3", 3), ("007", 7), ("99", 16), (None, 1), ("", 1), ("1.0", 1)]
    + [(text, 1) for text in ("0", "-3", "0x4", "4 threads", "four", "4;2", ",4", "４", "1e3", "\n", "9" * 40)],
)
def test_threads_are_the_outermost_level_and_one_where_no_number_is_meant(text: str | None, threads: int) -> None:
    assert thread_count(text, 16) == threads


def test_any_text_gives_a_number_of_threads_that_the_machine_has(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(2000):
        text = "".join(draw.choice(string.printable + "０é\x00") for _ in range(draw.randrange(6)))
        environment, told = run_environment({}, {"OMP_NUM_THREADS": text, "TORCH_DISTRIBUTED_DEBUG": text, "LOGLEVEL": text}, 8)
        assert 1 <= int(environment["OMP_NUM_THREADS"]) <= 8
        assert environment.get("TORCH_DISTRIBUTED_DEBUG", "OFF") in ("OFF", "INFO")
        assert all(sentence.isprintable() for sentence in told)


def test_options_of_torchrun_and_ranks_of_other_groups_stay_outside() -> None:
    login = {"PET_NPROC_PER_NODE": "gpu", "TORCHELASTIC_ERROR_FILE": "/x", "RANK": "7", "WORLD_SIZE": "x", "MASTER_ADDR": "h"}
    login |= {"PYTHONINSPECT": "1", "NCCL_DEBUG": "INFO", "RANKING": "mine", "PATH": "/bin"}
    assert run_environment(login, {}, 8)[0] == {
        "NCCL_DEBUG": "INFO",
        "RANKING": "mine",
        "PATH": "/bin",
        "OMP_NUM_THREADS": "1",
    }


def test_a_search_path_of_nodes_toml_comes_behind_the_bundle() -> None:
    assert run_environment({"PYTHONPATH": "/b.zip"}, {"PYTHONPATH": "/mine"}, 8)[0]["PYTHONPATH"] == "/b.zip:/mine"


def test_what_is_replaced_is_said_and_a_usual_value_is_not() -> None:
    assert run_environment({"OMP_NUM_THREADS": "4", "LOGLEVEL": "debug"}, {}, 8)[1] == []
    told = run_environment({"OMP_NUM_THREADS": "1.0", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "LOGLEVEL": "loud"}, {}, 8)[1]
    assert told == [
        "OMP_NUM_THREADS='1.0' is not taken: 1 is used",
        "TORCH_DISTRIBUTED_DEBUG='DETAIL' is not taken: INFO is used",
        "LOGLEVEL='loud' is not taken: it is left out",
    ]


def test_the_plan_numbers_all_gpus_but_a_batch_system_shows_only_its_own() -> None:
    environment, told = run_environment({"CUDA_VISIBLE_DEVICES": "1"}, {}, 8)
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert told == ["CUDA_VISIBLE_DEVICES='1' is not taken: the plan numbers all GPUs, --devices chooses"]
    assert run_environment({"CUDA_VISIBLE_DEVICES": "1", "SLURM_JOB_ID": "7"}, {}, 8)[0]["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("a\nlast words\n----\n\n", "last words"),
        (
            "Fatal Python error: init: no codec\nRuntime state: x\n\nCurrent thread:\n  <no frame>\n",
            "Fatal Python error: init: no codec",
        ),
        ('Traceback (most recent call last):\n  File "x", line 1\n    f()\n    ^^^\nKeyError: 3\n', "KeyError: 3"),
        ('Traceback (most recent call last):\n  File "x"\nValueError: \nno such log\nValid:\na, b, c\n', "ValueError: no such log"),
        ('Traceback (most recent call last):\n  File "x"\nOSError: retried\n' + "step\n" * 40, "step"),
        ("", ""),
    ],
)
def test_the_line_that_says_why_a_program_ended_is_found(output: str, line: str) -> None:
    assert spoken_line(output) == line
