"""What is said of a straggler: who, how much slower, since when, why, and what was done about it. Pure.

A rank's stamps name the part of the step that grew; why the device itself is slow only its readings can tell: reasons for which it
clocks down, its clock against that of the last minute, other processes on that very device. Readings are joined as they arrive.
"""

from __future__ import annotations

from dataclasses import replace

from ..events import DeviceReading, HostReading, ReadingsRecorded, StragglerEnded, StragglerFound
from .alerts import clear, clear_prefix, raise_alert
from .history import CLOCKS
from .state import CaseState, DeviceState, NodeState, RunState, State, Straggler

CLOCKED_DOWN = 0.95
"""A clock below this share of the highest of the last minute is worth telling."""
LONG_AGO, USUAL, NEXT = 30.0, 600.0, 10.0
"""Seconds after which a straggler is news no more; before it, in which clocks were usual; and to the next kept reading after it."""
BUSY = 0.9
"""Utilization of a machine's processor from which it has nothing left to give."""


def straggler_found(state: State, run: RunState, event: StragglerFound) -> Straggler:
    """The straggler of an event, with what the readings say already."""
    return replace(Straggler(event, state.at), evidence=_evidence(state, run, event))


def told(state: State, run: RunState) -> State:
    """Bring the alerts of a run's open stragglers up to date."""
    case = None if run.is_over else run.current
    for straggler in case.stragglers if case is not None else ():
        if straggler.is_open and case is not None:
            rank = straggler.found.straggler
            node, text, hint = _place(run, rank)[0], describe(run, straggler), _advice(case, straggler)
            deed = _deed(case, straggler)
            state = raise_alert(state, key(run, straggler.found), "warning", text, hint, node, run.run_id, rank, deed)
    return state


def with_readings(state: State, run: RunState, node: str) -> RunState:
    """A run whose open stragglers on that node know its newest readings. What was seen last of a cause is kept."""
    case = run.current
    if run.is_over or case is None or not any(straggler.is_open for straggler in case.stragglers):
        return run
    stragglers = tuple(
        replace(straggler, evidence=_evidence(state, run, straggler.found) or straggler.evidence)
        if straggler.is_open and _place(run, straggler.found.straggler)[0] == node
        else straggler
        for straggler in case.stragglers
    )
    return replace(run, cases=(*run.cases[: run.case], replace(case, stragglers=stragglers), *run.cases[run.case + 1 :]))


def straggler_ended(state: State, run: RunState, event: StragglerEnded) -> State:
    """The alert of a straggler that is itself again, with what the shares brought back."""
    gain = "" if event.gain is None else f"changed shares brought back {event.gain * 100:.0f} % of the lost time"
    return clear(state, key(run, event), gain)


def run_over(state: State, run_id: str) -> State:
    """End the alerts of a case that is over: whoever is still slow in the next one is found again."""
    return clear_prefix(state, f"straggler {run_id} ")


def key(run: RunState, event: StragglerFound | StragglerEnded) -> str:
    """Names one cause, so that the same trouble stays one line."""
    return f"straggler {run.run_id} {'network' if event.straggler is None else event.straggler}"


def describe(run: RunState, straggler: Straggler) -> str:
    """One line for the list of alerts and the narration, what matters most first; the node stands beside it."""
    event = straggler.found
    who = "all ranks" if event.straggler is None else f"rank {event.straggler}"
    why = straggler.evidence or _stamps(event)
    about = filter(None, ("costs more than it brings" if event.is_costly else "", _place(run, event.straggler)[1]))
    return f"{who} {event.slowdown:.2f}x slower: {why}; " + ", ".join((f"since step {event.since}", *about))


def _place(run: RunState, rank: int | None) -> tuple[str, str]:
    found = run.ranks.get(rank) if rank is not None else None
    return (found.node, found.device_name) if found is not None else ("", "")


def _stamps(event: StragglerFound) -> str:
    """The part that grew, by the rank's own stamps."""
    name = {"network": "network: communication", "host": "host CPU stalls"}.get(event.cause, event.cause)
    return f"{name} {event.part_expected_seconds * 1000:.0f} -> {event.part_seconds * 1000:.0f} ms a step"


def _evidence(state: State, run: RunState, event: StragglerFound) -> str:
    """What the readings of that very device and machine add; empty: nothing."""
    rank = run.ranks.get(event.straggler) if event.straggler is not None else None
    node = state.nodes.get(rank.node) if rank is not None else None
    if rank is None or node is None:
        return ""
    host, devices = _seen(node, event)
    if event.cause == "host" and host.cpu is not None and host.cpu >= BUSY:
        return f"{_stamps(event)}, processor {host.cpu * 100:.0f} % busy"
    device = next((one for one in devices if one.reading.index == rank.device_index), None)
    return _of_device(device, run.run_id) if event.cause == "compute" and device is not None else ""


def _seen(node: NodeState, event: StragglerFound) -> tuple[HostReading, tuple[DeviceState, ...]]:
    """The readings that speak of the event's time: live ones, or those a runner kept while nobody looked on.

    Times are compared on one machine only: of other nodes kept readings count as long as there are no live ones.
    """
    kept = node.kept
    if event.node == node.name and event.node_time is not None:
        then = event.node_time
        if kept and (kept[-1].node_time or 0.0) - then <= LONG_AGO and node.state == "ok":
            return node.host, node.devices
        kept = tuple(one for one in kept if one.node_time is not None and then - USUAL <= one.node_time <= then + NEXT)
    elif node.state == "ok":
        return node.host, node.devices
    if not kept:
        return (node.host, node.devices) if node.state == "ok" else (HostReading(), ())
    newest = kept[-1]
    clocks = {device.index: tuple(_clock(one, device.index) for one in kept[-CLOCKS:]) for device in newest.devices}
    return newest.host, tuple(DeviceState(device, clocks=clocks[device.index]) for device in newest.devices)


def _clock(kept: ReadingsRecorded, index: int) -> float | None:
    return next((device.clock for device in kept.devices if device.index == index), None)


def _of_device(device: DeviceState, run_id: str) -> str:
    reading = device.reading
    usual = max((clock for clock in device.clocks if clock is not None), default=0.0)
    reasons, details = ", ".join(reading.throttle), ""
    if reading.clock is not None and reading.clock < CLOCKED_DOWN * usual:
        details = f"clock {usual:,.0f} -> {reading.clock:,.0f} MHz"
    if reading.temperature is not None and (reasons or details):
        details += f"{', ' if details else ''}{reading.temperature:.0f} °C"
    return "; ".join(filter(None, (": ".join(filter(None, (reasons, details))), _others(reading, run_id))))


def _others(reading: DeviceReading, run_id: str) -> str:
    """Processes on the device that are not of this run."""
    strangers = [process for process in reading.processes or () if process.run_id != run_id and (process.name or process.user)]
    if not strangers:
        return ""
    names = ", ".join(
        f"{process.name or 'process'} {process.pid}" + (f" of {process.user}" if process.user else "") for process in strangers[:2]
    )
    more = f" and {len(strangers) - 2} more" if len(strangers) > 2 else ""
    return f"also used by {names}{more}"


def _deed(case: CaseState, straggler: Straggler) -> str:
    """What the balancer did about it and what that brought; empty where there was nothing to do."""
    event = straggler.found
    done = [decision for decision in case.decisions if decision.step > event.since]
    if done:
        last = done[-1]
        measured = f", measured {last.measured * 1000:.0f}" if last.measured is not None else ""
        effect = ""
        if done[0].predicted_before is not None and last.predicted_after is not None:
            effect = f": {last.predicted_after * 1000:.0f} instead of {done[0].predicted_before * 1000:.0f} ms a step{measured}"
        return f"shares {_sizes(done[0].before)} -> {_sizes(last.after)}{effect}"
    return ""


def _advice(case: CaseState, straggler: Straggler) -> str:
    """What a person can do: against the cause where it is known, else for the others."""
    event, seen = straggler.found, straggler.evidence
    if event.is_costly:
        return "the others are faster without this rank: start again without it"
    if "also used by" in seen:
        return "ask whose process that is, or take another device"
    if "thermal" in seen or "clock" in seen:
        return "check its cooling and power limit"
    if event.straggler is not None and case.policy in ("equal", "proportional"):
        return f"{case.policy} keeps the shares; hybrid would move work to the others"
    return {
        "data": "its input is slow: look at the disk the data lies on",
        "host-to-device": "copies to the device are slow: look at its bus and at who else copies",
        "host": "its processor is busy: look who else computes there",
        "network": "look at the slowest link between the nodes",
    }.get(event.cause, "")


def _sizes(sizes: tuple[int, ...]) -> str:
    return "/".join(map(str, sizes)) if len(sizes) <= 8 else f"{min(sizes)}..{max(sizes)} on {len(sizes)} ranks"
