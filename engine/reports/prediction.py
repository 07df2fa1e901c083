"""Compares predictions with measurements: a miss beyond the stated doubt becomes a warning with its likely reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from ..plan import CasePlan, Plan
from .busy import device_label
from .figures import CaseFigures, RunLines, ratio, working_ranks
from .phases import StepPhases, steady_phases

HOST_SHARE = 0.1
"""Share of a step in stalls of the host from which another program is the likely reason."""


@dataclass(frozen=True, slots=True)
class _Step:
    """The slowest rank of a measured step, and the exchange that nothing hides."""

    rank: int
    compute_seconds: float
    host_seconds: float
    exposed_seconds: float


def batch_warning(plan: Plan) -> str | None:
    """What is said where the batch is not the one that was asked for; None where it is."""
    if plan.requested_batch_size is None:
        return None
    used = plan.global_batch_size
    return f"the data has {used:,} training samples: the global batch is {used:,} and not {plan.requested_batch_size:,}"


def prediction_warnings(plan: Plan, lines: RunLines, figures: list[CaseFigures]) -> list[str]:
    """One sentence for each case whose throughput lies outside the doubt of its prediction."""
    sentences = []
    for one in figures:
        case, measured = one.case, one.samples_per_second
        off = ratio(case.predicted_samples_per_second, measured)
        if off is None or measured is None or case.predicted_doubt is None or abs(off - 1) <= case.predicted_doubt:
            continue
        stated = f"{case.predicted_samples_per_second:,.0f} samples/s ± {case.predicted_doubt * 100:.0f} % were predicted"
        sentences.append(f"{case.name}: {stated} and {measured:,.0f} measured: {_reason(plan, lines, case, off)}")
    return sentences


def _reason(plan: Plan, lines: RunLines, case: CasePlan, off: float) -> str:
    """The likely reason of a miss; ``off``: predicted over measured throughput."""
    slow = next((found for found in lines.stragglers_found if found.case == case.name), None)
    if off > 1 and slow is not None:
        who = "the network" if slow.straggler is None else f"rank {slow.straggler}"
        return f"{who} became slower during the run ({slow.cause}), see stragglers"
    step = _measured_step(plan, lines, case)
    expected, exposed = case.predicted_compute_seconds, case.predicted_exposed_seconds
    if step is None or expected is None or exposed is None:
        return f"its steps were not timed; the largest part of the doubt was {case.predicted_doubt_reason or 'not stated'}"
    more_compute, more_exposed = step.compute_seconds - expected, step.exposed_seconds - exposed
    who = f"rank {step.rank} ({device_label(plan.ranks[step.rank])})"
    times = f"{step.compute_seconds * 1000:.0f} ms a step and not {expected * 1000:.0f}"
    if abs(more_compute) >= abs(more_exposed):
        if more_compute < 0:
            return f"{who} computed {times}: it was slower or busier when it was profiled, paceline profile measures again"
        if step.host_seconds > HOST_SHARE * step.compute_seconds:
            return f"{who} computed {times}: another program took its processor"
        return f"{who} computed {times}: it is slower or busier than when it was profiled, paceline profile measures again"
    sent = f"{step.exposed_seconds * 1000:.0f} ms a step and not {exposed * 1000:.0f}"
    return (
        f"the exchange took {sent}: the network is {'slower or busier' if more_exposed > 0 else 'faster'} than when it was profiled"
    )


def _measured_step(plan: Plan, lines: RunLines, case: CasePlan) -> _Step | None:
    steps: dict[int, StepPhases] = steady_phases(plan, lines, case)
    if not steps or len(steps) != len(working_ranks(plan, lines, case)):
        return None
    slowest = max(steps, key=lambda rank: steps[rank].own)
    exposed = fsum(step.of("communication") for step in steps.values()) / len(steps)
    return _Step(slowest, steps[slowest].own, steps[slowest].of("host"), exposed)
