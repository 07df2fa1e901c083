"""A run of simulated nodes on a virtual clock: killed, stopped, cut off, returned, drained and grown at random moments.

The decisions are those of ``engine.membership``. A step of the training is taken by a process once all processes of its group take
part, each at a moment of its own, so a fault may part them; each process keeps the list of batches that its weights have seen.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from paceline.engine.membership.agreement import Agreement, Form, Leave, Output, Record, Send, Stop
from paceline.engine.membership.generation import Generation, Member, may_decide, pick_source
from paceline.engine.membership.silence import BEAT_INTERVAL_S

STEP_S = 0.4
FORMING_S = 0.2
LATENCY_S = 0.02
MAX_STALL_S = 30.0
KINDS = ("kill", "kill", "stop", "cut", "cut", "return", "drain", "grow", "lose a worker", "lose a worker", "death of the centre")


@dataclass
class Process:
    """A process of the training: what its weights have seen."""

    trained: list[int] = field(default_factory=list)


@dataclass
class Node:
    """A machine, and the runner on it."""

    name: str
    devices: tuple[int, ...]
    """Of the plan."""
    agreement: Agreement | None = None
    life: int = 0
    record: Record | None = None
    """On its disk."""
    is_stopped: bool = False
    inbox: list[tuple[str, Any]] = field(default_factory=list)
    """Words that arrived while it was stopped."""
    processes: dict[int, Process] = field(default_factory=dict)
    formed: int = -1
    """Generation whose group it has joined."""
    applied: int = 0
    """Number of the newest step of its group that its processes have taken."""
    is_drained: bool = False


class BrokenPromise(AssertionError):
    """A schedule showed what must never happen."""


class MembershipLab:
    """One schedule of faults, from the first step to the last."""

    def __init__(self, seed: int, steps: int = 120) -> None:
        self.draw = random.Random(seed)
        self.now, self.steps = 0.0, steps
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        count = self.draw.randint(2, 5)
        numbers = itertools.count()
        self.nodes = {
            name: Node(name, tuple(next(numbers) for _ in range(self.draw.randint(1, 2))))
            for name in (f"n{i}" for i in range(count + 1))
        }
        self.cut: set[frozenset[str]] = set()
        self.has_centre = True
        names = list(self.nodes)[:count]  # the last one is a spare
        members = tuple(Member(name, self.nodes[name].devices) for name in names)
        first = Generation(0, members, next(numbers))
        self.decided: dict[int, Generation] = {0: first}
        self.group = -1
        """Generation that trains."""
        self.group_step = 0
        self.newest_commit = -1
        self.progress = 0
        self.stall, self.longest_stall = 0.0, 0.0
        self.repeated = 0
        """Steps that were taken by a process and are taken again."""
        self.planned = self.returned = 0
        """Changes for which all processes stood; processes that were started again on a live node."""
        self.proofs = 0
        """Words of the centre that a runner is dead."""
        self.faults: list[str] = []
        self.is_over = self.has_ended_by_loss = False
        for name in names:
            self._start(name, first)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self.queue, (self.now + delay, next(self.order), action))

    def run(self, fault_seconds: float = 40.0, limit: float = 400.0) -> None:
        """Run to the last step. Raises BrokenPromise."""
        moment = 1.0
        while (moment := moment + self.draw.expovariate(1 / 6.0)) < fault_seconds:
            self.at(moment, self._fault)
        self.at(fault_seconds, self._heal)
        self.at(BEAT_INTERVAL_S, self._watch)
        while self.queue and not self.is_over:
            self.now, _, action = heapq.heappop(self.queue)
            action()
            if self.now > limit:
                raise BrokenPromise(f"not at the end after {limit} s: {self._phases()} {self.faults}")
        if not self.has_ended_by_loss:
            self._check_samples()

    # Runners

    def _start(self, name: str, generation: Generation) -> None:
        node = self.nodes[name]
        former = node.record
        known = former.generation if former is not None and former.generation.number > generation.number else generation
        node.agreement = Agreement(name, known, self.now, life=node.life, devices=node.devices, former=former)
        node.is_stopped, node.inbox, node.formed = False, [], -1
        member = known.member(name, node.life)
        node.processes = {number: Process() for number in (member.numbers if member is not None else ())}
        if member is not None:
            self._form(name, node.agreement, known)
        self._tick_later(name, node.agreement, self.draw.uniform(0, BEAT_INTERVAL_S))

    def _tick_later(self, name: str, agreement: Agreement, delay: float) -> None:
        def tick() -> None:
            node = self.nodes[name]
            if node.agreement is not agreement:
                return
            if not node.is_stopped:
                self._do(name, agreement, agreement.tick(self.now))
            self._tick_later(name, agreement, BEAT_INTERVAL_S)

        self.at(delay, tick)

    def _do(self, name: str, agreement: Agreement, outputs: list[Output]) -> None:
        node = self.nodes[name]
        node.record = agreement.record  # before anything of it is sent
        for output in outputs:
            match output:
                case Send(to, word):
                    self._send(name, to, word)
                case Stop():
                    node.formed = -1
                case Form(generation):
                    self._form(name, agreement, generation)
                case Leave():
                    node.formed, node.processes = -1, {}
                    if not node.is_drained:  # a thawed rank exits, its runner may join anew
                        node.life += 1
                        self.at(1.0, lambda: self._rejoin(name, agreement))

    def _rejoin(self, name: str, agreement: Agreement) -> None:
        node = self.nodes[name]
        if node.agreement is agreement:
            self._start(name, agreement.generation)

    def _form(self, name: str, agreement: Agreement, generation: Generation) -> None:
        known = self.decided.setdefault(generation.number, generation)
        if known != generation:
            raise BrokenPromise(f"two generations {generation.number}: {known} and {generation}; {self.faults}")
        node = self.nodes[name]
        member = generation.member(name, node.life)
        assert member is not None
        node.processes = {number: node.processes.get(number, Process()) for number in member.numbers}

        def join() -> None:
            if node.agreement is agreement and agreement.generation == generation and agreement.phase == "training":
                node.formed = generation.number
                self._begin(generation)

        self.at(FORMING_S, join)

    def _send(self, sender: str, to: str, word: Any) -> None:
        if to not in self.nodes:
            return

        def arrive() -> None:
            if frozenset((sender, to)) in self.cut:
                if self.draw.random() < 0.3:  # TCP sends it again
                    self.at(2.0, arrive)
                return
            node = self.nodes[to]
            if node.is_stopped:
                node.inbox.append((sender, word))
            elif node.agreement is not None:
                self._do(to, node.agreement, node.agreement.hear(sender, word, self.now))

        self.at(self.draw.uniform(0.1, 1.0) * LATENCY_S, arrive)

    # Training

    def _is_whole(self, generation: Generation) -> bool:
        names = [member.name for member in generation.members]
        nodes = [self.nodes[name] for name in names]
        is_up = all(node.formed == generation.number and not node.is_stopped and node.agreement is not None for node in nodes)
        have = all(set(member.numbers) <= self.nodes[member.name].processes.keys() for member in generation.members)
        return is_up and have and not any(frozenset(pair) in self.cut for pair in itertools.combinations(names, 2))

    def _begin(self, generation: Generation) -> None:
        if self.group == generation.number or not self._is_whole(generation):
            return
        if generation.number < self.newest_commit:
            raise BrokenPromise(f"split brain: {generation.number} after {self.newest_commit}; {self.faults}")
        self.group, self.newest_commit = generation.number, generation.number
        for member in generation.members:
            if (agreement := self.nodes[member.name].agreement) is not None:
                agreement.note_state(member.numbers)
        places = {n: (len(p.trained),) for m in generation.members for n, p in self.nodes[m.name].processes.items()}
        source = pick_source(places)
        state = next(self.nodes[m.name].processes[source].trained for m in generation.members if source in m.numbers)
        for member in generation.members:
            for number in member.numbers:
                self.nodes[member.name].processes[number].trained = list(state)
        lost = self.progress - len(state)
        if lost > 1:
            raise BrokenPromise(f"{lost} steps lost in generation {generation.number}; {self.faults}")
        self.repeated += lost
        self.group_step = len(state)
        self.at(STEP_S, lambda: self._step(generation))

    def _step(self, generation: Generation) -> None:
        """All processes exchange their gradients; then each takes the step at a moment of its own."""
        if self.group != generation.number or self.is_over:
            return
        if not self._is_whole(generation):
            if any(self.nodes[m.name].formed != generation.number for m in generation.members):
                self.group = -1  # somebody has left it: it never goes on
            else:
                self.at(STEP_S, lambda: self._step(generation))
            return
        agreements = {m.name: a for m in generation.members if (a := self.nodes[m.name].agreement) is not None}
        if any(agreement.is_pausing for agreement in agreements.values()):  # all see it in the same step, and stand
            self.planned += 1
            for name, agreement in agreements.items():
                self._stand(name, agreement, generation)
            return
        step = self.group_step
        waiting = set(generation.numbers)

        def apply(name: str, number: int, agreement: Agreement | None) -> None:
            node = self.nodes[name]
            if node.agreement is not agreement or node.formed != generation.number or number not in node.processes:
                return
            if node.is_stopped:
                self.at(STEP_S, lambda: apply(name, number, agreement))
                return
            process = node.processes[number]
            if len(process.trained) != step:
                raise BrokenPromise(f"split brain: {number} of {generation.number} in step {step}; {self.faults}")
            process.trained.append(step)
            self.progress = max(self.progress, step + 1)
            waiting.discard(number)
            if not waiting and self.group == generation.number:
                self.stall = 0.0
                self.group_step = step + 1
                if self.group_step >= self.steps:
                    self.is_over = True
                self.at(STEP_S, lambda: self._step(generation))

        for member in generation.members:
            for number in member.numbers:
                own = self.nodes[member.name].agreement
                self.at(self.draw.uniform(0, 0.05), partial(apply, member.name, number, own))

    def _stand(self, name: str, agreement: Agreement, generation: Generation) -> None:
        """The processes of a node stand, at a moment of their own, and stay so until the next group forms."""

        def stand() -> None:
            node = self.nodes[name]
            if node.agreement is agreement and agreement.generation == generation:
                if node.is_stopped:
                    self.at(STEP_S, stand)
                else:
                    self._do(name, agreement, agreement.note_paused(self.now))

        self.at(self.draw.uniform(0, 0.05), stand)

    # Faults

    def _fault(self) -> None:
        kind, node = self.draw.choice(KINDS), self.nodes[self.draw.choice(list(self.nodes))]
        self.faults.append(f"{self.now:.1f} {kind} {node.name}")
        match kind:
            case "kill":
                self._kill(node)
                if self.draw.random() < 0.7:
                    self.at(self.draw.uniform(0.5, 20), lambda: self._return(node))
            case "stop" if node.agreement is not None:
                node.is_stopped = True
                self.at(self.draw.uniform(0.5, 20), lambda: self._thaw(node))
            case "cut":
                others = [name for name in self.nodes if name != node.name]
                chosen = others if self.draw.random() < 0.5 else self.draw.sample(others, self.draw.randint(1, len(others)))
                pairs = {frozenset((node.name, other)) for other in chosen}
                self.cut |= pairs
                self.at(self.draw.uniform(0.5, 20), lambda: self.cut.difference_update(pairs))
            case "return" | "grow":
                self._return(node)
            case "drain" if node.agreement is not None:
                node.is_drained = node.agreement.is_leaving = True
            case "lose a worker" if node.agreement is not None and node.processes:
                number = self.draw.choice(sorted(node.processes))
                member = node.agreement.generation.member(node.name, node.life)
                del node.processes[number]
                node.agreement.lose((number,))
                if member is not None and number in member.numbers:
                    self._start_again(node, member.device_of(number))
            case "death of the centre":
                self.has_centre = False

    def _start_again(self, node: Node, device: int) -> None:
        """The process of a device is there again after a while, and ready to join, whether its node is a member or not."""
        life = node.life

        def ready() -> None:
            agreement = node.agreement
            if agreement is not None and node.life == life and agreement.phase != "joining" and device not in agreement.joins:
                agreement.joins = (*agreement.joins, device)
                self.returned += 1

        self.at(self.draw.uniform(0.5, 5.0), ready)

    def _kill(self, node: Node) -> None:
        if node.agreement is not None:
            life = node.life
            node.agreement, node.processes, node.formed, node.life = None, {}, -1, life + 1
            if self.draw.random() < 0.5:  # else its machine is off, and the centre reads nothing there
                self.at(self.draw.uniform(0.5, 8.0), lambda: self._prove_dead(node, life))

    def _prove_dead(self, node: Node, life: int) -> None:
        """The centre reads what a dead runner had promised, and tells the others a moment later, each at another one."""
        record = node.record
        if not self.has_centre or node.agreement is not None or record is None:
            return
        for name, other in self.nodes.items():

            def tell(name: str = name, other: Node = other) -> None:
                if other.agreement is not None and not other.is_stopped:
                    self.proofs += 1
                    self._do(name, other.agreement, other.agreement.bury(node.name, life, record, self.now))

            if name != node.name:
                self.at(self.draw.uniform(0.0, 1.0), tell)

    def _return(self, node: Node) -> None:
        if node.agreement is None:
            node.is_drained = False
            known = node.record.generation if node.record is not None else self.decided[0]
            self._start(node.name, known)
        elif node.agreement.phase == "out":
            node.is_drained = False
            node.life += 1
            self._start(node.name, node.agreement.generation)

    def _thaw(self, node: Node) -> None:
        node.is_stopped = False
        inbox, node.inbox = node.inbox, []
        for sender, word in inbox:
            if node.agreement is not None:
                self._do(node.name, node.agreement, node.agreement.hear(sender, word, self.now))

    def _heal(self) -> None:
        self.faults.append(f"{self.now:.1f} all is well again")
        for node in self.nodes.values():
            self._return(node)

    # What must hold

    def _watch(self) -> None:
        """Twice a second: how long nobody has trained although somebody could, and whether all of the run's state is gone."""
        newest = self.decided[max(self.decided)]
        self._begin(newest)  # connections that failed are tried again
        nodes = [self.nodes[member.name] for member in newest.members]
        holders = [n.name for n in nodes if n.agreement is not None and n.agreement.has_state and n.processes]
        if not holders:  # what is left are checkpoints: a person resumes the run
            self.has_ended_by_loss = self.is_over = True
            return
        names = [member.name for member in newest.members]
        up = [name for name in holders if not self.nodes[name].is_stopped]
        dead = [name for name in names if name not in holders and self.nodes[name].agreement is not None]
        side = max((self._side(up, name) for name in up), key=len, default=[])
        if may_decide(names, side, dead):
            self.stall += BEAT_INTERVAL_S
        self.longest_stall = max(self.longest_stall, self.stall)
        if self.stall > MAX_STALL_S:
            raise BrokenPromise(f"nobody trains for {self.stall:.0f} s at {self.now:.0f}: {self._phases()} {self.faults}")
        self.at(BEAT_INTERVAL_S, self._watch)

    def _side(self, up: list[str], name: str) -> list[str]:
        return [other for other in up if other == name or frozenset((name, other)) not in self.cut]

    def _phases(self) -> dict[str, Any]:
        return {
            name: (node.agreement.phase, node.agreement.generation.number, node.life, node.is_stopped)
            for name, node in self.nodes.items()
            if node.agreement is not None
        }

    def _check_samples(self) -> None:
        done = [p.trained for node in self.nodes.values() for p in node.processes.values() if len(p.trained) == self.steps]
        if not done or any(trained != list(range(self.steps)) for trained in done):
            raise BrokenPromise(f"a sample is missing or was trained twice; {self.faults}")
