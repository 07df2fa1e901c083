"""Precision and recall of simulated straggler alerts, and no alert on a healthy lab: ``python -m benchmarks balancer/alerts``.

The simulated lab has the reference lab's four devices under the policy hybrid and runs the decision code of a real run, with 4 %
noise on every part of every rank's step and 1 % outliers of 1.5 to 3 times. 600 histories have one fault each, of a random rank,
cause and slowdown from 1.2 to 2.5, for 30 to 80 steps. Then the same lab, whose slowest device is four times slower than its
fastest, runs 100,000 steps without a fault. The raw CSV holds all seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from paceline.engine.balancer.policies import Observation, Problem, decide, start
from paceline.engine.balancer.step_phases import StepWork
from paceline.engine.balancer.step_time import StepTime
from paceline.engine.balancer.stragglers import detect_stragglers, initial_state
from paceline.engine.events import RankEvent, StragglerEnded, StragglerFound
from paceline.engine.states import Policy, SlowdownCause

from benchmarks.table import print_line, write_csv

LAB = tuple(StepTime(0.002, 1 / (34 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
BATCH, NOISE, OUTLIERS = 384, 0.04, 0.01
CAUSES: tuple[SlowdownCause, ...] = get_args(SlowdownCause)
HISTORIES, WITHIN = 600, 10
HEALTHY_STEPS = 100_000


@dataclass(frozen=True)
class Fault:
    """One injected fault."""

    rank: int
    cause: SlowdownCause
    slowdown: float
    first: int
    last: int
    """Exclusive."""

    def extra(self, step: int, rank: int, cause: str, seconds: float) -> float:
        """Seconds that the fault adds to one part of one rank's step."""
        is_hit = self.first <= step < self.last and rank == self.rank and cause == self.cause
        return (self.slowdown - 1.0) * seconds if is_hit else 0.0


def play(seed: int, steps: int, fault: Fault | None, policy: Policy = "hybrid") -> Iterator[RankEvent]:
    """The alerts that one history of the simulated lab raises."""
    draw = random.Random(seed)
    problem = Problem(policy, BATCH, LAB, (1,) * len(LAB), (BATCH,) * len(LAB))
    memory, state = start(problem), initial_state(len(LAB))
    waits = [0.01] * len(LAB)
    for step in range(steps):
        works, late = [], 0.0
        for rank, (model, size) in enumerate(zip(LAB, memory.local_batch_sizes, strict=True)):
            whole = model.at(size)
            outlier = draw.uniform(1.5, 3.0) if draw.random() < OUTLIERS else 1.0
            parts = {
                cause: (share * whole + (fault.extra(step, rank, cause, whole) if fault else 0.0)) * draw.gauss(1.0, NOISE)
                for cause, share in (("compute", 0.9), ("data", 0.06), ("host-to-device", 0.02), ("host", 0.02))
            }
            parts["compute"] *= outlier
            seconds = sum(parts.values())
            works.append(StepWork(seconds, size, parts["data"], parts["host-to-device"], parts["host"], waits[rank]))
            late = max(late, seconds + (fault.extra(step, rank, "network", whole) if fault else 0.0))
        exchange = 0.009 * draw.gauss(1.0, 0.2)
        waits = [late + max(exchange, 0.002) - work.seconds for work in works]
        state, alerts = detect_stragglers(problem.profile, state, step, works)
        yield from alerts
        memory = decide(problem, memory, [Observation(work.seconds, work.samples) for work in works]).memory


def injected(seed: int) -> tuple[Fault, list[RankEvent]]:
    """One history with one fault: the fault and the alerts."""
    draw = random.Random(10_000 + seed)
    first = draw.randint(40, 90)
    slowdown = 1.2 if seed % 3 == 0 else draw.uniform(1.2, 2.5)
    fault = Fault(draw.randrange(len(LAB)), CAUSES[seed % len(CAUSES)], slowdown, first, first + draw.randint(30, 80))
    return fault, list(play(seed, fault.last + 40, fault))


def main() -> None:
    """Print the figures and store every history."""
    rows: list[tuple[object, ...]] = []
    hits = right = false = ended = 0
    delays: list[int] = []
    for seed in range(HISTORIES):
        fault, alerts = injected(seed)
        straggler = None if fault.cause == "network" else fault.rank
        found = [one for one in alerts if isinstance(one, StragglerFound)]
        mine = [one for one in found if one.straggler == straggler and fault.first <= one.step < fault.first + WITHIN]
        false += len(found) - len(mine[:1])
        hits += bool(mine)
        right += bool(mine) and mine[0].cause == fault.cause
        ends = [one.step for one in alerts if isinstance(one, StragglerEnded) and one.straggler == straggler]
        ended += bool(ends) and abs(ends[-1] - fault.last) <= 5
        delays += [mine[0].step - fault.first + 1] if mine else []
        delay = delays[-1] if mine else ""
        cause = mine[0].cause if mine else ""
        rows.append(
            (seed, fault.rank, fault.cause, fault.slowdown, fault.first, fault.last, delay, cause, len(found) - len(mine[:1]))
        )
    healthy = [one for one in play(7, HEALTHY_STEPS, None) if isinstance(one, StragglerFound)]
    write_csv(
        "balancer_alerts",
        ("seed", "rank", "cause", "slowdown", "first", "last", "steps_until_found", "found", "false_alerts"),
        rows,
    )
    precision, recall = hits / max(hits + false, 1), hits / HISTORIES
    delays.sort()
    print_line(
        f"SIM alerts: precision, {HISTORIES} injected causes, 4 % noise",
        ">= 0.99",
        f"{precision:.4f} ({false} false)",
        precision >= 0.99,
    )
    print_line("SIM alerts: recall within 10 steps", ">= 0.99", f"{recall:.4f}", recall >= 0.99)
    print_line("SIM alerts: right cause and rank, of those found", ">= 0.95", f"{right / max(hits, 1):.4f}", right >= 0.95 * hits)
    print_line(
        "SIM alerts: steps until found, p50 / p90",
        "<= 10",
        f"{delays[len(delays) // 2]} / {delays[int(len(delays) * 0.9)]}",
        delays[-1] <= 10,
    )
    print_line("SIM alerts: ended within 5 steps of the recovery", ">= 0.95", f"{ended / HISTORIES:.4f}", ended >= 0.95 * HISTORIES)
    print_line(f"SIM healthy slow device, {HEALTHY_STEPS:,} steps: alerts", "0", str(len(healthy)), not healthy)


if __name__ == "__main__":
    main()
