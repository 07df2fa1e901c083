"""When an event of a run happened, in stream time: by the clock of the node that wrote it, and not by its arrival. Pure.

A past run arrives within a second, so arrival would draw it as one moment. Durations come from one clock; between two machines the
clock is corrected by the difference that live readings of the node show.
"""

from __future__ import annotations

from dataclasses import replace

from ..events import Event, LaunchStarted, NodeReported, PeerLost, PeerSilent, RankEvent, RunnerEnded, RunnerStarted
from .state import NodeState, RunState, State

DATED_EVENTS = (RankEvent, RunnerStarted, LaunchStarted, PeerLost, PeerSilent, RunnerEnded)
"""Events of a run that a node writes and a centre may receive much later."""


def with_clock(state: State, node: NodeState, event: NodeReported) -> NodeState:
    """The node with how far its clock is ahead of the centre's: the largest difference, which a reading without delay shows."""
    if state.clock is None or event.node_time is None:
        return node
    ahead = event.node_time - (state.clock + event.at - state.clock_at)
    return node if node.clock_ahead is not None and node.clock_ahead >= ahead else replace(node, clock_ahead=ahead)


def date_event(state: State, event: Event) -> tuple[State, Event]:
    """The event with the stream time at which it happened, at most its arrival; before the stream began it is negative.

    The clock of a node is corrected for a run once, by its first event, so that durations within the run stay what they were.
    Unchanged where the node's clock or the centre's is unknown.
    """
    if state.clock is None or event.node_time is None or not event.run_id or not isinstance(event, DATED_EVENTS):
        return state, event
    run = state.runs.get(event.run_id)
    ahead = None if run is None else run.clocks_ahead.get(event.node)
    if ahead is None:
        node = state.nodes.get(event.node)
        ahead = node.clock_ahead if node is not None and node.clock_ahead is not None else 0.0
    arrived = state.clock + event.at - state.clock_at
    ahead = max(ahead, event.node_time - arrived)  # nothing happens after it has arrived
    happened = event.at + event.node_time - ahead - arrived
    run = run or RunState(event.run_id, first_event_at=happened)
    if run.clocks_ahead.get(event.node) != ahead or happened < run.first_event_at:
        clocks = {**run.clocks_ahead, event.node: ahead}
        run = replace(run, clocks_ahead=clocks, first_event_at=min(run.first_event_at, happened))
        state = replace(state, runs={**state.runs, run.run_id: run})
    return state, replace(event, at=happened)
