"""Who is blamed for a silence: the rank, the node, or the path between two nodes that a third one hears."""

from __future__ import annotations

import random
from typing import Any

from paceline.engine.agent.runner.heartbeat import Heartbeat
from paceline.engine.events import PeerSilent
from paceline.engine.membership import silence
from paceline.engine.membership.silence import BEAT_INTERVAL_S, HeardBy, Silence, find_silences, pick_cause
from paceline.engine.store.silence import silence_text


class Net:
    """Heartbeats of several nodes over links that can be cut, on a clock that the test moves."""

    def __init__(self, *nodes: str) -> None:
        self.now = 0.0
        self.cut: set[frozenset[str]] = set()
        self.stopped: set[str] = set()
        self.told: dict[str, list[tuple[Silence, bool]]] = {node: [] for node in nodes}
        self.of = {node: self._heartbeat(node) for node in nodes}
        for node, heartbeat in self.of.items():
            heartbeat.expect([other for other in nodes if other != node])

    def _heartbeat(self, node: str) -> Heartbeat:
        def send(message: dict[str, Any]) -> None:
            for other, heartbeat in self.of.items():
                if other != node and frozenset((node, other)) not in self.cut and other not in self.stopped:
                    heartbeat.hear(node, message)

        return Heartbeat(node, send, lambda one, is_over: self.told[node].append((one, is_over)), lambda: self.now)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / BEAT_INTERVAL_S)):
            self.now += BEAT_INTERVAL_S
            for node, heartbeat in self.of.items():
                if node not in self.stopped:
                    heartbeat.tick()

    def reasons(self) -> list[str]:
        return [one.reason for told in self.told.values() for one, is_over in told if not is_over]


def test_a_silent_node_is_named_within_four_seconds_and_once() -> None:
    net = Net("n0", "n1", "n2")
    net.run(10)
    assert net.reasons() == []
    net.stopped.add("n1")
    net.run(4)
    assert net.reasons() == ["n1 is silent: its machine, its runner, or the network to it has stopped"]
    for node in ("n0", "n2"):
        cause = net.of[node].cause()
        assert cause is not None
        assert cause.node == "n1"


def test_a_cut_path_is_told_from_a_silent_node_by_whoever_hears_both_ends() -> None:
    net = Net("n0", "n1", "n2")
    net.run(5)
    net.cut.add(frozenset(("n1", "n2")))
    net.run(6)
    assert net.reasons() == ["no word between n1 and n2, both of which n0 hears"]
    assert all((cause := heartbeat.cause()) is not None and cause.path == ("n1", "n2") for heartbeat in net.of.values())
    net.cut.clear()
    net.run(2)
    assert [is_over for told in net.told.values() for _, is_over in told] == [False, True]


def test_whoever_was_stopped_itself_blames_nobody_when_it_goes_on() -> None:
    net = Net("n0", "n1")
    net.run(5)
    net.stopped.add("n1")
    net.run(30)
    net.stopped.clear()
    net.run(30)
    assert [one.node for one, is_over in net.told["n0"] if not is_over] == ["n1"]
    assert net.told["n1"] == []
    assert net.of["n0"].cause() is None


def test_a_node_that_hears_nobody_says_that_it_may_be_its_own_link() -> None:
    view = HeardBy({"n1": 4.0, "n2": 5.0})
    assert [one.reason for one in find_silences("n0", view, {})] == [
        "n0 hears none of the other nodes: its own link is down, or all of them"
    ]


def test_a_stopped_rank_is_the_cause_before_its_node_and_a_busy_one_is_left_alone() -> None:
    told = HeardBy({"n0": 0.1}, {2: 2.5, 3: 3.5}, {2: "T", 3: "R"})
    found = find_silences("n0", HeardBy({"n1": 0.4}), {"n1": told})
    assert [(one.node, one.rank, one.reason) for one in found] == [("n1", 2, "its process is stopped by a signal")]
    cause = pick_cause([Silence("n1", None, 60.0, ""), *found])
    assert cause is not None
    assert cause.rank == 2


def test_no_history_of_cuts_blames_a_node_that_all_others_hear(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        names = [f"n{i}" for i in range(draw.randint(4, 6))]  # of three, the other two hear nobody
        net = Net(*names)
        net.run(2)
        pair = draw.sample(names, 2)
        net.cut.add(frozenset(pair))
        net.run(draw.uniform(0, 20))
        assert {one.path for told in net.told.values() for one, _ in told} <= {tuple(sorted(pair))}
        net.stopped.add(dead := draw.choice(names))
        net.told[dead].clear()
        net.run(silence.SILENCE_S + 1)
        causes = [heartbeat.cause() for name, heartbeat in net.of.items() if name != dead and {name, dead} != set(pair)]
        assert all(cause is not None and cause.node == dead for cause in causes)


def test_what_a_silence_is_called() -> None:
    node = PeerSilent(peer="n1", ranks=(2, 3), seconds=3.4, reason="n1 is silent")
    assert silence_text(node) == "n1 has been silent for 3 s: n1 is silent"
    assert silence_text(PeerSilent(peer="n1", ranks=(2,), is_over=True)) == "rank 2 on n1 is heard again"
    assert silence_text(PeerSilent(path=("n0", "n1"), seconds=4.0)) == "the path between n0 and n1 has been silent for 4 s"
