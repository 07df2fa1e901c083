"""The reducer: ``reduce(state, event)`` returns the state after one event. Pure, and defined for every order of events.

Time comes with the events. A call copies only the values on the path that it changes.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import PurePath
from traceback import extract_tb

from ..events import (
    BalanceJudged,
    BaselineMeasured,
    Captioned,
    CaseEnded,
    CaseStarted,
    CheckpointWritten,
    DeviceReading,
    DriftFound,
    EpochEnded,
    Event,
    ExperimentAdvanced,
    GroupReformed,
    HostReading,
    InventoryRead,
    JobWaited,
    LaunchStarted,
    MemberRested,
    MembersWaited,
    MetricLogged,
    MonitoringFailed,
    NodeConnected,
    NodeConnecting,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeWarned,
    OutputSeen,
    PeerLost,
    PeerSilent,
    ProfileStored,
    ProfilingAdvanced,
    Progress,
    RankEvent,
    RankFailed,
    RankJoined,
    ReadingsRecorded,
    ResultDerived,
    RunEnded,
    RunListed,
    RunnerEnded,
    RunnerStarted,
    RunPlanned,
    RunQueued,
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    StrangersRefused,
    Ticked,
    Warned,
)
from ..states import NODE_KINDS, member
from . import profiles, runs, straggler_alerts
from .alerts import (
    clear_alert,
    clear_alerts,
    clear_run_alerts,
    clear_run_warnings,
    raise_alert,
    raise_peer_silence,
    raise_silence_alert,
    update_device_alerts,
)
from .history import MAX_CLOCK_SAMPLES, MAX_ENTRIES, MAX_RECORDED_READINGS, append_recent
from .run_summary import summary_of
from .run_time import date_event, with_clock
from .silence import reformed_text
from .software import INSTALL_HINT, missing_packages
from .state import STALE_AFTER, Caption, DeviceState, NodeState, RunState, State, WaitingJob

MAX_EXPERIMENTS = 32
"""Limit of experiments whose board is kept."""


def reduce(state: State, event: Event) -> State:
    """The state after the event. An event that cannot be taken changes nothing and raises an alert: who watches stops nothing."""
    state = replace(state, at=max(state.at, event.at), events=state.events + 1)
    try:
        return _apply(state, event)
    except Exception as error:
        kind, last = type(event).__name__, extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({PurePath(last.filename).name}:{last.lineno})"
        text, hint = f"cannot show {kind}: {reason}", "the run is not touched; report this with a recording"
        return raise_alert(state, ("reduce", kind), "warning", text, hint=hint, node=event.node, run_id=event.run_id)


def _apply(state: State, event: Event) -> State:  # noqa: C901 - one flat match
    state, event = date_event(state, event)
    match event:
        case InventoryRead():
            return _apply_inventory(state, event)
        case Ticked():
            return _tick(replace(state, clock=event.clock, clock_at=state.at), state.at - state.clock_at)
        case Captioned():
            return replace(state, caption=Caption(event.text, event.screen) if event.text else None)
        case NodeConnecting():
            node = _node(state, event)
            return _with_node(state, replace(node, state="lost" if node.state == "lost" else "connecting", attempt=event.attempt))
        case NodeConnected():
            node = replace(_node(state, event), state="ok", reason="", hint="", at=state.at, clock_ahead=None)
            node = replace(node, hostname=event.hostname, system=event.system, python=event.python)
            state = _with_node(state, replace(node, address=event.address, interface=event.interface))
            state = clear_alerts(clear_alert(state, ("node", event.node)), ("warned", event.node))
            if text := missing_packages(event):
                state = raise_alert(state, ("warned", event.node, text), "warning", text, hint=INSTALL_HINT, node=event.node)
            return state
        case NodeDenied():
            state = _with_node(state, replace(_node(state, event), state="refused", reason=event.reason, hint=event.hint))
            return raise_alert(
                state, ("node", event.node), "critical", f"refused: {event.reason}", hint=event.hint, node=event.node
            )
        case NodeLost():
            state = _with_node(state, replace(_node(state, event), state="lost", reason=event.reason, hint=event.hint))
            hint = "; ".join(filter(None, (event.hint, "runs on it go on; it is tried again by itself")))
            return raise_alert(state, ("node", event.node), "critical", f"lost: {event.reason}", hint=hint, node=event.node)
        case NodeWarned():
            key = ("warned", event.node, event.reason)
            return raise_alert(state, key, "warning", event.reason, hint=event.hint, node=event.node)
        case NodeReported():
            return _apply_report(state, event)
        case ReadingsRecorded():
            node = _node(state, event)
            return _with_node(
                state, replace(node, recorded_readings=append_recent(node.recorded_readings, event, MAX_RECORDED_READINGS))
            )
        case Progress(run_id=""):
            state = replace(state, phase=event.phase, fraction=event.fraction, detail=event.detail)
            return replace(state, seconds_left=event.seconds_left)
        case Warned(run_id=""):
            return replace(state, phase=event.reason, fraction=None, detail="", seconds_left=None)
        case Progress() | Warned() | RunPlanned():
            before = _run(state, event)
            state = _with_run(state, runs.apply_launch(before, event))
            if before.is_over and state.run is not None and not state.run.is_over:  # an earlier run is read, another one goes on
                return state
            return replace(state, run_id=event.run_id, phase="", fraction=None, seconds_left=None, detail="")
        case JobWaited():
            return replace(state, waiting=_waiting_job(state, event))
        case RunListed():
            return _with_run(state, runs.apply_listing(_run(state, event), event))
        case RunUnreachable() | RunQueued() | RunnerStarted() | LaunchStarted():
            return _with_run(state, runs.apply_reachability(_run(state, event), event))
        case RunEnded():
            before = _run(state, event)
            run = runs.apply_end(before, event)
            if run is before:  # it has ended already, in another state
                return state
            state = clear_run_warnings(_with_run(state, run), event.run_id)
            if before.is_over:  # an earlier run that is read again: nobody has to act on it
                return clear_run_alerts(state, run)
            if run.state == "failed":
                hint = f"the log of {event.failed_node}" if event.failed_node else ""
                text = f"run failed: {event.reason}"
                return raise_alert(
                    state, ("run", event.run_id), "critical", text, hint=hint, node=event.failed_node, run_id=event.run_id
                )
            return state
        case ResultDerived():
            run = _run(state, event)
            summary = replace(summary_of(event.document), seconds=run.summary.seconds)
            return _with_run(state, replace(run, document=event.document, summary=summary))
        case ProfileStored():
            return profiles.apply_profile(state, event)
        case OutputSeen():  # kept for the log lines of a replay
            return state
        case ExperimentAdvanced():
            return _with_experiment(state, event)
        case DriftFound():
            return profiles.apply_drift(state, event)
        case ProfilingAdvanced():
            return _with_run(state, runs.apply_profiling(_run(state, event), event))
        case PeerLost():
            key = ("peer", event.peer, event.run_id)
            text = f"runner gone: {event.reason}"
            return raise_alert(state, key, "critical", text, node=event.peer, run_id=event.run_id, at=event.at)
        case PeerSilent():
            return raise_peer_silence(state, event)
        case GroupReformed():
            state = _with_run(state, _run(state, event))
            if event.rank != min(event.ranks, default=event.rank):
                return state
            key = ("reformed", event.run_id, str(event.generation))
            if set(event.ranks) >= state.runs[event.run_id].ranks.keys():  # all are back
                state = clear_alerts(state, key[:2])
            state = raise_alert(state, key, "warning", reformed_text(event), run_id=event.run_id, at=event.at)
            return state if event.lost else clear_alert(state, key)
        case MemberRested():
            key = ("rested", event.node, event.run_id)
            if event.is_over:
                return clear_alert(state, key, "it joins again")
            text = f"takes no part in the run: {event.reason}"
            hint = f"paceline grow {event.run_id} --devices {event.node} brings it back"
            return raise_alert(state, key, "warning", text, hint=hint, node=event.node, run_id=event.run_id)
        case MembersWaited():
            key = ("waited", event.node, event.run_id)
            text = f"the run waits: {event.reason}"
            return raise_alert(state, key, "critical", text, hint="cancel it, and resume it", node=event.node, run_id=event.run_id)
        case StrangersRefused():
            key = ("strangers", event.node, event.run_id)
            who = "one stranger" if event.count == 1 else f"{event.count} strangers"
            text = f"{who} at the runner's port refused, the last one from {event.address}: {event.reason}"
            hint = "who may reach the training network: see SECURITY.md"
            return raise_alert(state, key, "warning", text, hint=hint, node=event.node, run_id=event.run_id)
        case RunnerEnded():
            if event.survivors:
                text = f"processes that could not be stopped: {', '.join(map(str, event.survivors))}"
                return raise_alert(
                    state,
                    ("survivors", event.node),
                    "critical",
                    text,
                    hint="kill them by hand",
                    node=event.node,
                    run_id=event.run_id,
                )
            run = runs.mark_reachable(_run(state, event), event)
            return _with_run(state, replace(run, runners_ended_at=max(event.at, run.runners_ended_at or event.at)))
        case RankFailed(is_collateral=False):
            state = _with_run(state, runs.apply_rank_failure(_run(state, event), event))
            key = ("rank", str(event.rank), event.run_id)
            text = f"rank {event.rank} failed: {event.reason}"
            return raise_alert(
                state,
                key,
                "critical",
                text,
                hint="its log says more",
                node=event.node,
                run_id=event.run_id,
                rank=event.rank,
                at=event.at,
            )
        case StepsTaken():
            return _with_run(state, runs.apply_steps(_run(state, event), event))
        case MonitoringFailed():
            text = f"rank {event.rank}: {event.part} failed, the training goes on without it: {event.reason}"
            key = ("watching", event.run_id, f"{event.rank} {event.part}")
            state = _with_run(state, runs.mark_reachable(_run(state, event), event))
            hint = "its log has the trace"
            return raise_alert(state, key, "warning", text, hint=hint, node=event.node, run_id=event.run_id, rank=event.rank)
        case StragglerFound():
            run = runs.add_straggler(_run(state, event), straggler_alerts.new_straggler(state, _run(state, event), event), event)
            return straggler_alerts.update_alerts(_with_run(state, run), run)
        case StragglerEnded():
            run = runs.end_straggler(_run(state, event), event)
            return straggler_alerts.end_alert(_with_run(state, run), run, event)
        case SharesChanged():
            run = runs.apply_rank_event(_run(state, event), event)
            return straggler_alerts.update_alerts(_with_run(state, run), run)
        case CaseEnded():
            return straggler_alerts.clear_straggler_alerts(
                _with_run(state, runs.apply_rank_event(_run(state, event), event)), event.run_id
            )
        case RankJoined() | CaseStarted() | EpochEnded() | StandaloneMeasured() | BaselineMeasured():
            return _with_run(state, runs.apply_rank_event(_run(state, event), event))
        case BalanceJudged() | MetricLogged() | CheckpointWritten():
            return _with_run(state, runs.apply_rank_event(_run(state, event), event))
        case RankEvent():
            return _with_run(state, runs.mark_reachable(_run(state, event), event))
        case _:
            return replace(state, unknown=state.unknown + 1)


def _waiting_job(state: State, event: JobWaited) -> WaitingJob | None:
    """The waiting job, dated at its first event: the devices in use may change while it waits."""
    if not event.devices:
        return None
    since = state.waiting.since if state.waiting is not None else state.at
    in_use = tuple(zip_longest(event.devices, event.users[: len(event.devices)], fillvalue=""))
    return WaitingJob(event.workload, event.is_bench, event.nodes, in_use, since)


def _node(state: State, event: Event) -> NodeState:
    return state.nodes.get(event.node) or NodeState(event.node)


def _with_node(state: State, node: NodeState) -> State:
    return replace(state, nodes={**state.nodes, node.name: node})


def _run(state: State, event: Event) -> RunState:
    return state.runs.get(event.run_id) or RunState(event.run_id, first_event_at=state.at)


def _with_experiment(state: State, event: ExperimentAdvanced) -> State:
    """Keep the board of an experiment; one that goes on becomes the newest."""
    name = str(event.board.get("name") or "")
    if not name:
        return replace(state, unknown=state.unknown + 1)
    boards = {key: board for key, board in state.experiments.items() if key != name}
    boards[name] = event.board
    while len(boards) > MAX_EXPERIMENTS:
        del boards[next(iter(boards))]
    return replace(state, experiments=boards)


def _with_run(state: State, run: RunState) -> State:
    if not run.run_id:
        return replace(state, unknown=state.unknown + 1)
    run_states = {**state.runs, run.run_id: run}
    if len(run_states) > MAX_ENTRIES:
        del run_states[next(iter(run_states))]
    return replace(state, runs=run_states)


def _apply_inventory(state: State, event: InventoryRead) -> State:
    """Set the nodes of the session. Nodes that are known already keep their state."""
    nodes = {
        summary.name: state.nodes.get(summary.name)
        or NodeState(
            summary.name,
            member(summary.kind, NODE_KINDS) or "ssh",
            devices=tuple(DeviceState(reading) for reading in summary.devices),
            is_read_only=summary.is_read_only,
        )
        for summary in event.nodes
    }
    return replace(state, path=event.path, lab=event.lab, nodes=nodes)


def _tick(state: State, passed: float) -> State:
    """Mark silent nodes as stale, and add gaps to the histories of nodes that are not connected.

    ``passed``: seconds since the last tick. After a long pause of the centre itself, reports of the nodes may still be queued.
    """
    changed: dict[str, NodeState] = {}
    for name, node in state.nodes.items():
        is_silent = node.at is not None and state.at - node.at > STALE_AFTER
        if node.state == "ok" and is_silent and passed <= STALE_AFTER:
            node = replace(node, state="stale", reason="no report")
            state = raise_silence_alert(state, node)
        if node.at is not None and node.state != "ok":
            gaps = tuple(replace(device, utilization=append_recent(device.utilization, None)) for device in node.devices)
            changed[name] = replace(node, devices=gaps)
    return replace(state, nodes={**state.nodes, **changed}) if changed else state


def _apply_report(state: State, event: NodeReported) -> State:
    node = _node(state, event)
    known = {device.reading.index: device for device in node.devices}
    devices = tuple(_device(known.get(reading.index), reading) for reading in event.devices)
    node = with_clock(state, node, event)
    host = _with_seldom_readings(node.host, event.host)
    state = _with_node(state, replace(node, state="ok", reason="", host=host, devices=devices, at=state.at))
    state = update_device_alerts(state, event)
    if node.state != "ok":
        state = clear_alert(state, ("node", event.node))
    for run in state.runs.values():
        if not run.is_over and (informed := straggler_alerts.with_new_evidence(state, run, event.node)) is not run:
            state = straggler_alerts.update_alerts(_with_run(state, informed), informed)
    return state


def _with_seldom_readings(before: HostReading, now: HostReading) -> HostReading:
    """A reading with the cores and processes of the one before where it has none: they are read seldom."""
    core_use = before.core_use if now.core_use is None else now.core_use
    processes = before.processes if now.processes is None else now.processes
    return now if core_use is now.core_use and processes is now.processes else replace(now, core_use=core_use, processes=processes)


def _device(known: DeviceState | None, reading: DeviceReading) -> DeviceState:
    utilization, clocks = (known.utilization, known.clocks) if known is not None else ((), ())
    return DeviceState(
        reading, append_recent(utilization, reading.utilization), append_recent(clocks, reading.clock, MAX_CLOCK_SAMPLES)
    )
