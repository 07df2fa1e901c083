"""The tables of profile, advise and compare are recomputed from drawn raw lines, by code that reports do not share."""

from __future__ import annotations

import json
from itertools import combinations
from math import exp, lgamma, log, log2, pi, sqrt
from pathlib import Path
from random import Random
from typing import Any

import pytest
from paceline.engine.advisor.advise import advise
from paceline.engine.events import AllReduceProfiled, DeviceProfiled, Event, GradientProfiled, StepTimesProfiled, SystemProfiled
from paceline.engine.plan import CasePlan, DataPlan, Emulation, NodePlan, Plan, RankPlan
from paceline.engine.profiles.assemble import assemble
from paceline.engine.reports.advice import advice_document
from paceline.engine.reports.compare import compare_results
from paceline.engine.reports.profile import profile_document
from paceline.engine.wire import decode, encode
from paceline.tui.command_line.render import render

from tests.engine.reports.test_compare import bench
from tests.support.runs.recompute import differences

MEASURED = 1_800_000_000.0
Raw = dict[str, list[dict[str, Any]]]


def drawn_profile(random: Random) -> tuple[Plan, list[str]]:
    """A plan, and the lines that a profile of its devices writes."""
    world = random.randint(1, 4)
    ranks = tuple(RankPlan(one, f"n{one}", one, 0, 0, "emulated", "card", None, Emulation(1.0)) for one in range(world))
    nodes = tuple(NodePlan(rank.node, rank.rank, (rank.rank,), "127.0.0.1", "lo", "python3") for rank in ranks)
    rows = random.choice((random.randint(5, 60), 500))
    data = DataPlan("0123456789abcdef", "made up", rows, "0" * 64, training_rows=rows)
    cases = (CasePlan("hybrid", "hybrid", 0, None, None),)
    plan = Plan("20261120-1402-k7p3xa", "digits-cnn", cases, nodes, ranks, data, 1, 64, is_bench=False)
    lines: list[Event] = []
    for rank in ranks:
        c = random.choice((0.002, random.uniform(0.001, 0.02)))
        a = random.choice((0.0, 0.03, random.uniform(0.0, 0.4)))
        sizes = tuple(1 << power for power in range(6))
        lines.append(
            StepTimesProfiled(
                rank=rank.rank,
                node=rank.node,
                sizes=sizes,
                seconds=tuple(a + c * size for size in sizes),
                fixed_seconds=a,
                seconds_per_sample=c,
                residual=random.choice((0.0, 0.02)),
                spread=random.choice((None, 0.0, 0.05)),
                stalled=random.choice((None, 0.0, 0.1)),
                largest_batch=random.choice((None, None, random.randint(1, 40))),
            )
        )
        lines.append(DeviceProfiled(rank=rank.rank, node=rank.node, tflops={"fp32": random.uniform(0.01, 30)}))
        lines.append(SystemProfiled(node=rank.node, processor="p", cores=random.choice((2, 16)), memory=1 << 34))
    if world > 1:
        alpha, beta = random.choice((0.0, random.uniform(0, 0.05))), 10 ** random.uniform(6, 10)
        sent = (4096, 1 << 20)
        seconds = tuple(alpha + size / beta for size in sent)
        lines.append(
            AllReduceProfiled(rank=0, world_size=world, alpha=alpha, beta=beta, residual=0.01, sizes=sent, seconds=seconds)
        )
        share = random.choice((0.0, 1 / 3))
        lines.append(
            GradientProfiled(
                rank=0, bucket_bytes=(40_000, 200_000), closed_at=(0.5, 1.0), forward_share=share, optimizer_seconds=0.001
            )
        )
    return plan, [encode(line) for line in lines]


class RawLab:
    """Predictions from the raw lines alone."""

    def __init__(self, lines: list[str], rows: int) -> None:
        every = [json.loads(line) for line in lines]
        self.steps = {one.get("rank", 0): one for one in every if one["kind"] == "StepTimesProfiled"}
        self.tflops = {one.get("rank", 0): one["tflops"]["fp32"] for one in every if one["kind"] == "DeviceProfiled"}
        self.cores = min(one["cores"] for one in every if one["kind"] == "SystemProfiled")
        self.sums = next((one for one in every if one["kind"] == "AllReduceProfiled"), None)
        self.buckets = next((one for one in every if one["kind"] == "GradientProfiled"), None)
        self.rows = rows

    def whole_and_last(self, rank: int, size: int) -> tuple[float, float]:
        """Seconds of a local batch, and of its last micro-batch."""
        one = self.steps[rank]
        a, c, most = one.get("fixed_seconds", 0.0), one["seconds_per_sample"], one.get("largest_batch") or size
        parts = -(-size // most) if size else 0
        last = size - size * (parts - 1) // parts if parts else 0
        return parts * a + c * size, (a + c * last if parts else 0.0)

    def slowest_of_best_shares(self, group: tuple[int, ...], samples: int) -> float:
        """Seconds of a + c b of the slowest rank at the best shares: bisection of the time, by every subset that works."""
        best = float("inf")
        for count in range(1, len(group) + 1):
            for working in combinations(group, count):
                low, high = 0.0, 1e4
                for _ in range(50):
                    middle = (low + high) / 2
                    sizes = [
                        int((middle - self.steps[r].get("fixed_seconds", 0.0)) / self.steps[r]["seconds_per_sample"] + 1e-9)
                        for r in working
                    ]
                    low, high = (low, middle) if min(sizes) >= 1 and sum(sizes) >= samples else (middle, high)
                best = min(best, high)
        return best

    def exchange(self, group: tuple[int, ...], sizes: list[int], overlap: float) -> float:
        """When the last bucket is through, counted from the begin of the step."""
        assert self.sums is not None
        assert self.buckets is not None
        all_ranks, world = self.sums["world_size"], len(group)
        hop, width = self.sums.get("alpha", 0.0) / (2 * all_ranks - 2), self.sums["beta"] * (2 * all_ranks - 2) / all_ranks
        times = [self.whole_and_last(rank, size) for rank, size in zip(group, sizes, strict=True)]
        end = 0.0
        for size, closed in zip(self.buckets["bucket_bytes"], self.buckets["closed_at"], strict=True):
            open_part = (1 - self.buckets["forward_share"]) * (1 - closed) * overlap
            ready = max(whole - last * open_part for whole, last in times)
            end = max(end, ready) + 2 * (world - 1) * hop + size * 2 * (world - 1) / (width * world)
        return end

    def step(self, group: tuple[int, ...], sizes: list[int], overlap: float = 1.0) -> tuple[float, float]:
        """Seconds of a step, and of the exchange that no work hides."""
        compute = max(self.whole_and_last(rank, size)[0] for rank, size in zip(group, sizes, strict=True))
        exposed = max(0.0, self.exchange(group, sizes, overlap) - compute) if len(group) > 1 else 0.0
        optimizer = self.buckets["optimizer_seconds"] if self.buckets else 0.0
        return compute + exposed + optimizer, exposed


def cells(line: str) -> list[str]:
    return line.split()


@pytest.mark.parametrize("seed", range(16))
def test_every_figure_of_a_profile_and_of_an_advice_is_what_the_raw_lines_say(seed: int) -> None:
    random = Random(f"advice {seed}")
    plan, lines = drawn_profile(random)
    rows = plan.data.training_rows
    assert rows is not None
    raw = RawLab(lines, rows)
    events = [event for line in lines if (event := decode(line)) is not None]
    profile = assemble(plan, events, MEASURED)
    shown = render({**profile_document(profile), "schema": 1}).splitlines()
    table = [line for line in shown if line.startswith("n") and " card " in line]
    fastest = max(1 / one["seconds_per_sample"] for one in raw.steps.values())
    for rank, line in enumerate(table):
        one = raw.steps[rank]
        rate = 1 / one["seconds_per_sample"]
        figures: list[list[float] | None] = [
            [rate / fastest],
            [raw.tflops[rank]],
            [rate],
            [1000 * one.get("fixed_seconds", 0.0)],
            [100 * one.get("residual", 0.0)],
            [one["largest_batch"]] if one.get("largest_batch") else None,
        ]
        found = cells(line.partition(" card ")[2].replace(" %", ""))
        assert [why for cell, figure in zip(found, figures, strict=True) if (why := differences(cell, figure))] == []
    assert len(table) == len(raw.steps)

    asked = random.choice((1, 2, 7, 32, 100))
    batch = min(asked, rows)
    days = random.choice((0.0, 3.0, 100.0))
    advice = advise(profile, asked, now=MEASURED + days * 86400)
    document = advice_document(profile, advice)
    at_batch = [one for one in document["candidates"] if one["global_batch_size"] == batch]
    alone = {}
    for one in at_batch:
        group = tuple(int(device["node"][1:]) for device in one["devices"])
        sizes = one["local_batch_sizes"]
        assert sum(sizes) == batch
        seconds, exposed = raw.step(group, sizes)
        if one["policy"] == "equal":
            assert max(sizes) - min(sizes) <= 1
        else:
            lines_only = [
                raw.steps[r].get("fixed_seconds", 0.0) * (size > 0) + raw.steps[r]["seconds_per_sample"] * size
                for r, size in zip(group, sizes, strict=True)
            ]
            assert max(lines_only) == pytest.approx(raw.slowest_of_best_shares(group, batch), rel=1e-6)
        assert one["step_seconds"] == pytest.approx(seconds, rel=1e-9)
        assert one["exposed_communication_seconds"] == pytest.approx(exposed, rel=1e-9, abs=1e-12)
        if rows % batch == 0:
            assert one["samples_per_second"] == pytest.approx(batch / seconds, rel=1e-9)
        else:  # the last step of an epoch is smaller and not longer than a whole one
            assert rows / (-(-rows // batch) * seconds) * (1 - 1e-9) <= one["samples_per_second"]
        if len(group) == 1:
            alone[group[0]] = one["samples_per_second"]
        rates = [size / raw.step((rank,), [size])[0] for rank, size in zip(group, sizes, strict=True) if size]
        assert one["efficiency"] == pytest.approx(one["samples_per_second"] / sum(rates), rel=1e-9)
        world = len(group)
        parts = [0.04, 2 * max(raw.steps[rank].get("residual", 0.0) for rank in group)]
        parts.append(0.5 * log2(world) * max(raw.steps[rank].get("spread") or 0.0 for rank in group) if world > 1 else 0.0)
        parts += [max(raw.steps[rank].get("stalled") or 0.0 for rank in group), 0.06 if world > raw.cores else 0.0]
        parts.append(min(0.1, 0.005 * days))
        if world > 1:
            parts.append(0.01 * exposed / seconds)
            if rows % batch == 0:
                parts.append((raw.step(group, sizes, 0.0)[0] / seconds - 1) / 2)
        if world == 1 or rows % batch == 0:
            assert one["doubt"] == pytest.approx(min(2.0, sqrt(sum(part * part for part in parts))), rel=1e-6)
    best = max(alone.values())
    for one in at_batch:
        assert one["speedup_at_batch"] == pytest.approx(one["samples_per_second"] / best, rel=1e-9)
    text = render({**document, "schema": 1}).splitlines()
    listed = [line for line in text if line[:2] in ("> ", "  ") and line[2:3] == "n" and ":0" in line[:8]]
    assert len(listed) == min(len(at_batch), 16)
    for line, one in zip(listed, at_batch, strict=False):
        found = cells(line[2:].replace(" %", "").replace(" ms", "").replace("x", ""))[2:]
        figures = [
            [one["samples_per_second"]],
            [100 * one["doubt"]],
            [one["speedup_at_batch"]],
            [100 * one["efficiency"]],
            [1000 * one["exposed_communication_seconds"]],
            None if one["ratio"] is None else [one["ratio"]],
        ]
        assert [why for cell, figure in zip(found, figures, strict=True) if (why := differences(cell, figure))] == []
    group_pays = document["recommended"]["speedup_at_batch"] > 1.05 and len(document["recommended"]["devices"]) > 1
    assert document["verdict"].startswith("It pays") == group_pays == (document["verdict_kind"] == "pays")
    most = max(one["speedup_at_batch"] for one in at_batch)
    assert group_pays == (most > 1.05)


def half_of_welch(one: list[float], other: list[float]) -> float:
    """Half of the 95 % interval of a difference of means; Student's t from its density, by Simpson's rule and bisection."""
    mean_square = [
        sum((value - sum(side) / len(side)) ** 2 for value in side) / (len(side) - 1) / len(side) for side in (one, other)
    ]
    freedom = sum(mean_square) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(mean_square, (one, other), strict=True))
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2) - 0.5 * log(freedom * pi))

    def within(t: float, parts: int = 200) -> float:
        values = [(1 + (t * i / parts) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(parts + 1)]
        return float(2 * scale * t / parts / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])))

    low, high = 1.9, 15.0
    for _ in range(40):
        low, high = (low, (low + high) / 2) if within((low + high) / 2) > 0.95 else ((low + high) / 2, high)
    return float(low * sqrt(sum(mean_square)))


@pytest.mark.parametrize("seed", range(10))
def test_every_figure_of_a_comparison_is_what_the_two_results_say(seed: int, tmp_path: Path) -> None:
    random = Random(f"compare {seed}")
    rates = [[random.gauss(500, 10) for _ in range(random.randint(2, 6))] for _ in range(2)]
    (tmp_path / "a").write_text(json.dumps(bench("run-a", rates[0])))
    (tmp_path / "b").write_text(json.dumps(bench("run-b", rates[1], global_batch_size=random.choice((192, 384)))))
    raws = [json.loads((tmp_path / name).read_text()) for name in "ab"]
    document = {**compare_results(*raws), "type": "compare", "schema": 1, "regressions": []}
    shown = render(document).splitlines()
    ours, theirs = (list(raw["cases"][0]["samples_per_second_of_repeats"]) for raw in raws)
    means = sum(ours) / len(ours), sum(theirs) / len(theirs)
    (line,) = [line for line in shown if line.startswith("hybrid samples_per_second")]
    assert differences(line.split()[2], [means[0]]) == differences(line.split()[3], [means[1]]) == ""
    assert differences(line.split()[4], [100 * (means[1] / means[0] - 1)]) == ""
    share = abs(means[1] - means[0]) / half_of_welch(ours, theirs)
    if not 0.8 < share < 1.25:  # the interval is up to a fifth wider where t is steep
        assert ("beyond the noise" in line) == (share > 1)
    assert bool([one for one in shown if one.strip().startswith("global_batch_size")]) == (raws[1]["global_batch_size"] != 384)
