"""What the balancer has to show, claim by claim, and the tables of docs/design/balancer-proof.md. Pure: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line that a benchmark printed."""

    benchmark: str
    what: str
    goal: str
    figure: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the page: the figures of one benchmark whose names hold this text."""

    what: str
    goal: str
    benchmark: str
    text: str


CLAIMS = (
    Claim("REAL throughput over equal", ">= 2.15x", "adaptation", "throughput over equal"),
    Claim("REAL balance efficiency, `hybrid`", ">= .95", "adaptation", "balance efficiency"),
    Claim("REAL imbalance, no noise", "<= 3 %", "adaptation", "imbalance"),
    Claim("REAL steps with old shares: 2x slower; recovery; both", "<= 3 / 10", "adaptation", "steps with old shares"),
    Claim("REAL steps' worth lost to both", "<= 3", "adaptation", "worth lost"),
    Claim("SIM steps with old shares: 2x slower; recovery", "<= 3 / 10", "balancer_sim", "steps with old shares"),
    Claim("SIM steps' worth lost: 2x slower; recovery", "<= 3", "balancer_sim", "worth lost"),
    Claim("REAL steady, noise, of the oracle", ">= .97", "adaptation", "of the oracle"),
    Claim("REAL changes in 100 steps under that noise", "<= 2", "adaptation", "changes in 100"),
    Claim("SIM steady, noise, of the oracle", ">= .99", "balancer_sim", "of the oracle"),
    Claim("SIM changes in 100 steps under that noise", "<= 2", "balancer_sim", "changes in 100"),
    Claim("REAL cost: thread CPU a step", "<= 1 ms p95", "cost", "thread CPU"),
    Claim("REAL cost: wall over bare DDP", "<= .5 %", "cost", "wall over"),
    Claim("gradients against one process: float32; float64", "1e-6; 1e-12", "gradients", "gradients against"),
    Claim("allocation against brute force: mismatches", "0", "balancer_sim", "random cases"),
    Claim("allocation, ms: 8 devices; 64", "< 1; < 5", "balancer_sim", "allocation of"),
    Claim("sampler: every sample exactly once", "100 %", "gradients", "sampler"),
    Claim("SIM alerts: precision", ">= .99", "alerts_sim", "SIM alerts: precision"),
    Claim("SIM alerts: recall within 10 steps", ">= .99", "alerts_sim", "SIM alerts: recall"),
    Claim("SIM healthy slow device, 100,000 steps: alerts", "0", "alerts_sim", "healthy slow device"),
    Claim("REAL causes: right", ">= 95 %", "causes", "causes: right"),
)
"""In the order in which they were asked for."""


def claims_table(figures: Sequence[Figure]) -> str:
    """A line for each claim. A claim without a figure is not met."""
    lines = ["| claim | goal | figure | | `benchmarks/` |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        mine = [one for one in figures if one.benchmark == claim.benchmark and claim.text in one.what]
        told = "; ".join(dict.fromkeys(one.figure for one in mine)) or "—"
        verdict = "met" if mine and all(one.is_met for one in mine) else "**missed**"
        lines.append(f"| {claim.what} | {claim.goal} | {told.replace('|', '/')} | {verdict} | {claim.benchmark}.py |")
    return "\n".join(lines)


def rules_table(rows: Iterable[Mapping[str, str]]) -> str:
    """The field's rules on the same simulated histories: medians over the seeds of benchmarks/results/balancer_rules.csv."""
    columns = ("efficiency", "changes_in_100", "settled", "lost_steps", "recovered_settled", "recovered_lost")
    by_rule: dict[str, list[Mapping[str, str]]] = {}
    for line in rows:
        by_rule.setdefault(line["rule"], []).append(line)
    head = "| SIM, medians | steady, of the oracle | changes in 100 | settled after 2x | lost | after recovery | lost |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for rule, seeds in by_rule.items():
        values = (median(float(line[column]) for line in seeds) for column in columns)
        lines.append(f"| {rule} | {' | '.join(f'{value:.3g}' for value in values)} |")
    return "\n".join(lines)
