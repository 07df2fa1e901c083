"""The group of a run that outlives its ranks, on one node: feeds ``membership.agreement`` and does what it decides.

A rank that is killed or silent, a runner that is gone or silent: the others leave the group behind, agree on the next generation,
and tell their ranks who forms it and through which store. See docs/design/durable-runs.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...membership.agreement import Agreement, Form, Leave, Output, Send, Stop, Wait, Word
from ...membership.generation import Generation, Member, may_decide
from ...plan import NodePlan, Plan
from ...protocol.run_files import MEMBERS_FILE
from ...wire import from_plain, to_plain
from .group_store import GroupStore
from .store_relay import LEFT_BEHIND, StoreRelay

TICK_S = 0.25
CAUSE_S = 0.7
"""Seconds that a broken group without a cause waits for one: torchrun looks after its rank ten times a second."""
FORMING_S = 30.0
"""Seconds for which a word of the store of a generation waits until this runner knows that generation, too."""

Message = dict[str, Any]


class ElasticGroup:
    """One runner's part. ``on_alone(reason)`` is called when this node has to leave the run, or can never go on."""

    def __init__(
        self,
        run: Path,
        plan: Plan,
        node: NodePlan,
        *,
        send: Callable[[Message, str], None],
        on_finished: Callable[[], None],
        on_alone: Callable[[str, bool], None],
        on_wait: Callable[[str], None],
        relay: StoreRelay,
    ) -> None:
        """``send``: to one other runner. ``on_alone(reason, goes_on)``: whether the run goes on elsewhere. ``relay``: to the
        store of the first group."""
        self._run, self._plan, self._node = run, plan, node
        self._send, self._on_finished, self._on_alone, self._on_wait = send, on_finished, on_alone, on_wait
        members = tuple(sorted((Member(one.name, one.ranks) for one in plan.nodes), key=lambda member: member.name))
        first = Generation(0, members, len(plan.ranks))
        self._agreement = Agreement(node.name, first, time.monotonic(), min_devices=max(1, plan.min_devices or 1))
        self._agreement.has_state = True  # all begin with the weights of one seed
        self._numbers = set(first.numbers)
        self._is_finished = False
        self._left = -1
        self._relays = {0: relay}
        self._changed = asyncio.Event()
        self._pids: dict[int, int] = {}
        self._gone: set[str] = set()
        self._reasons: dict[int, str] = {}
        self._reason = ""
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def gone(self) -> tuple[str, ...]:
        """Nodes without which the run went on."""
        names = {member.name for member in self._agreement.generation.members}
        return tuple(node.name for node in self._plan.nodes if node.name not in names)

    async def run(self) -> None:
        """Look after the group until all its ranks have finished."""
        while not self._is_finished:
            self._do(self._agreement.tick(time.monotonic()))
            await asyncio.sleep(TICK_S)

    def finish(self) -> None:
        """All ranks have finished: whoever goes now is not lost."""
        self._is_finished = True

    def hear_rank(self, rank: int, pid: int) -> int:
        """A sign of life of a rank; returns the newest generation that is left behind."""
        self._pids[rank] = pid
        return self._left

    def lose_rank(self, rank: int, reason: str) -> None:
        """A rank of this node has ended or is silent; a silent one is killed, as it must not come back to an old group."""
        self._note_loss(rank, reason)
        for node in self._plan.nodes:
            if node.name != self._node.name:
                self._send({"rank_lost": {"rank": rank, "reason": reason}}, node.name)
        self._agreement.lose((rank,))
        if (pid := self._pids.pop(rank, None)) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._do(self._agreement.tick(time.monotonic()))

    def lose_peer(self, peer: str, reason: str) -> None:
        """The runner of another node is gone for good."""
        self._gone.add(peer)
        for node in self._plan.nodes:
            if node.name == peer:
                for rank in node.ranks:
                    self._note_loss(rank, reason)
        members = [member.name for member in self._agreement.generation.members]
        if not may_decide(members, [name for name in members if name not in self._gone]):
            self._on_alone(reason, False)
            return
        self._agreement.forget(peer)
        self._do(self._agreement.tick(time.monotonic()))

    def on_message(self, peer: str, message: Message) -> bool:
        """Handle a message of the mesh; False where it is about something else. Raises ValueError or TypeError."""
        if "member" in message:
            self._do(self._agreement.hear(peer, from_plain(Word, message["member"]), time.monotonic()))
            return True
        if "rank_lost" in message:
            self._note_loss(int(message["rank_lost"]["rank"]), str(message["rank_lost"]["reason"])[:500])
            return True
        if "store_ask" in message and message["store_ask"].get("generation"):
            task = asyncio.ensure_future(self._relay_late(peer, message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return True
        taken = [relay.on_message(peer, message) for relay in self._relays.values()]  # all of them: a loss is for each
        return any(taken)

    async def ask_store(self, request: Message) -> Message:
        """Answer a word of the store of a later generation, of a rank on this node."""
        relay = await self._relay(int(request["generation"]))
        if relay is None:
            return LEFT_BEHIND
        return await relay.ask(request)

    async def next_generation(self, after: int) -> Message:
        """Wait for a generation after this one: {"generation", "numbers", "reason"}. A rank asks when its group is broken."""
        deadline = time.monotonic() + CAUSE_S
        while after == self._agreement.generation.number and self._agreement.phase == "training" and time.monotonic() < deadline:
            await asyncio.sleep(0.02)  # whoever is lost is known a moment later, and is not asked again
        if after == self._agreement.generation.number:
            self._agreement.is_broken = True
            self._do(self._agreement.tick(time.monotonic()))
        while self._agreement.generation.number <= after or self._agreement.phase != "training":
            self._changed.clear()
            await self._changed.wait()
        generation = self._agreement.generation
        return {"generation": generation.number, "numbers": list(generation.numbers), "reason": self._reason}

    def _note_loss(self, rank: int, reason: str) -> None:
        self._reasons.setdefault(rank, reason)

    def _do(self, outputs: list[Output]) -> None:
        if self._is_finished:
            return
        for output in outputs:
            match output:
                case Send(to, word):
                    self._send({"member": to_plain(word)}, to)
                case Stop():
                    self._leave_behind(self._agreement.generation.number)
                case Form(generation):
                    self._form(generation)
                case Leave():
                    self._on_alone(f"{self._node.name} was out of reach; the run goes on without it", True)
                case Wait(reason):
                    self._on_wait(reason)
        self._changed.set()

    def _leave_behind(self, number: int) -> None:
        newest = number - 1 if self._agreement.phase == "training" else number  # a generation that has just been decided stays
        self._left = max(self._left, newest)
        for old in [one for one in self._relays if one <= newest]:
            self._relays.pop(old).close()

    def _form(self, generation: Generation) -> None:
        self._leave_behind(generation.number)
        lost = sorted(self._numbers - set(generation.numbers))
        reasons = dict.fromkeys(self._reasons.get(number, f"rank {number} is silent") for number in lost)
        self._reason = "; ".join(reasons) or "the group was broken"
        keeper = generation.members[0].name
        is_own = keeper == self._node.name
        store = GroupStore(len(generation.numbers), self._on_finished) if is_own else None
        self._relays[generation.number] = StoreRelay(store, keeper, self._send)
        self._write(generation)

    def _write(self, generation: Generation) -> None:
        self._numbers = set(generation.numbers)
        line = json.dumps({**to_plain(generation), "reason": self._reason, "gone": list(self.gone), "node_time": time.time()})
        with contextlib.suppress(OSError), (self._run / MEMBERS_FILE).open("ab") as file:  # a full disk does not end a run
            file.write(line.encode() + b"\n")

    async def _relay(self, number: int) -> StoreRelay | None:
        """The relay of a generation, once this runner knows it; None where it is left behind or never comes."""
        deadline = time.monotonic() + FORMING_S
        while self._agreement.generation.number < number and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return self._relays.get(number)

    async def _relay_late(self, peer: str, message: Message) -> None:
        relay = await self._relay(int(message["store_ask"]["generation"]))
        if relay is not None:
            relay.on_message(peer, message)
            return
        self._send({"store_answer": {**LEFT_BEHIND, "id": message["store_ask"]["id"]}}, peer)
