"""One event changes what is true: ``reduce(state, event)``, pure, and without an error for any order of events.

Time comes inside the events. A call copies the values on the path it changes and never a whole history of histories.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from ..events import (
    CaseEnded,
    CaseStarted,
    DeviceReading,
    DriftFound,
    EpochEnded,
    Event,
    InventoryRead,
    JobWaited,
    LaunchStarted,
    NodeConnected,
    NodeConnecting,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeWarned,
    PeerLost,
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
    RunUnreachable,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    Ticked,
    Warned,
)
from . import profiles, runs, straggler_alerts
from .alerts import clear, clear_all, clear_prefix, device_alerts, raise_alert, silence
from .history import CLOCKS, EVENTS, KEPT, recent
from .state import STALE_AFTER, DeviceState, NodeState, RunState, State, WaitingJob


def reduce(state: State, event: Event) -> State:
    """The state after the event."""
    state = replace(state, at=max(state.at, event.at), events=state.events + 1)
    match event:
        case InventoryRead():
            return _inventory(state, event)
        case Ticked():
            return _ticked(replace(state, clock=event.clock, clock_at=state.at), state.at - state.clock_at)
        case NodeConnecting():
            node = _node(state, event)
            return _with(state, replace(node, state="lost" if node.state == "lost" else "connecting", attempt=event.attempt))
        case NodeConnected():
            node = replace(_node(state, event), state="ok", reason="", hint="", at=state.at)
            node = replace(node, hostname=event.hostname, system=event.system, python=event.python)
            state = _with(state, replace(node, address=event.address, interface=event.interface))
            return clear_prefix(clear(state, f"node {event.node}"), f"warned {event.node} ")
        case NodeDenied():
            state = _with(state, replace(_node(state, event), state="refused", reason=event.reason, hint=event.hint))
            return raise_alert(
                state, f"node {event.node}", "critical", f"refused: {event.reason}", hint=event.hint, node=event.node
            )
        case NodeLost():
            state = _with(state, replace(_node(state, event), state="lost", reason=event.reason))
            hint = "runs on it go on; it is tried again by itself"
            return raise_alert(state, f"node {event.node}", "critical", f"lost: {event.reason}", hint=hint, node=event.node)
        case NodeWarned():
            key = f"warned {event.node} {event.reason}"
            return raise_alert(state, key, "warning", event.reason, hint=event.hint, node=event.node)
        case NodeReported():
            return _reported(state, event)
        case ReadingsRecorded():
            node = _node(state, event)
            return _with(state, replace(node, kept=recent(node.kept, event, KEPT)))
        case Progress(run_id=""):
            state = replace(state, phase=event.phase, fraction=event.fraction, detail=event.detail)
            return replace(state, seconds_left=event.seconds_left)
        case Warned(run_id=""):
            return replace(state, phase=event.reason, fraction=None, detail="", seconds_left=None)
        case Progress() | Warned() | RunPlanned():
            state = _with_run(state, runs.started(_run(state, event), event))
            return replace(state, run_id=event.run_id, phase="", fraction=None, seconds_left=None, detail="")
        case JobWaited():
            return replace(state, waiting=_waiting(state, event))
        case RunListed():
            return _with_run(state, runs.listed(_run(state, event), event))
        case RunUnreachable() | RunnerStarted() | LaunchStarted():
            return _with_run(state, runs.reached(_run(state, event), event))
        case RunEnded():
            state = clear_all(_with_run(state, runs.ended(_run(state, event), event)), event.run_id)
            if event.state == "failed":
                hint = f"the log of {event.failed_node}" if event.failed_node else ""
                text = f"run failed: {event.reason}"
                return raise_alert(state, f"run {event.run_id}", "critical", text, hint, event.failed_node, event.run_id)
            return state
        case ResultDerived():
            return _with_run(state, replace(_run(state, event), document=event.document))
        case ProfileStored():
            return profiles.profile_stored(state, event)
        case DriftFound():
            return profiles.profile_drifted(state, event)
        case ProfilingAdvanced():
            return _with_run(state, runs.profiled(_run(state, event), event))
        case PeerLost():
            key = f"peer {event.peer} {event.run_id}"
            return raise_alert(state, key, "critical", f"runner gone: {event.reason}", node=event.peer, run_id=event.run_id)
        case RunnerEnded():
            if event.survivors:
                text = f"processes that could not be stopped: {', '.join(map(str, event.survivors))}"
                return raise_alert(
                    state, f"survivors {event.node}", "critical", text, "kill them by hand", event.node, event.run_id
                )
            return _with_run(state, runs.touched(_run(state, event), event))
        case RankFailed(is_collateral=False):
            state = _with_run(state, runs.rank_failed(_run(state, event), event))
            key = f"rank {event.rank} {event.run_id}"
            text = f"rank {event.rank} failed: {event.reason}"
            return raise_alert(state, key, "critical", text, "its log says more", event.node, event.run_id, event.rank)
        case StepsTaken():
            return _with_run(state, runs.stepped(_run(state, event), event))
        case StragglerFound():
            run = runs.straggler_found(
                _run(state, event), straggler_alerts.straggler_found(state, _run(state, event), event), event
            )
            return straggler_alerts.told(_with_run(state, run), run)
        case StragglerEnded():
            run = runs.straggler_ended(_run(state, event), event)
            return straggler_alerts.straggler_ended(_with_run(state, run), run, event)
        case SharesChanged():
            run = runs.advanced(_run(state, event), event)
            return straggler_alerts.told(_with_run(state, run), run)
        case CaseEnded():
            return straggler_alerts.run_over(_with_run(state, runs.advanced(_run(state, event), event)), event.run_id)
        case RankJoined() | CaseStarted() | EpochEnded() | StandaloneMeasured():
            return _with_run(state, runs.advanced(_run(state, event), event))
        case RankEvent():
            return _with_run(state, runs.touched(_run(state, event), event))
        case _:
            return replace(state, unknown=state.unknown + 1)


def _waiting(state: State, event: JobWaited) -> WaitingJob | None:
    """Who holds its devices may change meanwhile: it has waited since the first word of it."""
    if not event.devices:
        return None
    since = state.waiting.since if state.waiting is not None else state.at
    in_use = tuple(zip_longest(event.devices, event.users[: len(event.devices)], fillvalue=""))
    return WaitingJob(event.workload, event.is_bench, event.nodes, in_use, since)


def _node(state: State, event: Event) -> NodeState:
    return state.nodes.get(event.node) or NodeState(event.node)


def _with(state: State, node: NodeState) -> State:
    return replace(state, nodes={**state.nodes, node.name: node})


def _run(state: State, event: Event) -> RunState:
    return state.runs.get(event.run_id) or RunState(event.run_id, first_at=state.at)


def _with_run(state: State, run: RunState) -> State:
    if not run.run_id:
        return replace(state, unknown=state.unknown + 1)
    kept = {**state.runs, run.run_id: run}
    if len(kept) > EVENTS:
        del kept[next(iter(kept))]
    return replace(state, runs=kept)


def _inventory(state: State, event: InventoryRead) -> State:
    """Name the machines; what is known of them already stays."""
    nodes = {
        found.name: state.nodes.get(found.name)
        or NodeState(
            found.name,
            found.kind,
            devices=tuple(DeviceState(reading) for reading in found.devices),
            is_read_only=found.is_read_only,
        )
        for found in event.nodes
    }
    return replace(state, path=event.path, lab=event.lab, nodes=nodes)


def _ticked(state: State, passed: float) -> State:
    """Let silence show: a node that says nothing becomes stale, and its histories get gaps.

    ``passed``: seconds since the last tick. Where that is long it was we who slept; what nodes said is yet to be heard.
    """
    changed: dict[str, NodeState] = {}
    for name, node in state.nodes.items():
        is_silent = node.at is not None and state.at - node.at > STALE_AFTER
        if node.state == "ok" and is_silent and passed <= STALE_AFTER:
            node = replace(node, state="stale", reason="no report")
            state = silence(state, node)
        if node.at is not None and node.state != "ok":
            gaps = tuple(replace(device, utilization=recent(device.utilization, None)) for device in node.devices)
            changed[name] = replace(node, devices=gaps)
    return replace(state, nodes={**state.nodes, **changed}) if changed else state


def _reported(state: State, event: NodeReported) -> State:
    node = _node(state, event)
    known = {device.reading.index: device for device in node.devices}
    devices = tuple(_device(known.get(reading.index), reading) for reading in event.devices)
    state = _with(state, replace(node, state="ok", reason="", host=event.host, devices=devices, at=state.at))
    state = device_alerts(state, event)
    if node.state != "ok":
        state = clear(state, f"node {event.node}")
    for run in state.runs.values():
        if not run.is_over and (informed := straggler_alerts.with_readings(state, run, event.node)) is not run:
            state = straggler_alerts.told(_with_run(state, informed), informed)
    return state


def _device(known: DeviceState | None, reading: DeviceReading) -> DeviceState:
    utilization, clocks = (known.utilization, known.clocks) if known is not None else ((), ())
    return DeviceState(reading, recent(utilization, reading.utilization), recent(clocks, reading.clock, CLOCKS))
