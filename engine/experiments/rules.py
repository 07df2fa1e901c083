"""The field's rules for sharing a batch, re-implemented with the signature of ours to be put to the same simulated histories.

They belong to the benchmark only. Each is what its source says, with its own figures; where a source leaves something open the
choice stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..balancer import policies
from ..balancer.allocate import allocate
from ..balancer.policies import Decision, Observation, Problem
from ..balancer.step_time import StepTime
from .simulation import Rule

_REFERENCE_EVERY = 10
"""Steps between two looks of the reference project's rule: not told; 59 changes in 600 steps were seen with it."""
_LBB_REST = 25
"""Steps that LBB rests after a new solution: 20 to 30."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Memory of the reference project's rule."""

    local_batch_sizes: tuple[int, ...]
    scores: tuple[float, ...]
    steps: int = 0


def start_by_score(problem: Problem) -> Scores:
    """Shares by profile score."""
    scores = tuple(1.0 / model.seconds_per_sample for model in problem.profile)
    return Scores(_floored(problem, scores), scores)


def reference(alpha: float, *, sees_wait: bool) -> Rule:
    """score = (alpha score + (1 - alpha) score / seconds) x penalty: the reference project's rule.

    Seconds are never divided by the rank's own batch; a rank beyond 1.5 times the median time has its score halved; shares are
    floored and the last rank gets the rest. Its hybrid is alpha = .5. It measures whole iterations, the wait for the others
    included, which are alike on all ranks. Given compute seconds instead, and its score taken as a running one, it is at its best.
    """

    def decide(problem: Problem, memory: Scores, observed: Sequence[Observation]) -> Decision:
        steps = memory.steps + 1
        if steps % _REFERENCE_EVERY:
            return _decision(memory, replace(memory, steps=steps))
        times = [max(seen.seconds, 1e-9) for seen in observed]
        if sees_wait:
            times = [max(times)] * len(times)
        median = sorted(times)[len(times) // 2]
        scores = []
        for score, seconds in zip(memory.scores, times, strict=True):
            penalty = 0.5 if seconds > 1.5 * median else 1.0
            scores.append((alpha * score + (1.0 - alpha) * score / seconds) * penalty)
        total = _sum(scores)
        normed = tuple(score / total for score in scores)
        return _decision(memory, Scores(_floored(problem, normed), normed, steps))

    name = f"reference {'hybrid' if alpha else 'dynamic'}, {'as it is' if sees_wait else 'compute seconds'}"
    return Rule(name, "hybrid", start_by_score, decide)


@dataclass(frozen=True, slots=True)
class OmniLearnWindow:
    """Memory of OmniLearn's rule."""

    local_batch_sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    """Of each rank, summed over the window."""
    steps: int = 0


def omnilearn(window: int, deadband: float = 0.2) -> Rule:
    """b <- b t_mean / t after every window (its epoch), where a rank is beyond the deadband: OmniLearn (Tyagi and Swany).

    There the sum of b drifts; here it is made whole again by the largest remainder, or nothing could be compared.
    """

    def start(problem: Problem) -> OmniLearnWindow:
        return OmniLearnWindow(_equal(problem), (0.0,) * len(problem.profile))

    def decide(problem: Problem, memory: OmniLearnWindow, observed: Sequence[Observation]) -> Decision:
        seconds = tuple(old + seen.seconds for old, seen in zip(memory.seconds, observed, strict=True))
        if memory.steps + 1 < window:
            return _decision(memory, OmniLearnWindow(memory.local_batch_sizes, seconds, memory.steps + 1))
        mean, sizes = _sum(seconds) / len(seconds), memory.local_batch_sizes
        if any(abs(second / mean - 1.0) > deadband for second in seconds):
            sizes = _whole(problem, [size * mean / max(second, 1e-9) for size, second in zip(sizes, seconds, strict=True)])
        return _decision(memory, OmniLearnWindow(sizes, (0.0,) * len(seconds)))

    return Rule(f"OmniLearn, {window} steps", "dynamic", start, decide)


@dataclass(frozen=True, slots=True)
class Resting:
    """Memory of LBB's rule."""

    local_batch_sizes: tuple[int, ...]
    rest: int = 0
    """Steps until it may solve again."""


def lbb() -> Rule:
    """By the spread (max - min) / mean of the times: below .05 nothing, up to .3 one sample from slowest to fastest, else solve.

    LBB (FLYING37520/LBB, 2024): the slope online as (t - a) / b of the last step, a from the profile; its optimiser is replaced by
    our exact allocation, which is kinder.
    """

    def start(problem: Problem) -> Resting:
        return Resting(allocate(problem.profile, problem.global_batch_size, problem.lows, problem.highs))

    def decide(problem: Problem, memory: Resting, observed: Sequence[Observation]) -> Decision:
        sizes, rest = list(memory.local_batch_sizes), max(0, memory.rest - 1)
        times = [seen.seconds for seen in observed]
        slow, quick = times.index(max(times)), times.index(min(times))
        spread = (times[slow] - times[quick]) * len(times) / _sum(times)
        if spread > 0.3 and rest == 0:
            models = []
            for model, seen in zip(problem.profile, observed, strict=True):
                slope = (seen.seconds - model.fixed_seconds) / max(seen.samples, 1)
                models.append(StepTime(model.fixed_seconds, max(slope, 1e-9)))
            solved = allocate(models, problem.global_batch_size, problem.lows, problem.highs)
            return _decision(memory, Resting(solved, _LBB_REST))
        if spread > 0.05 and sizes[slow] > problem.lows[slow] and sizes[quick] < problem.highs[quick]:
            sizes[slow] -= 1
            sizes[quick] += 1
        return _decision(memory, Resting(tuple(sizes), rest))

    return Rule("LBB", "hybrid", start, decide)


def field_rules() -> tuple[Rule, ...]:
    """All rules of the comparison, ours last."""
    return (
        Rule("equal", "equal"),
        Rule("proportional", "proportional"),
        reference(0.0, sees_wait=True),
        reference(0.5, sees_wait=True),
        reference(0.0, sees_wait=False),
        reference(0.5, sees_wait=False),
        omnilearn(100),
        omnilearn(20, 0.05),
        lbb(),
        Rule("ours, dynamic", "dynamic"),
        Rule("ours, hybrid", "hybrid"),
    )


def _decision(before: Scores | OmniLearnWindow | Resting, after: Scores | OmniLearnWindow | Resting) -> Decision:
    """Only the memory of the decision is used, which here is the rule's own."""
    sizes = after.local_batch_sizes
    return Decision(sizes, "", after, sizes != before.local_batch_sizes)  # type: ignore[arg-type]


def _equal(problem: Problem) -> tuple[int, ...]:
    return policies.start(replace(problem, policy="equal")).local_batch_sizes


def _floored(problem: Problem, scores: Sequence[float]) -> tuple[int, ...]:
    """Floor, at least one, and the rest to the last rank; taken from the largest where that is too much."""
    total, batch = _sum(scores), problem.global_batch_size
    sizes = [max(1, int(batch * score / total)) for score in scores[:-1]]
    while sum(sizes) >= batch:
        sizes[sizes.index(max(sizes))] -= 1
    return (*sizes, batch - sum(sizes))


def _whole(problem: Problem, wanted: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers near these that sum to the batch."""
    total = _sum(wanted)
    exact = [problem.global_batch_size * size / total for size in wanted]
    sizes = [max(1, int(size)) for size in exact]
    by_rest = sorted(range(len(sizes)), key=lambda rank: sizes[rank] - exact[rank])
    for turn in range(problem.global_batch_size - sum(sizes)):
        sizes[by_rest[turn % len(sizes)]] += 1
    while sum(sizes) > problem.global_batch_size:
        sizes[sizes.index(max(sizes))] -= 1
    return tuple(sizes)


def _sum(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total
