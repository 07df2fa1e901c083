"""Every figure of every table is recomputed from the raw files of runs drawn at random, by code that reports do not share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from paceline.engine.events import (
    BaselineMeasured,
    CaseEnded,
    DeviceReading,
    EpochEnded,
    RankEpochEnded,
    RankEvent,
    ReadingsRecorded,
    SharesChanged,
    StandaloneMeasured,
)
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.jobs.runs.result import derive_result
from paceline.engine.plan import CasePlan, DataPlan, Emulation, NodePlan, Plan, RankPlan
from paceline.engine.states import POLICIES
from paceline.engine.wire import dumps, encode

from tests.support.runs.recompute import (
    Cell,
    RawRun,
    average,
    bench_rows,
    differences,
    numbers,
    phase_rows,
    tables_of,
)

EPOCH_SECONDS = 45.0
"""Longer than the three readings that a mean of watts needs."""


def drawn_plan(random: Random, is_bench: bool) -> Plan:
    world = random.randint(1, 4)
    is_real = random.random() < 0.5
    ranks = tuple(
        RankPlan(
            index, f"n{index}", index, 0, 0, "cuda" if is_real else "emulated", "card", None, None if is_real else Emulation(1.0)
        )
        for index in range(world)
    )
    policies = random.sample(POLICIES, random.randint(2, 4)) if is_bench else random.sample(POLICIES, 1)
    repeats = random.randint(2, 3) if is_bench else 1
    told = {policy: random.uniform(50, 5000) for policy in policies}
    cases = tuple(
        CasePlan(f"{policy} {turn + 1}" if turn else policy, policy, turn, told[policy], random.choice((None, random.random() / 3)))
        for turn in range(repeats)
        for policy in policies
    )
    nodes = tuple(NodePlan(rank.node, rank.rank, (rank.rank,), "127.0.0.1", "lo", "python3") for rank in ranks)
    data = DataPlan("0123456789abcdef", "made up", 1000, "0" * 64)
    return Plan("20261120-1402-k7p3xa", "digits-cnn", cases, nodes, ranks, data, random.randint(1, 4), 256, is_bench=is_bench)


def drawn_lines(random: Random, plan: Plan) -> Iterator[RankEvent]:
    """What the ranks write: shares that change, ranks that are left out, and now and then a line that is missing."""
    world, clock = len(plan.ranks), 1000.0
    measured: list[tuple[int, int]] = []
    for case in plan.cases:
        sizes = [random.choice((0, 1, 8, 41, 39, 96, 100)) for _ in range(world)]
        sizes[0] = sizes[0] or 64
        yield SharesChanged(case=case.name, step=3, after=tuple(sizes))
        for epoch in range(plan.epochs):
            clock += EPOCH_SECONDS
            for rank in range(world):
                steps = random.randint(1, 9) if sizes[rank] or (epoch == plan.epochs - 1 and random.random() < 0.3) else 0
                compute, wait = random.uniform(0.01, 2), random.uniform(0.001, 0.5)
                data, copy, host = (random.uniform(0, 0.1) * compute for _ in range(3))
                yield RankEpochEnded(
                    case=case.name,
                    rank=rank,
                    epoch=epoch,
                    node_time=clock,
                    samples=steps * max(1, sizes[rank]),
                    seconds=EPOCH_SECONDS - 0.5,
                    full_steps=steps,
                    full_compute_seconds=compute * steps,
                    full_wait_seconds=wait * steps,
                    full_data_seconds=data * steps,
                    full_copy_seconds=copy * steps,
                    full_host_seconds=host * steps,
                    full_backward_seconds=None if random.random() < 0.02 else 0.5 * compute * steps,
                    full_optimizer_seconds=0.001 * steps,
                    communication_seconds=random.choice((None, random.uniform(0, 0.01))),
                )
            yield EpochEnded(
                case=case.name,
                epoch=epoch,
                epochs=plan.epochs,
                samples=1000,
                seconds=random.uniform(0.5, EPOCH_SECONDS),
                training_loss=random.random(),
                loss=random.random() / 10,
                metric=random.random(),
                metric_name="accuracy",
                local_batch_sizes=tuple(sizes),
            )
        if random.random() < 0.9:
            yield CaseEnded(case=case.name, local_batch_sizes=tuple(sizes), changes=random.randint(0, 3))
        for rank, size in enumerate(sizes):
            if size and (rank, size) not in measured and random.random() < 0.9:
                measured.append((rank, size))
                rate = random.uniform(20, 2000)
                yield StandaloneMeasured(case=case.name, rank=rank, local_batch_size=size, samples_per_second=rate, steps=10)
    if plan.is_bench and random.random() < 0.8:
        rate = random.uniform(50, 2000)
        yield BaselineMeasured(case=plan.cases[0].name, rank=world - 1, local_batch_size=256, samples_per_second=rate, steps=5)


def written_run(place: Path, seed: int, is_bench: bool) -> RunMirror:
    """The raw files of a run, as they lie at the centre."""
    random = Random(f"run {seed}")
    plan = drawn_plan(random, is_bench)
    mirror = RunMirror(place, plan.run_id)
    lines = list(drawn_lines(random, plan))
    for rank in plan.ranks:
        node = mirror.path / "nodes" / rank.node
        (node / "ranks").mkdir(parents=True)
        (node / "plan.json").write_text(dumps(plan))
        (node / "exit.json").write_text(json.dumps({"state": "done"}))
        mine = [encode(line) for line in lines if line.rank == rank.rank]
        (node / "ranks" / f"{rank.rank}.jsonl").write_text("".join(f"{line}\n" for line in mine))
        readings = [
            ReadingsRecorded(node_time=1000.0 + at, devices=(DeviceReading(0, power=random.uniform(50, 300)),))
            for at in range(0, 2000, 10)
        ]
        (node / "events.jsonl").write_text("".join(f"{encode(reading)}\n" for reading in readings))
    return mirror


def checked(table: list[list[str]], expected: list[list[Cell]]) -> list[str]:
    """Every cell that differs; the rows of both are alike."""
    assert len(table) - 1 == len(expected)
    return [
        f"{row[0]}, {name}: {why}"
        for row, mine in zip(table[1:], expected, strict=True)
        for name, cell, value in zip(table[0], row, mine, strict=True)
        if (why := differences(cell, value))
    ]


def by_header(tables: list[list[list[str]]], first: str, columns: int) -> list[list[str]]:
    """The table whose header begins with this word and has so many columns; an empty one where there is none."""
    return next((table for table in tables if table[0][0] == first and len(table[0]) == columns), [["", *[""] * (columns - 1)]])


@pytest.mark.parametrize("seed", range(25))
def test_every_figure_of_a_benchmark_is_what_its_raw_files_say(tmp_path: Path, seed: int) -> None:
    mirror = written_run(tmp_path, seed, is_bench=True)
    document, report = derive_result(mirror)
    run, tables = RawRun(mirror.path), tables_of(report)
    assert checked(by_header(tables, "policy", 13), bench_rows(run)) == []
    rates = run.device_rates()
    assert checked(
        by_header(tables, "node", 3), [[rank["node"], "card", numbers(rate)] for rank, rate in zip(run.ranks, rates, strict=True)]
    ) == []  # fmt: skip
    assert checked(by_header(tables, "rank", 9), phase_rows(run)) == []
    best = run.best_alone()
    said = [line for line in report.splitlines() if " device alone at the global batch of 256: " in line]
    assert [differences(line.rpartition("card, ")[2].removesuffix(" samples/s."), numbers(best)) for line in said] == [""] * len(
        said
    )
    assert bool(said) == (best is not None)
    measured = {policy: average([run.throughput(name) for name in names]) for policy, names in run.rounds().items()}
    (limit,) = [line for line in report.splitlines() if line.startswith("The limit is ")]
    total = None if None in rates else sum(rate for rate in rates if rate is not None)
    most = max((rate for rate in measured.values() if rate is not None), default=0.0)
    if total is None:
        assert limit == "The limit is unknown: not every device was measured alone."
    elif most > 1.02 * total:
        assert differences(limit.partition(" measured ")[2].replace("%", ""), [100 * (most / total - 1), total]) == ""
    else:
        equal = measured.get("equal")
        drawn = max(total, most)
        assert differences(limit.partition(": ")[2].replace("samples/s.", ""), [drawn, *([drawn / equal] if equal else [])]) == ""
    rows = {case["policy"]: case for case in document["cases"]}
    for policy, names in run.rounds().items():  # the document to all digits
        case = rows[policy]
        assert case["samples_per_second"] == pytest.approx(measured[policy], rel=1e-12)
        assert case["samples_per_second_all"] == pytest.approx(average([run.throughput(name, 0) for name in names]), rel=1e-12)
        assert case["imbalance"] == pytest.approx(average([run.imbalance(name) for name in names]), rel=1e-9)
        assert case["balance_efficiency"] == pytest.approx(average([run.of_limit(name) for name in names]), rel=1e-12)
        alone = [average([run.alone(name, rank) for name in names]) for rank in range(len(run.ranks))]
        assert case["standalone_samples_per_second"] == pytest.approx(alone, rel=1e-12)
        assert case["joules_per_sample"] == pytest.approx(average([run.joules(name) for name in names]), rel=1e-9)


@pytest.mark.parametrize("seed", range(100, 115))
def test_every_figure_of_a_training_is_what_its_raw_files_say(tmp_path: Path, seed: int) -> None:
    mirror = written_run(tmp_path, seed, is_bench=False)
    document, report = derive_result(mirror)
    run, tables = RawRun(mirror.path), tables_of(report)
    (case,) = run.cases
    name = case["name"]
    epochs: list[list[Cell]] = [
        [
            [epoch.get("epoch", 0) + 1.0],
            [epoch["training_loss"]],
            [epoch["loss"]],
            [epoch["metric"] * 100],
            [epoch["samples"] / epoch["seconds"]],
            [epoch["seconds"]],
        ]
        for epoch in run.epochs(name)
    ]
    assert checked(by_header(tables, "epoch", 6), epochs) == []
    assert checked(by_header(tables, "rank", 9), phase_rows(run)) == []
    by_epoch: list[list[Cell]] = []
    steady = run.phases(name)
    for number in range(int(run.plan["epochs"])):
        parts = run.phases(name, [number])
        for rank in steady:
            cells: list[Cell] = [[seconds * 1000] for seconds in parts[rank]] if rank in parts else [None] * 8
            by_epoch.append([str(number + 1), f"{rank} {run.ranks[rank]['node']}", *cells])
    assert checked(by_header(tables, "epoch", 10), by_epoch if run.plan["epochs"] > 1 else []) == []
    (told,) = [line for line in report.splitlines() if "samples/s without the first epoch" in line]
    rate, sizes, predicted, doubt = (
        run.throughput(name),
        run.sizes(name),
        case["predicted_samples_per_second"],
        case["predicted_doubt"],
    )
    shown: list[float] = [rate] if rate is not None else []
    shown += [predicted, *([doubt * 100] if doubt is not None else [])]
    shown += [100 * (predicted / rate - 1)] if rate is not None else []
    shown += [*map(float, sizes or ()), float(run.changes(name) or 0)]
    shown += [100 * imbalance] if (imbalance := run.imbalance(name)) is not None else []
    shown += [joules] if (joules := run.joules(name)) is not None else []
    assert differences(told, shown) == ""
    assert document["samples_per_second"] == pytest.approx(rate, rel=1e-12)


def test_the_check_itself_sees_a_wrong_digit() -> None:
    assert differences("583 ± 179 (sd 72)", [583.33, 179.3, 72.17]) == ""
    assert "shows 583 and not 584.1" in differences("583 ± 179 (sd 72)", [584.1, 179.3, 72.17])
    assert differences("0.3333", [1 / 3]) == ""
    assert differences("1.234e-05", [1.2344e-05]) == ""
    assert differences("1.234e-05", [1.2346e-05])
    assert differences("—", None) == ""
    assert differences("—", [0.0])
    assert replace(drawn_plan(Random(1), is_bench=True), epochs=2).epochs == 2
