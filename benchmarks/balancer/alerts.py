"""Simulated straggler alerts: precision and recall within 10 steps, silence of a healthy lab: ``python benchmarks/balancer/alerts.py``.

The simulated lab has the reference lab's four devices under the policy hybrid, whose decisions are the very code of a run; 4 %
noise on every part of every rank's step, 1 % outliers of 1.5 to 3 times. 600 histories, each with one fault of a random rank, cause
and size from 1.2 to 2.5 for 30 to 80 steps. Then the same lab, whose slowest device is four times slower than its fastest, runs
100,000 steps without a fault. All seeds stand in the raw CSV.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.balancer.policies import Observation, Problem, decide, start  # noqa: E402
from paceline.engine.balancer.step_phases import StepWork  # noqa: E402
from paceline.engine.balancer.step_time import StepTime  # noqa: E402
from paceline.engine.balancer.stragglers import start_watch, watch  # noqa: E402
from paceline.engine.events import StragglerEnded, StragglerFound  # noqa: E402

from benchmarks.table import row, write_csv  # noqa: E402

LAB = tuple(StepTime(0.002, 1 / (34 * speed)) for speed in (12.7, 9.1, 3.0, 3.0))
BATCH, NOISE, OUTLIERS = 384, 0.04, 0.01
CAUSES = ("compute", "data", "host-to-device", "host", "network")
HISTORIES, WITHIN = 600, 10
HEALTHY_STEPS = 100_000


@dataclass(frozen=True)
class Fault:
    """One injected cause."""

    rank: int
    cause: str
    slowdown: float
    first: int
    last: int
    """Exclusive."""

    def extra(self, step: int, rank: int, cause: str, seconds: float) -> float:
        """Seconds that it adds to one part of one rank's step."""
        is_hit = self.first <= step < self.last and rank == self.rank and cause == self.cause
        return (self.slowdown - 1.0) * seconds if is_hit else 0.0


def play(seed: int, steps: int, fault: Fault | None, policy: str = "hybrid") -> Iterator[StragglerFound | StragglerEnded]:
    """One history of the simulated lab, as the alerts it raises."""
    draw = random.Random(seed)
    problem = Problem(policy, BATCH, LAB, (1,) * len(LAB), (BATCH,) * len(LAB))
    memory, state = start(problem), start_watch(len(LAB))
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
            handed = seconds + (fault.extra(step, rank, "network", whole) if fault else 0.0)
            late = max(late, handed)
        exchange = 0.009 * draw.gauss(1.0, 0.2)
        waits = [late + max(exchange, 0.002) - work.seconds for work in works]
        state, told = watch(problem.profile, state, step, works)
        yield from told  # type: ignore[misc]
        memory = decide(problem, memory, [Observation(work.seconds, work.samples) for work in works]).memory


def injected(seed: int) -> tuple[Fault, list[StragglerFound | StragglerEnded]]:
    """One history with one fault."""
    draw = random.Random(10_000 + seed)
    first = draw.randint(40, 90)
    slowdown = 1.2 if seed % 3 == 0 else draw.uniform(1.2, 2.5)
    fault = Fault(draw.randrange(len(LAB)), CAUSES[seed % len(CAUSES)], slowdown, first, first + draw.randint(30, 80))
    return fault, list(play(seed, fault.last + 40, fault))


def main() -> None:
    """Print the table and keep every history."""
    rows: list[tuple[object, ...]] = []
    hits = right = false = ended = 0
    delays: list[int] = []
    for seed in range(HISTORIES):
        fault, told = injected(seed)
        whom = None if fault.cause == "network" else fault.rank
        found = [one for one in told if isinstance(one, StragglerFound)]
        mine = [one for one in found if one.straggler == whom and fault.first <= one.step < fault.first + WITHIN]
        false += len(found) - len(mine[:1])
        hits += bool(mine)
        right += bool(mine) and mine[0].cause == fault.cause
        ends = [one.step for one in told if isinstance(one, StragglerEnded) and one.straggler == whom]
        ended += bool(ends) and abs(ends[-1] - fault.last) <= 5
        delays += [mine[0].step - fault.first + 1] if mine else []
        delay = delays[-1] if mine else ""
        cause = mine[0].cause if mine else ""
        rows.append(
            (seed, fault.rank, fault.cause, fault.slowdown, fault.first, fault.last, delay, cause, len(found) - len(mine[:1]))
        )
    healthy = [one for one in play(7, HEALTHY_STEPS, None) if isinstance(one, StragglerFound)]
    write_csv(
        "alerts_sim", ("seed", "rank", "cause", "slowdown", "first", "last", "steps_until_found", "found", "false_alerts"), rows
    )
    precision, recall = hits / max(hits + false, 1), hits / HISTORIES
    delays.sort()
    row(
        f"SIM alerts: precision, {HISTORIES} injected causes, 4 % noise",
        ">= 0.99",
        f"{precision:.4f} ({false} false)",
        precision >= 0.99,
    )
    row("SIM alerts: recall within 10 steps", ">= 0.99", f"{recall:.4f}", recall >= 0.99)
    row("SIM alerts: right cause and rank, of those found", ">= 0.95", f"{right / max(hits, 1):.4f}", right >= 0.95 * hits)
    row(
        "SIM alerts: steps until found, p50 / p90",
        "<= 10",
        f"{delays[len(delays) // 2]} / {delays[int(len(delays) * 0.9)]}",
        delays[-1] <= 10,
    )
    row("SIM alerts: ended within 5 steps of the recovery", ">= 0.95", f"{ended / HISTORIES:.4f}", ended >= 0.95 * HISTORIES)
    row(f"SIM healthy slow device, {HEALTHY_STEPS:,} steps: alerts", "0", str(len(healthy)), not healthy)


if __name__ == "__main__":
    main()
