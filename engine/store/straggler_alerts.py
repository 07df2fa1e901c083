"""Alerts of stragglers: rank, slowdown, since which step, cause, and what the balancer did about it. Pure.

The timers of a rank show which part of the step grew. Why the device itself is slow is visible only in its readings: throttle
reasons, a clock below that of the last minute, other processes on the device. Readings are joined to the straggler as they arrive.
"""

from __future__ import annotations

from dataclasses import replace

from ..events import DeviceReading, HostReading, ReadingsRecorded, StragglerEnded, StragglerFound
from .alerts import clear_alert, clear_alerts, raise_alert
from .history import MAX_CLOCK_SAMPLES
from .state import AlertKey, CaseState, DeviceState, Evidence, NodeState, RunState, State, Straggler

CLOCK_DROP_RATIO = 0.95
"""A clock below this fraction of the highest one of the last minute counts as reduced."""
LIVE_READINGS_WINDOW = 30.0
"""Seconds after a straggler was found in which the live readings describe it."""
BASELINE_WINDOW = 600.0
"""Seconds before it whose recorded readings give the usual clock."""
LATE_READING_WINDOW = 10.0
"""Seconds after it in which the next recorded reading arrives."""
BUSY_CPU_FRACTION = 0.9
"""Utilization of a node's CPU from which it counts as saturated."""


def new_straggler(state: State, run: RunState, event: StragglerFound) -> Straggler:
    """The straggler of an event, with the evidence of the readings so far."""
    return replace(Straggler(event, event.at), evidence=_evidence(state, run, event))


def update_alerts(state: State, run: RunState) -> State:
    """Raise or update the alerts of a run's open stragglers."""
    case = None if run.is_over else run.current
    for straggler in case.stragglers if case is not None else ():
        if straggler.is_open and case is not None:
            rank = straggler.found.straggler
            state = raise_alert(
                state,
                alert_key(run, straggler.found),
                "warning",
                describe(run, straggler),
                hint=_advice(case, straggler),
                node=_location(run, rank)[0],
                run_id=run.run_id,
                rank=rank,
                action_taken=_action_taken(case, straggler),
                at=straggler.at,
            )
    return state


def with_new_evidence(state: State, run: RunState, node: str) -> RunState:
    """A run whose open stragglers on a node have the evidence of its newest readings, or else keep their last evidence."""
    case = run.current
    if run.is_over or case is None or not any(straggler.is_open for straggler in case.stragglers):
        return run
    stragglers = tuple(
        replace(straggler, evidence=_evidence(state, run, straggler.found) or straggler.evidence)
        if straggler.is_open and _location(run, straggler.found.straggler)[0] == node
        else straggler
        for straggler in case.stragglers
    )
    return replace(run, cases=(*run.cases[: run.case], replace(case, stragglers=stragglers), *run.cases[run.case + 1 :]))


def end_alert(state: State, run: RunState, event: StragglerEnded) -> State:
    """End the alert of a straggler that has recovered, with the time that changed shares saved."""
    gain = "" if event.gain is None else f"changed shares brought back {event.gain * 100:.0f} % of the lost time"
    return clear_alert(state, alert_key(run, event), gain)


def clear_straggler_alerts(state: State, run_id: str) -> State:
    """End the alerts of a case that is over. A rank that is still slow in the next case is found again."""
    return clear_alerts(state, ("straggler", run_id))


def alert_key(run: RunState, event: StragglerFound | StragglerEnded) -> AlertKey:
    """The key of the alert for one rank, or for the network, of a run."""
    shared = "network" if event.cause == "network" else "all ranks"
    return "straggler", run.run_id, shared if event.straggler is None else str(event.straggler)


def describe(run: RunState, straggler: Straggler) -> str:
    """One line for the list of alerts and the narration, without the node, which is shown beside it."""
    event = straggler.found
    who = "all ranks" if event.straggler is None else f"rank {event.straggler}"
    cause = straggler.evidence.text if straggler.evidence is not None else _step_part_text(event)
    details = filter(None, ("costs more than it brings" if event.is_costly else "", _location(run, event.straggler)[1]))
    return f"{who} {event.slowdown:.2f}x slower: {cause}; " + ", ".join((f"since step {event.since}", *details))


def _location(run: RunState, rank: int | None) -> tuple[str, str]:
    """Node and device name of a rank; empty for the network."""
    state = run.ranks.get(rank) if rank is not None else None
    return (state.node, state.device_name) if state is not None else ("", "")


def _step_part_text(event: StragglerFound) -> str:
    """The part of the step that grew, by the rank's own timers."""
    name = {"network": "network: communication", "host": "host CPU stalls"}.get(event.cause, event.cause)
    return f"{name} {event.part_expected_seconds * 1000:.0f} -> {event.part_seconds * 1000:.0f} ms a step"


def _evidence(state: State, run: RunState, event: StragglerFound) -> Evidence | None:
    """The cause that readings of the rank's device and node show; None: they show none."""
    rank = run.ranks.get(event.straggler) if event.straggler is not None else None
    node = state.nodes.get(rank.node) if rank is not None else None
    if rank is None or node is None:
        return None
    host, devices = _relevant_readings(node, event)
    if event.cause == "host" and host.cpu is not None and host.cpu >= BUSY_CPU_FRACTION:
        return Evidence("busy host", f"{_step_part_text(event)}, processor {host.cpu * 100:.0f} % busy")
    device = next((device for device in devices if device.reading.index == rank.device_index), None)
    return _device_evidence(device, run.run_id) if event.cause == "compute" and device is not None else None


def _relevant_readings(node: NodeState, event: StragglerFound) -> tuple[HostReading, tuple[DeviceState, ...]]:
    """The readings at the event's time: the live ones, or those that a runner recorded while no centre was connected.

    Times are compared on one machine only. Recorded readings of other nodes are used where there are no live ones.
    """
    recorded = node.recorded_readings
    if event.node == node.name and event.node_time is not None:
        then = event.node_time
        if recorded and (recorded[-1].node_time or 0.0) - then <= LIVE_READINGS_WINDOW and node.state == "ok":
            return node.host, node.devices
        recorded = tuple(
            reading
            for reading in recorded
            if reading.node_time is not None and then - BASELINE_WINDOW <= reading.node_time <= then + LATE_READING_WINDOW
        )
    elif node.state == "ok":
        return node.host, node.devices
    if not recorded:
        return (node.host, node.devices) if node.state == "ok" else (HostReading(), ())
    newest = recorded[-1]
    clocks = {
        device.index: tuple(_clock(reading, device.index) for reading in recorded[-MAX_CLOCK_SAMPLES:]) for device in newest.devices
    }
    return newest.host, tuple(DeviceState(device, clocks=clocks[device.index]) for device in newest.devices)


def _clock(recorded: ReadingsRecorded, index: int) -> float | None:
    return next((device.clock for device in recorded.devices if device.index == index), None)


def _device_evidence(device: DeviceState, run_id: str) -> Evidence | None:
    """The cause that the readings of one device show: other processes first, then a reduced clock."""
    reading = device.reading
    usual = max((clock for clock in device.clocks if clock is not None), default=0.0)
    reasons, details = ", ".join(reading.throttle), ""
    is_clock_reduced = reading.clock is not None and reading.clock < CLOCK_DROP_RATIO * usual
    if is_clock_reduced:
        details = f"clock {usual:,.0f} -> {reading.clock:,.0f} MHz"
    if reading.temperature is not None and (reasons or details):
        details += f"{', ' if details else ''}{reading.temperature:.0f} °C"
    others = _other_processes(reading, run_id)
    text = "; ".join(filter(None, (": ".join(filter(None, (reasons, details))), others)))
    if others:
        return Evidence("shared device", text)
    if is_clock_reduced or any(reason.startswith("thermal") for reason in reading.throttle):
        return Evidence("reduced clock", text)
    return Evidence("throttled", text) if text else None


def _other_processes(reading: DeviceReading, run_id: str) -> str:
    """The processes on the device that do not belong to this run, as one phrase; empty: none."""
    others = [process for process in reading.processes or () if process.run_id != run_id and (process.name or process.user)]
    if not others:
        return ""
    names = ", ".join(
        f"{process.name or 'process'} {process.pid}" + (f" of {process.user}" if process.user else "") for process in others[:2]
    )
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return f"also used by {names}{more}"


def _action_taken(case: CaseState, straggler: Straggler) -> str:
    """What the balancer did about a straggler, with the predicted and the measured step time; empty: nothing."""
    event = straggler.found
    decisions = [decision for decision in case.decisions if decision.step > event.since]
    if decisions:
        first, last = decisions[0], decisions[-1]
        measured = f", measured {last.measured * 1000:.0f}" if last.measured is not None else ""
        effect = ""
        if first.predicted_before is not None and last.predicted_after is not None:
            effect = f": {last.predicted_after * 1000:.0f} instead of {first.predicted_before * 1000:.0f} ms a step{measured}"
        return f"shares {_sizes(first.before)} -> {_sizes(last.after)}{effect}"
    return ""


def _advice(case: CaseState, straggler: Straggler) -> str:
    """What a person can do against the cause, or about the policy where the cause is unknown."""
    event = straggler.found
    evidence = straggler.evidence.kind if straggler.evidence is not None else None
    if event.is_costly:
        return "the other ranks are faster without this one: restart without it"
    if event.straggler is None and event.cause != "network":
        return "all devices slowed down together: look for what they share, such as power, cooling, a host or a disk"
    if evidence == "shared device":
        return "find the owner of that process, or use another device"
    if evidence == "reduced clock":
        return "check its cooling and power limit"
    if event.straggler is not None and case.policy in ("equal", "proportional"):
        return f"{case.policy} keeps the shares; hybrid would move work to the others"
    return {
        "data": "its input is slow: check the disk that holds the data",
        "host-to-device": "copies to the device are slow: check its bus and other copies on it",
        "host": "its processor is busy: check for other processes on the node",
        "network": "check the slowest link between the nodes",
    }.get(event.cause, "")


def _sizes(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes)) if len(sizes) <= 8 else f"{min(sizes)}..{max(sizes)} on {len(sizes)} ranks"
