"""The claims about the balancer and the tables of docs/design/balancer-proof.md. Pure: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.table import Figure


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the page: the figures of one benchmark whose names contain ``text``."""

    what: str
    goal: str
    benchmark: str
    text: str


CLAIMS = (
    Claim("REAL throughput over equal", ">= 2.15x", "balancer/adaptation", "throughput over equal"),
    Claim("REAL balance efficiency, `hybrid`", ">= .95", "balancer/adaptation", "balance efficiency"),
    Claim("REAL imbalance, no noise", "<= 3 %", "balancer/adaptation", "imbalance"),
    Claim("REAL steps with old shares: 2x slower; recovery; both", "<= 3 / 10", "balancer/adaptation", "steps with old shares"),
    Claim("REAL steps' worth lost to both", "<= 3", "balancer/adaptation", "worth lost"),
    Claim("SIM steps with old shares: 2x slower; recovery", "<= 3 / 10", "balancer/simulation", "steps with old shares"),
    Claim("SIM steps' worth lost: 2x slower; recovery", "<= 3", "balancer/simulation", "worth lost"),
    Claim("REAL steady, noise, of the oracle", ">= .97", "balancer/adaptation", "of the oracle"),
    Claim("REAL changes in 100 steps under that noise", "<= 2", "balancer/adaptation", "changes in 100"),
    Claim("SIM steady, noise, of the oracle", ">= .99", "balancer/simulation", "of the oracle"),
    Claim("SIM changes in 100 steps under that noise", "<= 2", "balancer/simulation", "changes in 100"),
    Claim("SIM of the best constant shares, 14 disturbances", ">= .98", "balancer/hindsight", "of the best constant"),
    Claim("REAL ratio to fixed shares, 5 disturbances", "0.97 in or below", "balancer/real", "over proportional"),
    Claim("REAL cost: thread CPU a step", "<= 1 ms p95", "balancer/cost", "thread CPU"),
    Claim("REAL cost: wall over bare DDP", "<= .5 %", "balancer/cost", "wall over"),
    Claim("gradients against one process: float32; float64", "1e-6; 1e-12", "balancer/gradients", "gradients against"),
    Claim("allocation against brute force: mismatches", "0", "balancer/simulation", "random cases"),
    Claim("allocation, ms: 8 devices; 64", "< 1; < 5", "balancer/simulation", "allocation of"),
    Claim("sampler: every sample exactly once", "100 %", "balancer/gradients", "sampler"),
    Claim("SIM alerts: precision", ">= .99", "balancer/alerts", "SIM alerts: precision"),
    Claim("SIM alerts: recall within 10 steps", ">= .99", "balancer/alerts", "SIM alerts: recall"),
    Claim("SIM healthy slow device, 100,000 steps: alerts", "0", "balancer/alerts", "healthy slow device"),
    Claim("REAL causes: right", ">= 95 %", "balancer/causes", "causes: right"),
)
"""In the order of the page."""


def claims_table(figures: Sequence[Figure]) -> str:
    """One line per claim. A claim without a figure is missed."""
    lines = ["| claim | goal | figure | | `python -m benchmarks` |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        matching = [figure for figure in figures if figure.benchmark == claim.benchmark and claim.text in figure.what]
        values = "; ".join(dict.fromkeys(figure.value for figure in matching)) or "—"
        verdict = "met" if matching and all(figure.is_met for figure in matching) else "**missed**"
        lines.append(f"| {claim.what} | {claim.goal} | {values.replace('|', '/')} | {verdict} | {claim.benchmark} |")
    return "\n".join(lines)


def rules_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Published rules on the same simulated histories: medians over the seeds of results/balancer_simulation_rules.csv."""
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
