"""The group of a run that outlives its ranks, on one node: feeds ``membership.agreement`` and does what it decides.

A rank that is killed or silent, a runner that is gone or silent: the others leave the group behind, agree on the next generation,
and tell their ranks who forms it and through which store. A lost process is started again and joins under a new number; a node that
a person takes out rests, and may come back. Ranks of the plan stand for devices here. See docs/design/members.md.
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

from ...errors import UsageError, WorkFailed
from ...membership.agreement import PAUSE_S, Agreement, Form, GiveUp, Leave, Output, Record, Send, Stop, Wait, Word
from ...membership.generation import Generation, Member, may_decide
from ...plan import NodePlan, Plan
from ...protocol.run_files import MEMBERS_FILE
from ...wire import from_plain, to_plain
from ..system.timeout import with_timeout
from .group_store import GroupStore
from .member_memory import MemberMemory, keep_memory
from .returns import Returns
from .store_relay import LEFT_BEHIND, StoreRelay

TICK_S = 0.25
CAUSE_S = 0.7
"""Seconds that a broken group without a cause waits for one: torchrun looks after its rank ten times a second."""
DRAIN_MARGIN_S = 15.0
"""Seconds for the agreement after the longest pause."""
RETURN_PATIENCE_S = 600.0
"""Seconds for which a side that may not decide waits for runners that are gone: a machine that starts again takes minutes."""
FORMING_S = 30.0
"""Seconds for which a word of the store of a generation waits until this runner knows that generation, too."""

Message = dict[str, Any]


class ElasticGroup:
    """One runner's part. ``on_over(reason)`` is called when the run can never go on."""

    def __init__(
        self,
        run: Path,
        plan: Plan,
        node: NodePlan,
        *,
        send: Callable[[Message, str], None],
        on_finished: Callable[[], None],
        on_over: Callable[[str], None],
        on_wait: Callable[[str], None],
        on_rest: Callable[[str, bool], None],
        relay: StoreRelay,
        memory: MemberMemory | None = None,
    ) -> None:
        """``send``: to one other runner. ``on_rest(reason, is_over)``: this node takes no part for now, or wants to again; raises
        DeviceInUse where it may not. ``relay``: to the store of the first group. ``memory``: of the runner before this one, which
        is gone: this one joins a run that trains; None: the run begins."""
        self._run, self._plan, self._node = run, plan, node
        self._send, self._on_finished, self._on_over = send, on_finished, on_over
        self._on_wait, self._on_rest = on_wait, on_rest
        members = tuple(sorted((Member(one.name, one.ranks) for one in plan.nodes), key=lambda member: member.name))
        first = Generation(0, members, len(plan.ranks))
        self._min_devices, self._life = max(1, plan.min_devices or 1), 0
        self._agreement = Agreement(node.name, first, time.monotonic(), min_devices=self._min_devices)
        self._agreement.note_state(node.ranks)  # all begin with the weights of one seed
        self._written = first
        self._remembered: MemberMemory | None = None
        self._here: dict[int, int] = {rank: rank for rank in node.ranks}
        """Number of the process on each device of this node that takes part."""
        self._standing: set[int] = set()
        """Devices whose processes stand, as a change of members is wanted."""
        self._returns = Returns()
        self.rest_reason = ""
        """Why this node takes no part for now; empty: it does, or wants to."""
        self._is_finished = False
        self._left = -1
        self._relays = {0: relay}
        self._changed = asyncio.Event()
        self._pids: dict[int, int] = {}
        self._gone: set[str] = set()
        self._reasons: dict[int, str] = {}
        self._reason = ""
        self._answering: set[asyncio.Task[None]] = set()
        self._stuck_since: float | None = None
        """Since when those that are left may not decide, and the others' runners are gone."""
        if memory is not None:
            self._begin_again(memory)
        self._remember()

    def _begin_again(self, memory: MemberMemory) -> None:
        """Be the next life of this node, whose processes are still to be started and join."""
        self._life, self._written, self._here = memory.life + 1, memory.record.generation, {}
        self._agreement = Agreement(
            self._node.name,
            self._written,
            time.monotonic(),
            life=self._life,
            min_devices=self._min_devices,
            former=memory.record,
        )
        for rank in self._node.ranks:
            self._returns.start_now(rank)

    @property
    def is_member(self) -> bool:
        """Whether processes of this node take part."""
        return bool(self._here)

    @property
    def others(self) -> int:
        """Devices of other nodes that take part."""
        return sum(len(member.numbers) for member in self._agreement.generation.members if member.name != self._node.name)

    @property
    def gone(self) -> tuple[str, ...]:
        """Nodes without which the run went on."""
        names = {member.name for member in self._agreement.generation.members}
        return tuple(node.name for node in self._plan.nodes if node.name not in names)

    async def run(self) -> None:
        """Look after the group until all its ranks have finished."""
        while not self._is_finished:
            self._agreement.joins = self._returns.ready()
            self._do(self._agreement.tick(time.monotonic()))
            self._write()
            self._watch_patience(time.monotonic())
            await asyncio.sleep(TICK_S)

    def finish(self) -> None:
        """All ranks have finished: whoever goes now is not lost."""
        self._is_finished = True
        self._returns.end()
        self._changed.set()

    def hear_rank(self, rank: int, pid: int) -> Message:
        """A sign of life of a rank; returns the newest generation that is left behind, and the one whose ranks are to stand."""
        self._pids[rank] = pid
        pausing = self._agreement.generation.number if self._agreement.is_pausing else -1
        return {"value": self._left, "pausing": pausing}

    def number_of(self, rank: int) -> int | None:
        """Number of the process on a device of this node; None: it takes no part."""
        return self._here.get(rank)

    def lose_rank(self, rank: int, reason: str) -> None:
        """A rank of this node has ended or is silent; a silent one is killed, as it must not come back to an old group."""
        number = self._here.pop(rank, None)
        self._kill(rank)
        if number is not None:
            self._tell_loss((number,), reason)
            self._agreement.lose((number,))
        if not self.rest_reason and not self._is_finished:
            self._returns.lose(rank)
        self._note_standing()
        self._do(self._agreement.tick(time.monotonic()))

    def note_formed(self, rank: int, number: int) -> None:
        """A process of this node holds the state of the training."""
        if self._here.get(rank) == number:
            self._agreement.note_state((number,))

    async def next_start(self) -> Message:
        """Wait for the next device of this node whose process is to be started: {"rank"}, or {"is_over"}."""
        return await self._returns.next_start()

    async def join(self, rank: int) -> Message:
        """Wait until the run takes in the process that was started for a device, and return its group."""
        return await self._returns.join(rank)

    async def drain(self, reason: str) -> Message:
        """Take this node out at the next step: {"ranks", "left"}, its devices and how many are left. Its processes then end.

        Raises UsageError where it may not go, WorkFailed where it does not in time.
        """
        generation, ranks = self._agreement.generation, tuple(sorted(self._here))
        left = len(generation.numbers) - len(ranks)
        if self._is_finished:
            raise UsageError("the run has finished")
        if self.rest_reason or not ranks:
            raise UsageError(f"{self._node.name} takes no part in the run now")
        if not left:
            raise UsageError(f"{self._node.name} is the last node of the run", hint="paceline cancel ends the run")
        if left < self._min_devices:
            hint = "bring another device back first, or cancel the run and resume it"
            raise UsageError(f"{left} devices would be left, and the run wants {self._min_devices} (--min-devices)", hint=hint)
        self._tell_loss(tuple(self._here.values()), reason)
        self.rest_reason, self._agreement.is_leaving = reason, True
        self._do(self._agreement.tick(time.monotonic()))
        try:
            await with_timeout(PAUSE_S + DRAIN_MARGIN_S, self._until_left(generation.number))
        except asyncio.TimeoutError:
            self._stay()
            raise WorkFailed("the other nodes have not answered", hint="see paceline jobs") from None
        if self._is_finished:
            raise UsageError("the run has finished")
        if self._here:
            self._stay()
            raise WorkFailed(f"{self._node.name} stays: no other node of the run is left", hint="paceline cancel ends the run")
        return {"ranks": list(ranks), "left": left}

    def come_back(self) -> Message:
        """Have the processes of a node that rests started, and join: {"ranks"}. Raises UsageError, DeviceInUse or StorageFailed."""
        if not self.rest_reason or self._here:
            raise UsageError(f"{self._node.name} takes part in the run already")
        if self._is_finished:
            raise UsageError("the run has finished")
        self._on_rest(self.rest_reason, True)
        self.rest_reason = ""
        for rank in self._node.ranks:
            self._returns.start_now(rank)
        return {"ranks": list(self._node.ranks)}

    def lose_peer(self, peer: str, reason: str) -> None:
        """The runner of another node is gone for good."""
        self._gone.add(peer)
        for member in self._agreement.generation.members:
            if member.name == peer:
                for number in member.numbers:
                    self._note_loss(number, reason)
        self._agreement.forget(peer)
        self._do(self._agreement.tick(time.monotonic()))

    def greet(self, peer: str) -> None:
        """A node whose runner was gone has a new one, which is connected."""
        self._gone.discard(peer)

    def bury(self, peer: str, life: int, record: Message) -> None:
        """A third machine has found a runner dead, and read its record. Raises ValueError or TypeError."""
        now = time.monotonic()
        self._do(self._agreement.bury(peer, life, from_plain(Record, record), now))
        self._do(self._agreement.tick(now))

    def _watch_patience(self, now: float) -> None:
        """End a run that waits for runners that are gone, and that nobody has proved dead or brought back."""
        members = [member.name for member in self._agreement.generation.members]
        is_stuck = self._agreement.phase == "waiting" and not may_decide(members, [n for n in members if n not in self._gone])
        if not is_stuck:
            self._stuck_since = None
            return
        self._stuck_since = now if self._stuck_since is None else self._stuck_since
        if now - self._stuck_since >= RETURN_PATIENCE_S:
            gone = ", ".join(name for name in members if name in self._gone)
            self._on_over(f"the runner of {gone} is gone, and did not return within {RETURN_PATIENCE_S / 60:.0f} minutes")

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

    async def next_generation(self, rank: int, after: int, *, is_planned: bool = False) -> Message:
        """Wait for a generation after this one, see ``_group``. A rank asks when its group is broken, or because it stands."""
        if is_planned and after == self._agreement.generation.number:
            self._standing.add(rank)
            self._note_standing()
            await self._until_training(after)
            return self._group()
        deadline = time.monotonic() + CAUSE_S
        while after == self._agreement.generation.number and self._agreement.phase == "training" and time.monotonic() < deadline:
            await asyncio.sleep(0.02)  # whoever is lost is known a moment later, and is not asked again
        if after == self._agreement.generation.number:
            self._agreement.is_broken = True
            self._do(self._agreement.tick(time.monotonic()))
        await self._until_training(after)
        return self._group()

    async def _until_training(self, after: int) -> None:
        while self._agreement.generation.number <= after or self._agreement.phase != "training":
            self._changed.clear()
            await self._changed.wait()

    async def _until_left(self, after: int) -> None:
        """Wait until this node has left, or a generation has been formed with it all the same."""
        while self._here and not self._is_finished and self._agreement.generation.number <= after:
            self._changed.clear()
            await self._changed.wait()

    def _group(self) -> Message:
        """The group for its ranks: {"generation", "numbers", "devices", "reason"}."""
        generation = self._agreement.generation
        numbers, devices = list(generation.numbers), list(generation.devices)
        return {"generation": generation.number, "numbers": numbers, "devices": devices, "reason": self._reason}

    def _note_standing(self) -> None:
        if self._here and self._standing.issuperset(self._here):
            self._do(self._agreement.note_paused(time.monotonic()))

    def _stay(self) -> None:
        self.rest_reason, self._agreement.is_leaving = "", False
        for rank in self._node.ranks:
            if rank not in self._here and not self._returns.is_expected(rank):
                self._returns.lose(rank)

    def _kill(self, rank: int) -> None:
        if (pid := self._pids.pop(rank, None)) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _tell_loss(self, numbers: tuple[int, ...], reason: str) -> None:
        for number in numbers:
            self._note_loss(number, reason)
            for node in self._plan.nodes:
                if node.name != self._node.name:
                    self._send({"rank_lost": {"rank": number, "reason": reason}}, node.name)

    def _note_loss(self, number: int, reason: str) -> None:
        self._reasons.setdefault(number, reason)

    def _do(self, outputs: list[Output]) -> None:
        if self._is_finished:
            return
        self._remember()
        for output in outputs:
            match output:
                case Send(to, word):
                    self._send({"member": to_plain(word)}, to)
                case Stop():
                    self._leave_behind(self._agreement.generation.number)
                case Form(generation):
                    self._form(generation)
                case Leave(generation):
                    self._leave(generation)
                case Wait(reason):
                    self._on_wait(reason)
                case GiveUp(reason):
                    self._on_over(reason)
        self._changed.set()

    def _remember(self) -> None:
        """Write promises and votes to disk, before any message carries them."""
        memory = MemberMemory(self._life, self._agreement.record)
        if memory != self._remembered:
            self._remembered = memory
            keep_memory(self._run, memory)

    def _leave_behind(self, number: int) -> None:
        newest = number - 1 if self._agreement.phase == "training" else number  # a generation that has just been decided stays
        self._left = max(self._left, newest)
        for old in [one for one in self._relays if one <= newest]:
            self._relays.pop(old).close()

    def _leave(self, generation: Generation) -> None:
        """The run goes on without this node: because it wanted to leave, else it was out of reach or has lost its processes, and
        joins again with new ones. Whoever is out joins as another life of its node."""
        old = self._agreement
        self._life += 1
        self._agreement = Agreement(
            self._node.name, generation, time.monotonic(), life=self._life, min_devices=self._min_devices, former=old.record
        )
        for rank in self._node.ranks:
            self._kill(rank)
        self._here.clear()
        self._standing.clear()
        if self.rest_reason:
            self._returns.rest()
            self._on_rest(self.rest_reason, False)
            return
        for rank in self._node.ranks:
            if not self._returns.is_expected(rank):
                self._returns.lose(rank)

    def _form(self, generation: Generation) -> None:
        self._leave_behind(generation.number)
        self._standing.clear()
        before = dict(zip(self._written.numbers, self._written.devices, strict=True))
        now = dict(zip(generation.numbers, generation.devices, strict=True))
        reasons = [self._reasons.get(number, f"rank {device} is silent") for number, device in before.items() if number not in now]
        joined = [device for number, device in now.items() if number not in before]
        reasons += [f"rank {device} on {self._plan.ranks[device].node} is back" for device in joined]
        self._reason = "; ".join(dict.fromkeys(reasons)) or "the group was broken"
        keeper = generation.members[0].name
        is_own = keeper == self._node.name
        store = GroupStore(len(generation.numbers), self._on_finished) if is_own else None
        self._relays[generation.number] = StoreRelay(store, keeper, self._send)
        member = generation.member(self._node.name, self._life)
        for number in member.numbers if member is not None else ():
            device = now[number]
            if number not in self._here.values() and number not in before:
                if self._returns.admit(device, self._group()):
                    self._here[device] = number
                else:
                    self._agreement.lose((number,))  # it ended while the others agreed to take it in
        self._write()

    def _write(self) -> None:
        """Record the newest generation that this runner knows, once."""
        generation = self._agreement.generation
        if generation == self._written:
            return
        self._written = generation
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
