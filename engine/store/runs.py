"""The reducer's part for one run: cases, ranks and decisions. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..events import (
    BalanceJudged,
    BaselineMeasured,
    CaseEnded,
    CaseStarted,
    CheckpointWritten,
    EpochEnded,
    Event,
    LaunchStarted,
    MetricLogged,
    ProfilingAdvanced,
    Progress,
    RankEvent,
    RankFailed,
    RankJoined,
    RunEnded,
    RunListed,
    RunnerStarted,
    RunPlanned,
    RunQueued,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    Warned,
)
from ..states import ENDED_STATUSES, RUN_STATUSES, CaseStatus, EndedStatus, is_legal, member, next_status
from .history import MAX_ENTRIES, append_recent, append_to_curve
from .state import CaseState, EpochPoint, RankState, RunState, RunSummary, ShareDecision, Straggler

DECISION_EFFECT_STEPS = 10
"""Steps after a decision over which its effect is measured."""
_UNKNOWN_STEP_FIELDS: dict[str, Any] = dict.fromkeys(
    ("step", "samples_per_second", "compute_seconds", "input_seconds", "host_seconds", "wait_seconds", "step_seconds")
)
"""Fields of a rank that are unknown at the start of a case."""
MAX_METRICS = 16
"""Metrics of a script that are kept; later names are dropped."""
FULL_STEP_RATIO = 0.9
"""Fraction of the agreed samples from which a summary counts as one of full-size steps."""


def apply_launch(run: RunState, event: Event) -> RunState:
    """Apply the progress of a launch, or the plan of a run that was launched here or discovered."""
    match event:
        case Progress():
            run = replace(mark_reachable(run, event), phase=event.phase, fraction=event.fraction, detail=event.detail)
            return replace(run, seconds_left=event.seconds_left, phase_at=event.at)
        case Warned():
            run = replace(mark_reachable(run, event), phase=event.reason, fraction=None, detail="")
            return replace(run, seconds_left=None, phase_at=event.at)
        case RunPlanned():
            known = {case.name: case for case in run.cases}
            policies = dict(zip(event.cases, event.policies or event.cases, strict=False))
            predicted = dict(zip(event.cases, event.predicted, strict=False))
            ranks = {
                summary.rank: replace(
                    run.ranks.get(summary.rank) or RankState(summary.rank),
                    node=summary.node,
                    device_index=summary.device_index,
                    device_name=summary.device_name,
                    device_kind=summary.device_kind,
                )
                for summary in event.ranks
            }
            return replace(
                mark_reachable(run, event),
                workload=event.workload,
                name=event.name or run.name,
                summary=replace(run.summary, policies=run.summary.policies or tuple(dict.fromkeys(event.policies))),
                source=event.source,
                cases=tuple(
                    replace(
                        known.get(name) or CaseState(name, policies.get(name, name)),
                        predicted_samples_per_second=predicted.get(name),
                    )
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


def apply_listing(run: RunState, event: RunListed) -> RunState:
    """A run that another control process started. A run that is followed here has better data and stays."""
    has_result = event.samples_per_second is not None or event.metric is not None or event.loss is not None
    figures = event if has_result or run.document is None else run.summary
    summary = RunSummary(
        policies=event.policies or run.summary.policies,
        seconds=event.seconds if event.seconds is not None else run.summary.seconds,
        samples_per_second=figures.samples_per_second,
        loss=figures.loss,
        metric=figures.metric,
        metric_name=figures.metric_name,
    )
    run = replace(run, name=event.name or run.name, summary=summary)
    if run.ranks:
        return run
    status = member(event.state, RUN_STATUSES) or run.state  # an observation, not a transition
    started = event.started if event.started is not None else run.node_started_at
    found = replace(run, state=status, reason=event.reason, workload=event.workload)
    return replace(found, listed_nodes=event.nodes, node_started_at=started, is_discovered=True)


def apply_reachability(run: RunState, event: Event) -> RunState:
    """Nodes of the run became unreachable, or an event of its runners arrived."""
    if isinstance(event, RunUnreachable):
        return replace(run, state=next_status(run.state, "unreachable"), unreachable_nodes=event.nodes)
    if isinstance(event, RunQueued):
        text = f"{event.state}: {event.reason}" if event.reason else event.state
        state = next_status(run.state, "waiting" if event.state == "waiting" else "queued")
        run = replace(run, state=state, reason=event.reason, phase=text, fraction=None, detail="", seconds_left=None)
        return replace(run, phase_at=event.at, unreachable_nodes=())
    if isinstance(event, RunnerStarted):
        first = run.runners_started_at
        run = replace(run, runners_started_at=event.at if first is None else min(event.at, first))
    if isinstance(event, LaunchStarted):
        run = replace(run, phase="waiting for the group to form", fraction=None, detail="", seconds_left=None)
    return mark_reachable(run, event)


def apply_profiling(run: RunState, event: ProfilingAdvanced) -> RunState:
    """Profiling has reached its next part."""
    phase = f"profiling: {event.phase}" if event.phase else ""
    detail = f"part {event.part} of {event.parts}" if event.phase and event.parts else ""
    run = replace(mark_reachable(run, event), phase=phase, fraction=event.fraction, detail=detail)
    return replace(run, seconds_left=event.seconds_left, phase_at=event.at)


def mark_reachable(run: RunState, event: Event) -> RunState:
    """An event of the run arrived, so it is reachable."""
    state, reason = run.state, run.reason
    has_left_queue = state in ("queued", "waiting") and event.node_time is not None  # a machine of its own wrote it
    if state == "unreachable" or has_left_queue:
        state = next_status(state, "running" if run.first_step_at is not None else "starting")
    if has_left_queue:
        reason = ""
    return replace(run, state=state, reason=reason, unreachable_nodes=(), last_event_at=max(run.last_event_at, event.at))


def apply_end(run: RunState, event: RunEnded) -> RunState:
    """All processes of the run have ended."""
    status: EndedStatus = member(event.state, ENDED_STATUSES) or "failed"  # a newer version may have words of its own
    is_only_listed = run.is_over and run.ended_at is None
    if not is_only_listed and not is_legal(run.state, status):
        return run
    at = run.runners_ended_at if run.runners_ended_at is not None else max(run.last_event_at, event.at)
    cases = _finish_measuring(run.cases)
    return replace(
        run, state=status, reason=event.reason, ended_at=at, last_event_at=at, unreachable_nodes=(), phase="", cases=cases
    )


def apply_rank_failure(run: RunState, event: RankFailed) -> RunState:
    """A rank failed."""
    run = mark_reachable(run, event)
    rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
    return replace(run, ranks={**run.ranks, event.rank: replace(rank, failure=event.reason, at=event.at)})


def apply_steps(run: RunState, event: StepsTaken) -> RunState:
    """Apply a summary of one rank's steps."""
    run, index = _enter_case(mark_reachable(run, event), event)
    if not run.is_over:
        run = replace(run, state=next_status(run.state, "running"), phase="", fraction=None)
    if run.first_step_at is None:
        run = replace(run, first_step_at=event.at)
    if index < run.case:
        return run
    rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
    seconds = event.steps * event.step_seconds
    rate = event.samples / seconds if seconds > 0 else None
    rank = replace(rank, is_joined=True, samples_per_second=rate, step=event.step, at=event.at)
    agreed = run.cases[index].local_batch_sizes
    size = agreed[event.rank] if 0 <= event.rank < len(agreed) else event.local_batch_size
    if rank.compute_seconds is None or event.samples >= FULL_STEP_RATIO * size * event.steps:
        # The last batch of an epoch is smaller. Beside full ones, its step times would look like a change.
        rank = replace(
            rank,
            local_batch_size=size,
            compute_seconds=event.compute_seconds,
            input_seconds=event.data_seconds + event.copy_seconds,
            host_seconds=event.host_seconds,
            wait_seconds=event.wait_seconds,
            step_seconds=event.step_seconds,
        )
    run = replace(run, ranks={**run.ranks, event.rank: rank})
    return run if event.rank != 0 else _with_case(run, index, _update_case(run, run.cases[index], event))


def _update_case(run: RunState, case: CaseState, event: StepsTaken) -> CaseState:
    """Apply what rank 0's summary implies for all ranks, which step together: throughput, loss, effect of the last decision."""
    case = replace(case, state="running", step=event.step)
    rates = [
        rank.samples_per_second for rank in run.ranks.values() if rank.samples_per_second is not None and rank.step is not None
    ]
    if rates and len(rates) == len(run.ranks):
        case = replace(case, throughput=append_to_curve(case.throughput, (event.at, sum(rates))))
    if event.loss is not None:
        case = replace(case, losses=append_to_curve(case.losses, (event.at, event.loss)))
    last = case.decisions[-1] if case.decisions else None
    if last and event.steps > 0 and event.step - event.steps + 1 >= last.step and last.measured_steps < DECISION_EFFECT_STEPS:
        steps = last.measured_steps + event.steps
        total = (last.measured or 0.0) * last.measured_steps + event.step_seconds * event.steps
        case = replace(case, decisions=(*case.decisions[:-1], replace(last, measured=total / steps, measured_steps=steps)))
    return case


def apply_rank_event(run: RunState, event: RankEvent) -> RunState:
    """Apply an event of a rank other than its steps. Events of rank 0 hold for the case."""
    run, index = _enter_case(mark_reachable(run, event), event)
    case = run.cases[index]
    match event:
        case RankJoined():
            rank = run.ranks.get(event.rank) or RankState(event.rank, event.node)
            return replace(run, ranks={**run.ranks, event.rank: replace(rank, is_joined=True, at=event.at)})
        case StandaloneMeasured():
            others = (rate for rate in case.standalone if rate[0] != event.rank)
            rates = tuple(sorted((*others, (event.rank, event.local_batch_size, event.samples_per_second))))
            return _with_case(run, index, replace(case, standalone=rates))
        case BaselineMeasured():
            return replace(run, baseline=event.samples_per_second)
        case CaseStarted():
            sizes = event.local_batch_sizes
            case = replace(case, policy=event.policy or case.name, state="running", started_at=event.at, local_batch_sizes=sizes)
            run = replace(run, global_batch_size=run.global_batch_size or sum(sizes))  # a script's own is known from here on
            return _with_case(run, index, case)
        case BalanceJudged():
            return replace(run, balance=event)
        case CheckpointWritten() if not event.error:
            return replace(run, checkpoint=max(run.checkpoint or (0, 0), (event.epoch, event.step)))
        case MetricLogged() if event.name in run.metrics or len(run.metrics) < MAX_METRICS:
            points = append_to_curve(run.metrics.get(event.name, ()), (event.epoch, event.value))
            return replace(run, metrics={**run.metrics, event.name: points})
        case SharesChanged():
            decision = ShareDecision(
                event.at,
                case.name,
                event.step,
                event.before,
                event.after,
                event.reason,
                event.predicted_before,
                event.predicted_after,
            )
            decisions = append_recent(case.decisions, decision, MAX_ENTRIES)
            case = replace(case, decisions=decisions, share_changes=case.share_changes + 1, local_batch_sizes=event.after)
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
            case = replace(case, epochs=append_to_curve(case.epochs, point), epoch=event.epoch + 1)
            if event.local_batch_sizes:
                case = replace(case, local_batch_sizes=event.local_batch_sizes)
            return _with_case(run, index, case)
        case CaseEnded():
            sizes = event.local_batch_sizes or case.local_batch_sizes
            # A bench measures each device alone before the next case.
            state: CaseStatus = "measuring" if run.is_bench and index == run.case and not run.is_over else "done"
            stragglers = tuple(replace(one, is_open=False) for one in case.stragglers)
            done = replace(
                case, state=state, ended_at=event.at, share_changes=event.changes, local_batch_sizes=sizes, stragglers=stragglers
            )
            return _with_case(run, index, done)
        case _:
            return run


def add_straggler(run: RunState, straggler: Straggler, event: StragglerFound) -> RunState:
    """Add a straggler to its case."""
    run, index = _enter_case(mark_reachable(run, event), event)
    case = run.cases[index]
    return _with_case(run, index, replace(case, stragglers=append_recent(case.stragglers, straggler, MAX_ENTRIES)))


def end_straggler(run: RunState, event: StragglerEnded) -> RunState:
    """End the open straggler of a rank that has recovered."""
    run, index = _enter_case(mark_reachable(run, event), event)
    case = run.cases[index]
    stragglers = tuple(
        replace(one, ended=event, is_open=False) if one.is_open and one.found.straggler == event.straggler else one
        for one in case.stragglers
    )
    return _with_case(run, index, replace(case, stragglers=stragglers))


def _enter_case(run: RunState, event: RankEvent) -> tuple[RunState, int]:
    """The run and the index of the event's case. A later case becomes the current one; late events of an earlier one do not."""
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
    # The figures of the last case would be drawn as throughput of the new one.
    ranks = {number: replace(rank, **_UNKNOWN_STEP_FIELDS) for number, rank in run.ranks.items()}
    return replace(run, case=index, ranks=ranks, cases=_finish_measuring(run.cases)), index


def _finish_measuring(cases: tuple[CaseState, ...]) -> tuple[CaseState, ...]:
    return tuple(replace(case, state="done") if case.state == "measuring" else case for case in cases)


def _with_case(run: RunState, index: int, case: CaseState) -> RunState:
    return replace(run, cases=(*run.cases[:index], case, *run.cases[index + 1 :]))
