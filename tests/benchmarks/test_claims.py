"""The figures and tables of the benchmarks, on hand-made histories."""

from __future__ import annotations

import tomllib

import pytest
from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.step_time import slowest_seconds
from paceline.engine.events import SharesChanged, StepsTaken

from benchmarks import runner, table
from benchmarks.balancer import proof
from benchmarks.balancer.claims import CLAIMS, claims_table, rules_table
from benchmarks.balancer.histories import (
    TakenStep,
    at_exact_shares,
    changes_at,
    lost_steps,
    old_steps,
    overhead_seconds,
    steps_taken,
)
from benchmarks.balancer.reference_lab import DEVICES, Fault, declared, oracle_seconds
from benchmarks.places import CHECKOUT
from benchmarks.table import Figure

SAMPLES = 304
OVERHEAD = 0.01
FAULT = Fault(rank=0, at_step=10, until_step=30)
HEALTHY = allocate(declared(), SAMPLES)
ADAPTED = allocate(declared([FAULT], 10), SAMPLES)


def history(shares_from: dict[int, tuple[int, ...]], steps: int = 45) -> list[TakenStep]:
    """Steps of the reference lab under FAULT, with the shares that hold from each step on."""
    taken = []
    for step in range(steps):
        sizes = shares_from[max(begin for begin in shares_from if begin <= step)]
        work = tuple(time.at(size) for time, size in zip(declared([FAULT], step), sizes, strict=True))
        taken.append(TakenStep(step, sizes, max(work) + OVERHEAD, work))
    return taken


def test_steps_with_old_shares_are_counted_from_the_first_slow_step_to_the_change() -> None:
    taken = history({0: HEALTHY, 12: ADAPTED, 33: HEALTHY})
    assert old_steps(taken, [12, 33], [FAULT], 10, 30) == 2
    assert old_steps(taken, [12, 33], [FAULT], 30, 45) == 3


def test_a_change_that_changes_too_little_leaves_shares_old() -> None:
    halfway = tuple((before + after) // 2 for before, after in zip(HEALTHY, ADAPTED, strict=True))
    taken = history({0: HEALTHY, 12: halfway, 17: ADAPTED})
    assert old_steps(taken, [12, 17], [FAULT], 10, 30) == 7


def test_shares_that_never_change_are_old_to_the_end() -> None:
    assert old_steps(history({0: HEALTHY}), [], [FAULT], 10, 30) == 20


def test_shares_that_were_right_by_chance_before_any_change_count_as_old() -> None:
    assert old_steps(history({0: ADAPTED}), [], [FAULT], 10, 30) == 20


def test_an_oracle_loses_nothing_though_steps_cost_more_than_compute() -> None:
    taken = history({0: HEALTHY, 10: ADAPTED, 30: HEALTHY})
    assert overhead_seconds(taken) == pytest.approx(OVERHEAD)
    assert lost_steps(taken, [FAULT], OVERHEAD, 10, 45) == pytest.approx(0.0, abs=1e-9)


def test_every_old_step_is_lost_by_what_it_takes_beyond_the_oracles() -> None:
    taken = history({0: HEALTHY, 12: ADAPTED, 30: HEALTHY})
    slow, best = (
        slowest_seconds(declared([FAULT], 10), HEALTHY) + OVERHEAD,
        oracle_seconds(declared([FAULT], 10), SAMPLES) + OVERHEAD,
    )
    assert lost_steps(taken, [FAULT], OVERHEAD, 10, 45) == pytest.approx(2 * (slow / best - 1))


def test_a_step_with_other_shares_is_scaled_rank_by_rank_to_the_exact_ones() -> None:
    sizes = (HEALTHY[0] - 4, HEALTHY[1], HEALTHY[2] + 2, HEALTHY[3] + 2)
    times = [time.scaled(noise) for time, noise in zip(declared(), (1.1, 1.0, 0.9, 1.0), strict=True)]
    work, exact = ([time.at(size) for time, size in zip(times, shares, strict=True)] for shares in (sizes, HEALTHY))
    taken = TakenStep(3, sizes, max(work) + OVERHEAD, tuple(work))
    assert at_exact_shares(taken) == pytest.approx(max(exact) + OVERHEAD)


def test_a_step_is_read_from_the_lines_of_all_ranks_and_a_summary_gives_its_mean() -> None:
    lines = [
        StepsTaken(rank=rank, step=step, steps=steps, local_batch_size=size, compute_seconds=0.3 + rank / 100, step_seconds=0.4)
        for rank, size in enumerate((100, 50))
        for step, steps in ((0, 1), (2, 2), (3, 1))
        if (rank, step) != (1, 3)
    ]
    taken = steps_taken(lines, 2)
    assert [step.step for step in taken] == [0, 1, 2]  # rank 1 was stopped before it wrote step 3
    assert taken[1] == TakenStep(1, (100, 50), 0.4, (0.3, 0.31))
    assert changes_at([SharesChanged(step=7), StepsTaken(), SharesChanged(step=3)]) == [3, 7]


def test_the_lab_of_the_benchmarks_is_the_shipped_one() -> None:
    nodes = tomllib.loads((CHECKOUT / "nodes.toml").read_text())["node"]
    assert [tuple(node["devices"][0].values()) for node in nodes] == list(DEVICES)


def test_a_line_of_a_benchmark_is_read_back_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    table.print_line("gain (emulated)", ">= 2.15x", "2.27x, 2.25x to 2.28x of 3", True)
    table.print_line("w" * 80, "g" * 30, "none", False)
    first, second = (table.LINE.match(line) for line in capsys.readouterr().out.splitlines())
    assert first is not None
    assert first.groups() == ("met", "gain (emulated)", ">= 2.15x", "2.27x, 2.25x to 2.28x of 3")
    assert second is not None
    assert second.groups() == ("MISSED", "w" * 80, "g" * 30, "none")
    assert table.LINE.match("        warning: metal  is  hot") is None


def test_a_claim_shows_all_its_figures_and_is_met_only_if_all_are() -> None:
    figures = [
        Figure("own cost, thread CPU a step", "<= 1 ms", "p95 | 0.6", True, "balancer/cost"),
        Figure("gradients against one process, float32", "1e-6", "2e-7", True, "balancer/gradients"),
        Figure("gradients against one process, float64", "1e-12", "3e-12", False, "balancer/gradients"),
        Figure("sampler", "100 %", "of another benchmark", True, "balancer/adaptation"),
    ]
    text = claims_table(figures)
    assert "| REAL cost: thread CPU a step | <= 1 ms p95 | p95 / 0.6 | met | balancer/cost |" in text
    assert "| 1e-6; 1e-12 | 2e-7; 3e-12 | **missed** | balancer/gradients |" in text
    assert "| sampler: every sample exactly once | 100 % | — | **missed** | balancer/gradients |" in text


def test_the_fields_rules_stand_in_one_table_by_their_medians() -> None:
    columns = ("efficiency", "changes_in_100", "settled", "lost_steps", "recovered_settled", "recovered_lost")
    rows = [{"rule": rule, **{column: str(seed) for column in columns}} for rule in ("equal", "ours") for seed in (1, 2, 9)]
    assert rules_table(rows).splitlines()[2:] == [f"| {rule} | 2 | 2 | 2 | 2 | 2 | 2 |" for rule in ("equal", "ours")]


def test_the_page_of_the_proof_has_one_place_for_its_tables() -> None:
    assert len(proof.BLOCK.findall(proof.PAGE.read_text())) == 1
    assert {claim.benchmark for claim in CLAIMS} == set(runner.select(["balancer"]))


def test_every_registered_benchmark_is_a_module_and_every_name_selects_it() -> None:
    benchmarks = runner.select([])
    assert all((CHECKOUT / "benchmarks" / f"{benchmark}.py").exists() for benchmark in benchmarks)
    assert runner.select(["tui/store", "fleet", "fleet/trust"]) == ["tui/store", *runner.select(["fleet"])]
    with pytest.raises(ValueError, match="unknown benchmark 'fleet/store'"):
        runner.select(["fleet/store"])
