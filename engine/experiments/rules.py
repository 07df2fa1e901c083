"""Published rules for sharing a batch, re-implemented with the signature of our policies, for the same simulated histories.

Only the benchmark uses them. Each follows its source with the source's own constants; where a source leaves something open, a
comment states the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..balancer import policies
from ..balancer.allocate import allocate
from ..balancer.policies import Decision, Observation, Problem
from ..balancer.step_time import StepTime
from .simulation import Rule

_REFERENCE_INTERVAL_STEPS = 10
"""Steps between two decisions of the reference project's rule: not documented; 59 changes in 600 steps were observed with it."""
_LBB_REST_STEPS = 25
"""Steps that LBB rests after a new solution: its source says 20 to 30."""


@dataclass(frozen=True, slots=True)
class ScoreMemory:
    """Memory of the reference project's rule."""

    local_batch_sizes: tuple[int, ...]
    scores: tuple[float, ...]
    steps: int = 0


def start_by_score(problem: Problem) -> ScoreMemory:
    """Start with shares by profile score."""
    scores = tuple(1.0 / model.seconds_per_sample for model in problem.profile)
    return ScoreMemory(_floor_sizes(problem, scores), scores)


def reference_rule(alpha: float, *, sees_wait: bool) -> Rule:
    """Return the reference project's rule: score = (alpha score + (1 - alpha) score / seconds) x penalty.

    Seconds are never divided by the rank's own batch; the score of a rank beyond 1.5 times the median time is halved; shares are
    floored and the last rank gets the remainder. Its hybrid is alpha = .5. It measures whole iterations with the wait for other
    ranks, so that all ranks measure the same. With compute seconds instead, and a running score, it performs best.
    """

    def decide(problem: Problem, memory: ScoreMemory, observed: Sequence[Observation]) -> Decision:
        steps = memory.steps + 1
        if steps % _REFERENCE_INTERVAL_STEPS:
            return _decision(memory, replace(memory, steps=steps))
        times = [max(observation.seconds, 1e-9) for observation in observed]
        if sees_wait:
            times = [max(times)] * len(times)
        median = sorted(times)[len(times) // 2]
        scores = []
        for score, seconds in zip(memory.scores, times, strict=True):
            penalty = 0.5 if seconds > 1.5 * median else 1.0
            scores.append((alpha * score + (1.0 - alpha) * score / seconds) * penalty)
        total = _sum(scores)
        normalized = tuple(score / total for score in scores)
        return _decision(memory, ScoreMemory(_floor_sizes(problem, normalized), normalized, steps))

    name = f"reference {'hybrid' if alpha else 'dynamic'}, {'as it is' if sees_wait else 'compute seconds'}"
    return Rule(name, "hybrid", start_by_score, decide)


@dataclass(frozen=True, slots=True)
class OmniLearnMemory:
    """Memory of OmniLearn's rule."""

    local_batch_sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    """Compute seconds of each rank, summed over the window."""
    steps: int = 0


def omnilearn_rule(window: int, deadband: float = 0.2) -> Rule:
    """Return OmniLearn's rule (Tyagi and Swany): b <- b t_mean / t after every window (epoch) in which a rank exceeds the deadband.

    In OmniLearn the sum of b drifts; here the largest remainder restores the global batch size, so that results are comparable.
    """

    def start(problem: Problem) -> OmniLearnMemory:
        return OmniLearnMemory(_equal_sizes(problem), (0.0,) * len(problem.profile))

    def decide(problem: Problem, memory: OmniLearnMemory, observed: Sequence[Observation]) -> Decision:
        seconds = tuple(old + observation.seconds for old, observation in zip(memory.seconds, observed, strict=True))
        if memory.steps + 1 < window:
            return _decision(memory, OmniLearnMemory(memory.local_batch_sizes, seconds, memory.steps + 1))
        mean, sizes = _sum(seconds) / len(seconds), memory.local_batch_sizes
        if any(abs(second / mean - 1.0) > deadband for second in seconds):
            sizes = _largest_remainder(
                problem, [size * mean / max(second, 1e-9) for size, second in zip(sizes, seconds, strict=True)]
            )
        return _decision(memory, OmniLearnMemory(sizes, (0.0,) * len(seconds)))

    return Rule(f"OmniLearn, {window} steps", "dynamic", start, decide)


@dataclass(frozen=True, slots=True)
class LBBMemory:
    """Memory of LBB's rule."""

    local_batch_sizes: tuple[int, ...]
    rest: int = 0
    """Steps until the next solution is allowed."""


def lbb_rule() -> Rule:
    """Return LBB's rule: by the spread (max - min) / mean of the times, no change below .05, one sample moved up to .3, else solve.

    LBB (FLYING37520/LBB, 2024): the sample moves from the slowest to the fastest rank; the slope is (t - a) / b of the last step
    with a from the profile; our exact allocation replaces its optimiser, to its advantage.
    """

    def start(problem: Problem) -> LBBMemory:
        return LBBMemory(allocate(problem.profile, problem.global_batch_size, problem.lows, problem.highs))

    def decide(problem: Problem, memory: LBBMemory, observed: Sequence[Observation]) -> Decision:
        sizes, rest = list(memory.local_batch_sizes), max(0, memory.rest - 1)
        times = [observation.seconds for observation in observed]
        slowest, fastest = times.index(max(times)), times.index(min(times))
        spread = (times[slowest] - times[fastest]) * len(times) / _sum(times)
        if spread > 0.3 and rest == 0:
            models = []
            for model, observation in zip(problem.profile, observed, strict=True):
                slope = (observation.seconds - model.fixed_seconds) / max(observation.samples, 1)
                models.append(StepTime(model.fixed_seconds, max(slope, 1e-9)))
            solved = allocate(models, problem.global_batch_size, problem.lows, problem.highs)
            return _decision(memory, LBBMemory(solved, _LBB_REST_STEPS))
        if spread > 0.05 and sizes[slowest] > problem.lows[slowest] and sizes[fastest] < problem.highs[fastest]:
            sizes[slowest] -= 1
            sizes[fastest] += 1
        return _decision(memory, LBBMemory(tuple(sizes), rest))

    return Rule("LBB", "hybrid", start, decide)


def comparison_rules() -> tuple[Rule, ...]:
    """Return all rules of the comparison, our policies last."""
    return (
        Rule("equal", "equal"),
        Rule("proportional", "proportional"),
        reference_rule(0.0, sees_wait=True),
        reference_rule(0.5, sees_wait=True),
        reference_rule(0.0, sees_wait=False),
        reference_rule(0.5, sees_wait=False),
        omnilearn_rule(100),
        omnilearn_rule(20, 0.05),
        lbb_rule(),
        Rule("ours, dynamic", "dynamic"),
        Rule("ours, hybrid", "hybrid"),
    )


def _decision(before: ScoreMemory | OmniLearnMemory | LBBMemory, after: ScoreMemory | OmniLearnMemory | LBBMemory) -> Decision:
    """Wrap a rule's own memory in a decision; only the memory is used."""
    sizes = after.local_batch_sizes
    return Decision(sizes, "", after, sizes != before.local_batch_sizes)  # type: ignore[arg-type]  # each rule has a memory of its own


def _equal_sizes(problem: Problem) -> tuple[int, ...]:
    return policies.start(replace(problem, policy="equal")).local_batch_sizes


def _floor_sizes(problem: Problem, scores: Sequence[float]) -> tuple[int, ...]:
    """Floor every size to at least one; the last rank gets the remainder, a negative one is taken from the largest sizes."""
    total, batch = _sum(scores), problem.global_batch_size
    sizes = [max(1, int(batch * score / total)) for score in scores[:-1]]
    while sum(sizes) >= batch:
        sizes[sizes.index(max(sizes))] -= 1
    return (*sizes, batch - sum(sizes))


def _largest_remainder(problem: Problem, targets: Sequence[float]) -> tuple[int, ...]:
    """Return integers near these targets that sum to the global batch size."""
    total = _sum(targets)
    exact = [problem.global_batch_size * size / total for size in targets]
    sizes = [max(1, int(size)) for size in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda rank: sizes[rank] - exact[rank])
    for turn in range(problem.global_batch_size - sum(sizes)):
        sizes[by_remainder[turn % len(sizes)]] += 1
    while sum(sizes) > problem.global_batch_size:
        sizes[sizes.index(max(sizes))] -= 1
    return tuple(sizes)


def _sum(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total
