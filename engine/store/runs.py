"""How one event changes one run: the part of the reducer that knows cases, ranks and decisions. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..events import (
    CaseEnded,
    CaseStarted,
    EpochEnded,
    Event,
    LaunchStarted,
    ProfilingAdvanced,
    Progress,
    RankEvent,
    RankFailed,
    RankJoined,
    RunEnded,
    RunListed,
    RunPlanned,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    Warned,
)
from .history import EVENTS, curve, recent
from .state import CaseState, Decision, EpochPoint, RankState, RunState, Straggler

MEASURED_STEPS = 10
"""Steps after a decision over which its effect is measured."""
_UNKNOWN: dict[str, Any] = dict.fromkeys(
    ("step", "samples_per_second", "compute_seconds", "data_seconds", "host_seconds", "wait_seconds", "step_seconds")
)
"""What a rank's last case says nothing about in the next one."""
MOSTLY = 0.9
"""Share of the agreed samples from which a summary counts as one of full steps."""


def started(run: RunState, event: Event) -> RunState:
    """Bring a launch forward, or take over the plan of a run that was found again."""
    match event:
        case Progress():
            run = replace(touched(run, event), phase=event.phase, fraction=event.fraction, detail=event.detail)
            return replace(run, seconds_left=event.seconds_left, told_at=event.at)
        case Warned():
            run = replace(touched(run, event), phase=event.reason, fraction=None, detail="")
            return replace(run, seconds_left=None, told_at=event.at)
        case RunPlanned():
            known = {case.name: case for case in run.cases}
            policies = dict(zip(event.cases, event.policies or event.cases, strict=False))
            predicted = dict(zip(event.cases, event.predicted, strict=False))
            ranks = {
                found.rank: replace(
                    run.ranks.get(found.rank) or RankState(found.rank),
                    node=found.node,
                    device_index=found.device_index,
                    device_name=found.device_name,
                    device_kind=found.device_kind,
                )
                for found in event.ranks
            }
            return replace(
                touched(run, event),
                workload=event.workload,
                source=event.source,
                cases=tuple(
                    replace(known.get(name) or CaseState(name, policies.get(name, name)), predicted=predicted.get(name))
                    for name in dict.fromkeys(event.cases)
                ),
                case=min(run.case, max(0, len(event.cases) - 1)),
                ranks=ranks,
                epochs=event.epochs,
                global_batch_size=event.global_batch_size,
                samples_per_epoch=event.samples_per_epoch,
                is_emulated=event.is_emulated,
                is_network_emulated=event.is_network_emulated,
                is_bench=event.is_bench,
            )
        case _:
            return run


def listed(run: RunState, event: RunListed) -> RunState:
    """A run that others started. What is followed here is known better than that."""
    if run.ranks:
        return run
    found = replace(run, state=event.state, reason=event.reason, workload=event.workload)
    return replace(found, listed_nodes=event.nodes, started=event.started, is_found=True)


def reached(run: RunState, event: Event) -> RunState:
    """Nodes of the run went out of reach, or its runners spoke."""
    if isinstance(event, RunUnreachable):
        state = run.state if run.is_over else "unreachable"
        return replace(run, state=state, unreachable=event.nodes)
    if isinstance(event, LaunchStarted):
        run = replace(run, phase="waiting for the group to form", fraction=None, detail="", seconds_left=None)
    return touched(run, event)


def profiled(run: RunState, event: ProfilingAdvanced) -> RunState:
    """Profiling has come to its next part."""
    phase = f"profiling: {event.phase}" if event.phase else ""
    detail = f"part {event.part} of {event.parts}" if event.phase and event.parts else ""
    run = replace(touched(run, event), phase=phase, fraction=event.fraction, detail=detail)
    return replace(run, seconds_left=event.seconds_left, told_at=event.at)


def touched(run: RunState, event: Event) -> RunState:
    """A word of the run arrived: it is within reach."""
    state = run.state
    if state == "unreachable":
        state = "running" if run.stepping_at is not None else "starting"
    return replace(run, state=state, unreachable=(), last_at=max(run.last_at, event.at))


def ended(run: RunState, event: RunEnded) -> RunState:
    """All processes of the run are gone."""
    at = max(run.last_at, event.at)
    cases = _measured_all(run.cases)
    return replace(run, state=event.state, reason=event.reason, ended_at=at, last_at=at, unreachable=(), phase="", cases=cases)


def rank_failed(run: RunState, event: RankFailed) -> RunState:
    """A rank raised."""
    run = touched(run, event)
    rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
    return replace(run, ranks={**run.ranks, event.rank: replace(rank, failure=event.reason, at=event.at)})


def stepped(run: RunState, event: StepsTaken) -> RunState:
    """A summary of one rank's steps."""
    run, index = _at_case(touched(run, event), event)
    if not run.is_over:
        run = replace(run, state="running", phase="", fraction=None)
    if run.stepping_at is None:
        run = replace(run, stepping_at=event.at)
    if index < run.case:
        return run
    rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
    seconds = event.steps * event.step_seconds
    rate = event.samples / seconds if seconds > 0 else None
    rank = replace(rank, is_joined=True, samples_per_second=rate, step=event.step, at=event.at)
    agreed = run.cases[index].local_batch_sizes
    size = agreed[event.rank] if 0 <= event.rank < len(agreed) else event.local_batch_size
    if rank.compute_seconds is None or event.samples >= MOSTLY * size * event.steps:
        # The last batch of an epoch is smaller: shown beside full ones, its step times would look like a change.
        rank = replace(
            rank,
            local_batch_size=size,
            compute_seconds=event.compute_seconds,
            data_seconds=event.data_seconds + event.copy_seconds,
            host_seconds=event.host_seconds,
            wait_seconds=event.wait_seconds,
            step_seconds=event.step_seconds,
        )
    run = replace(run, ranks={**run.ranks, event.rank: rank})
    return run if event.rank != 0 else _with_case(run, index, _measured(run, run.cases[index], event))


def _measured(run: RunState, case: CaseState, event: StepsTaken) -> CaseState:
    """What rank 0's summary says of all ranks, since they step together: throughput, loss, the effect of the last decision."""
    case = replace(case, state="running", step=event.step)
    rates = [
        rank.samples_per_second for rank in run.ranks.values() if rank.samples_per_second is not None and rank.step is not None
    ]
    if rates and len(rates) == len(run.ranks):
        case = replace(case, throughput=curve(case.throughput, (event.at, sum(rates))))
    if event.loss is not None:
        case = replace(case, losses=curve(case.losses, (event.at, event.loss)))
    last = case.decisions[-1] if case.decisions else None
    if last and event.steps > 0 and event.step - event.steps + 1 >= last.step and last.measured_steps < MEASURED_STEPS:
        steps = last.measured_steps + event.steps
        total = (last.measured or 0.0) * last.measured_steps + event.step_seconds * event.steps
        case = replace(case, decisions=(*case.decisions[:-1], replace(last, measured=total / steps, measured_steps=steps)))
    return case


def advanced(run: RunState, event: RankEvent) -> RunState:
    """What a rank says besides its steps; lines of rank 0 speak for the case."""
    run, index = _at_case(touched(run, event), event)
    case = run.cases[index]
    match event:
        case RankJoined():
            rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
            return replace(run, ranks={**run.ranks, event.rank: replace(rank, is_joined=True, at=event.at)})
        case StandaloneMeasured():
            others = (found for found in case.standalone if found[0] != event.rank)
            rates = tuple(sorted((*others, (event.rank, event.local_batch_size, event.samples_per_second))))
            return _with_case(run, index, replace(case, standalone=rates))
        case CaseStarted():
            sizes = event.local_batch_sizes
            case = replace(case, policy=event.policy or case.name, state="running", started_at=event.at, local_batch_sizes=sizes)
            return _with_case(run, index, case)
        case SharesChanged():
            decision = Decision(
                event.at,
                case.name,
                event.step,
                event.before,
                event.after,
                event.reason,
                event.predicted_before,
                event.predicted_after,
            )
            decisions = recent(case.decisions, decision, EVENTS)
            case = replace(case, decisions=decisions, changes=case.changes + 1, local_batch_sizes=event.after)
            return _with_case(run, index, case)
        case EpochEnded():
            point = EpochPoint(
                event.at,
                event.epoch,
                case.step,
                event.samples,
                event.seconds,
                event.training_loss,
                event.loss,
                event.metric,
                event.metric_name,
            )
            case = replace(case, epochs=curve(case.epochs, point), epoch=event.epoch + 1)
            if event.local_batch_sizes:
                case = replace(case, local_batch_sizes=event.local_batch_sizes)
            return _with_case(run, index, case)
        case CaseEnded():
            sizes = event.local_batch_sizes or case.local_batch_sizes
            # A bench measures each device alone before it goes on to the next case.
            state = "measuring" if run.is_bench and index == run.case and not run.is_over else "done"
            stragglers = tuple(replace(one, is_open=False) for one in case.stragglers)
            done = replace(
                case, state=state, ended_at=event.at, changes=event.changes, local_batch_sizes=sizes, stragglers=stragglers
            )
            return _with_case(run, index, done)
        case _:
            return run


def straggler_found(run: RunState, straggler: Straggler, event: StragglerFound) -> RunState:
    """Somebody became slow."""
    run, index = _at_case(touched(run, event), event)
    case = run.cases[index]
    return _with_case(run, index, replace(case, stragglers=recent(case.stragglers, straggler, EVENTS)))


def straggler_ended(run: RunState, event: StragglerEnded) -> RunState:
    """Somebody is itself again."""
    run, index = _at_case(touched(run, event), event)
    case = run.cases[index]
    stragglers = tuple(
        replace(one, ended=event, is_open=False) if one.is_open and one.found.straggler == event.straggler else one
        for one in case.stragglers
    )
    return _with_case(run, index, replace(case, stragglers=stragglers))


def _at_case(run: RunState, event: RankEvent) -> tuple[RunState, int]:
    """The index of the event's case. A later case than the one in hand becomes it; lines that come late change nothing there."""
    names = [case.name for case in run.cases]
    if event.case in names:
        index = names.index(event.case)
    elif names and not event.case:
        return run, run.case
    else:
        index = len(names)
        run = replace(run, cases=(*run.cases, CaseState(event.case, event.case)))
    if index <= run.case:
        return run, index
    # The numbers of the last case say nothing of the new one: they would be drawn as its throughput.
    ranks = {number: replace(rank, **_UNKNOWN) for number, rank in run.ranks.items()}
    return replace(run, case=index, ranks=ranks, cases=_measured_all(run.cases)), index


def _measured_all(cases: tuple[CaseState, ...]) -> tuple[CaseState, ...]:
    return tuple(replace(case, state="done") if case.state == "measuring" else case for case in cases)


def _with_case(run: RunState, index: int, case: CaseState) -> RunState:
    return replace(run, cases=(*run.cases[:index], case, *run.cases[index + 1 :]))
