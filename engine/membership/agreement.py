"""How the runners of a run agree on the next generation, whoever fails meanwhile. Pure: time is given, messages are returned.

The members of a generation decide its successor by single-decree Paxos (Lamport, "Paxos Made Simple", 2001): the lowest-named
living member collects promises, then has them vote for one generation. A member that promises stops training, so a generation that
is left behind takes no further step. What is decided is told to everybody who speaks of an older one: a member that was stopped or
cut off meanwhile learns that it is out, and may join as a new one. Promises and votes are recorded before they are sent.

A change that is wanted and not forced (somebody leaves, comes or comes back) begins with a pause: the processes of all members
stand at the same step before anybody proposes, so that none is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from .generation import Generation, Member, make_next, may_decide
from .silence import SILENCE_S

RETRY_S = 2.0
"""Seconds after which a proposal that led nowhere is made again, and by which the next member in order of names waits longer."""
PAUSE_S = 60.0
"""Seconds for which a wanted change waits until all processes stand; then it is made all the same, and repeats a step."""
NO_STATE = "no process is left that holds the state of the training"

Phase = Literal["training", "stopped", "waiting", "joining", "out"]


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """Number of an attempt to decide; of two the later one counts."""

    attempt: int = 0
    name: str = ""
    """Of whoever makes it: no two make the same."""


NO_BALLOT = Ballot()


@dataclass(frozen=True, slots=True)
class Word:
    """One message between runners about the generation after ``generation``, or the decided one."""

    kind: Literal["beat", "propose", "promise", "vote", "voted", "decided", "refused"]
    generation: int
    ballot: Ballot = NO_BALLOT
    value: Generation | None = None
    """What to vote for, what was voted for, or what is decided."""
    voted: Ballot = NO_BALLOT
    """Of a promise: the ballot of that vote."""
    numbers: tuple[int, ...] = ()
    """Of a promise: the living processes of the sender; empty where it leaves."""
    spare_numbers: tuple[int, ...] = ()
    """Of a promise of one that leaves: its processes, for where nobody else holds the state."""
    has_state: bool = False
    """Of a promise: whether these processes hold the state of the training, or have only just joined."""
    life: int = 0
    """Of the sender."""
    joins: tuple[int, ...] = ()
    """Devices whose processes are ready to join: of a beat, where the sender is no member; of a promise, beside its processes."""
    is_pausing: bool = False
    """Of a beat: whether the sender knows of a wanted change, for which all processes are to stand."""
    is_paused: bool = False
    """Of a beat: whether the sender's processes stand."""
    wants_change: bool = False
    """Of a beat: whether the sender's processes differ from the generation."""
    hears: tuple[str, ...] = ()
    """Of a beat or a promise: who wants to join and is heard by the sender. Whoever joins is heard by all."""
    record: Record | None = None
    """Of the beat of one that wants to join: what its earlier life has recorded, which proves that it is over."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a member has to remember, and what speaks for it after its death."""

    generation: Generation
    promised: Ballot = NO_BALLOT
    voted: Ballot = NO_BALLOT
    value: Generation | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a word to a node."""

    to: str
    word: Word


@dataclass(frozen=True, slots=True)
class Stop:
    """End the collectives in flight: the group is left behind."""


@dataclass(frozen=True, slots=True)
class Form:
    """Form the group of this generation."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Leave:
    """The run goes on without this runner."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is trained until others are back; a person is told."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """All members are here, and none of them can go on: the run is over."""

    reason: str


Output = Send | Stop | Form | Leave | Wait | GiveUp


@dataclass(slots=True)
class _Proposal:
    ballot: Ballot
    since: float
    promises: dict[str, Word] = field(default_factory=dict)
    value: Generation | None = None
    votes: set[str] = field(default_factory=set)


class Agreement:
    """The part of one runner."""

    def __init__(
        self,
        name: str,
        generation: Generation,
        now: float,
        *,
        life: int = 0,
        min_devices: int = 1,
        devices: tuple[int, ...] = (),
        former: Record | None = None,
    ) -> None:
        """``generation``: the newest that is known. A runner outside of it would join with these ``devices``; ``former``: what
        its earlier life has recorded."""
        self.name, self.life, self._min_devices = name, life, min_devices
        self.joins = devices
        """Devices of this node whose processes are ready to join."""
        self.record, self._former = Record(generation), former
        self.phase: Phase = "training" if generation.member(name, life) is not None else "joining"
        self.is_leaving = False
        """Whether a person or the hours take this node out."""
        self._holders: set[int] = set()
        self._pausing: float | None = None
        """Since when a change of this generation is wanted."""
        self._paused: set[str] = set()
        self._own = next((one.numbers for one in generation.members if (one.name, one.life) == (name, life)), ())
        self._heard: dict[str, float] = dict.fromkeys((one.name for one in generation.members), now)
        self._joining: dict[str, tuple[int, tuple[int, ...], float]] = {}
        self._dead: dict[str, Record] = {}
        self._changed: dict[str, float] = {}
        self._hears: dict[str, tuple[str, ...]] = {}
        self.is_broken = False
        """Whether collectives of the group failed here, though nobody may be missing."""
        self._ticked = now
        self._last_ones: tuple[Member, ...] = ()
        """Members of a generation that this node was not let out of, as nobody else holds the state."""
        self._proposal: _Proposal | None = None
        self._since: float | None = None
        """When this runner first saw a reason to form the next generation."""
        self._attempt = 0
        self._reason = ""

    @property
    def generation(self) -> Generation:
        """The newest that is known to be decided."""
        return self.record.generation

    @property
    def has_state(self) -> bool:
        """Whether processes of this node hold the state of the training: they have been in a group that formed."""
        return not self._holders.isdisjoint(self._own)

    def note_state(self, numbers: Iterable[int]) -> None:
        """These processes hold the state of the training."""
        self._holders.update(numbers)

    @property
    def is_pausing(self) -> bool:
        """Whether the processes are to stand at their next common step."""
        return self.phase == "training" and self._pausing is not None

    def note_paused(self, now: float) -> list[Output]:
        """All processes of this node stand."""
        if self.phase != "training" or self.name in self._paused:
            return []
        self._pausing = now if self._pausing is None else self._pausing
        self._paused.add(self.name)
        return self._beats(now) + self._go_on(now)

    def lose(self, numbers: tuple[int, ...]) -> None:
        """Processes of this node have ended."""
        self._own = tuple(number for number in self._own if number not in numbers)

    def forget(self, name: str) -> None:
        """The connection with a member is broken: nothing will be heard of it."""
        if name in self._heard:
            self._heard[name] = -inf

    def bury(self, name: str, life: int, record: Record, now: float) -> list[Output]:
        """A third machine proves that a member is dead, and has read its record."""
        if record.generation.number > self.generation.number:
            return self._learn(record.generation, now)
        if self.generation.member(name, life) is not None:
            self._dead[name] = self._about_next(record)
            self._heard.pop(name, None)
        return []

    def tick(self, now: float) -> list[Output]:
        """Beat, and propose where somebody is missing, wants to come or wants to go. About twice a second."""
        if now - self._ticked > SILENCE_S / 2:  # this runner was itself stopped, and knows nothing of the others
            self._heard = {name: heard if heard == -inf else now for name, heard in self._heard.items()}
        self._ticked = now
        if self.phase == "training" and self._pausing is None and self._plans_change(now):
            self._pausing = now
        return self._beats(now) + self._go_on(now)

    def _beats(self, now: float) -> list[Output]:
        beat = Word(
            "beat",
            self.generation.number,
            life=self.life,
            joins=self.joins if self.phase == "joining" else (),
            is_pausing=self.is_pausing,
            is_paused=self.name in self._paused,
            wants_change=self._is_changed(),
            hears=self._joiners(now),
            record=self._former,
        )
        names = {one.name for one in self.generation.members} | self._joining.keys()
        return [Send(name, beat) for name in sorted(names - {self.name})]

    def _go_on(self, now: float) -> list[Output]:
        """Propose where it is due, and this member's turn."""
        out: list[Output] = []
        if self.phase in ("out", "joining"):
            return out
        living, members = self._living(now), [one.name for one in self.generation.members]
        is_due = len(living) < len(members) or self._is_change_due(now) or self.phase != "training"
        if not is_due:
            self._since = self._proposal = None
            return out
        self._since = now if self._since is None else self._since
        if not may_decide(members, living, self._dead):
            missing = ", ".join(name for name in members if name not in living)
            return out + self._wait(f"no word from {missing}, without whom {' and '.join(living)} may not go on")
        if self._proposal is not None and now - self._proposal.since < RETRY_S:
            return out
        if now - self._since < RETRY_S * living.index(self.name):
            return out  # a lower name directs
        return out + self._propose(now, living)

    def hear(self, sender: str, word: Word, now: float) -> list[Output]:
        """Take a message."""
        number = self.generation.number
        if word.kind == "decided" and word.value is not None:
            return self._learn(word.value, now)
        if word.generation < number and word.kind in ("beat", "propose"):
            return self._greet_late(sender, word, now)
        member = self.generation.member(sender, word.life)
        if member is not None:
            self._heard[sender] = now
        elif word.joins:
            self._note_joiner(sender, word, now)
        if word.generation != number:
            return []  # a late word, or one of a generation whose decision is on its way
        match word.kind:
            case "beat":
                self._note_change(sender, word.wants_change, now)
                self._hears[sender] = word.hears
                if member is not None:
                    return self._note_pause(sender, word, now)
            case "propose" if member is not None:
                return self._promise(sender, word)
            case "vote":
                return self._vote(sender, word)
            case "promise":
                return self._collect(sender, word, now)
            case "voted":
                return self._count(sender, word, now)
            case "refused":
                self._attempt = max(self._attempt, word.ballot.attempt)
        return []

    def _living(self, now: float) -> list[str]:
        own = [self.name]
        others = (one.name for one in self.generation.members if one.name != self.name and one.name not in self._dead)
        return sorted(own + [name for name in others if now - self._heard.get(name, now) < SILENCE_S])

    def _is_changed(self) -> bool:
        """Whether the group is broken here, or has lost a process: a change that waits for nobody."""
        member = self.generation.member(self.name, self.life)
        return member is not None and (self.is_broken or member.numbers != self._own)

    def _plans_change(self, now: float) -> bool:
        """Whether this member wants a change that can wait for a common step: it leaves, or somebody is ready to join."""
        others = [self._hears.get(name, ()) for name in self._living(now) if name != self.name]
        is_joined = any(all(name in hears for hears in others) for name in self._joiners(now))
        is_leaving = self.is_leaving and self.generation.members != self._last_ones
        return is_leaving or is_joined or bool(self.joins)

    def _joiners(self, now: float) -> tuple[str, ...]:
        return tuple(sorted(name for name, (_, _, heard) in self._joining.items() if now - heard < SILENCE_S))

    def _note_joiner(self, sender: str, word: Word, now: float) -> None:
        self._joining[sender] = word.life, word.joins, now
        former = next((one for one in self.generation.members if one.name == sender), None)
        if former is not None and former.life < word.life and word.record is not None:
            self._dead[sender] = self._about_next(word.record)

    def _about_next(self, record: Record) -> Record:
        """What a dead member has promised about the next generation: nothing where it died before it knew this one."""
        return record if record.generation.number == self.generation.number else Record(self.generation)

    def _note_change(self, sender: str, is_wanted: bool, now: float) -> None:
        if is_wanted:
            self._changed[sender] = now
        else:
            self._changed.pop(sender, None)

    def _note_pause(self, sender: str, word: Word, now: float) -> list[Output]:
        """A member knows of a wanted change, or its processes stand. The last one to stand has the change begin at once."""
        if self.phase != "training" or not (word.is_pausing or word.is_paused):
            return []
        self._pausing = now if self._pausing is None else self._pausing
        if not word.is_paused or sender in self._paused:
            return []
        self._paused.add(sender)
        return self._go_on(now) if self._is_pause_over(now) else []

    def _is_pause_over(self, now: float) -> bool:
        """Whether a wanted change may be made: all processes stand, or have been waited for long enough."""
        if self._pausing is None:
            return False
        return self._paused.issuperset(self._living(now)) or now - self._pausing >= PAUSE_S

    def _is_change_due(self, now: float) -> bool:
        is_changed = self._is_changed() or any(now - heard < SILENCE_S for heard in self._changed.values())
        return is_changed or self._is_pause_over(now)

    def _wait(self, reason: str) -> list[Output]:
        out: list[Output] = [Stop()] if self.phase == "training" else []
        is_news = self.phase != "waiting" or self._reason != reason
        self.phase, self._reason, self._proposal = "waiting", reason, None
        return [*out, Wait(reason)] if is_news else out

    def _propose(self, now: float, living: list[str]) -> list[Output]:
        promised = [self.record.promised, *(dead.promised for dead in self._dead.values())]
        self._attempt = 1 + max(self._attempt, *(ballot.attempt for ballot in promised))
        self._proposal = _Proposal(Ballot(self._attempt, self.name), now)
        word = Word("propose", self.generation.number, self._proposal.ballot, life=self.life)
        out: list[Output] = [Send(name, word) for name in living if name != self.name]
        return self._promise(self.name, word) + out + self._collect(self.name, self._own_promise(word.ballot), now)

    def _own_promise(self, ballot: Ballot) -> Word:
        numbers = () if self.is_leaving else self._own
        record = self.record
        return Word(
            "promise",
            record.generation.number,
            ballot,
            record.value,
            record.voted,
            numbers,
            spare_numbers=self._own,
            has_state=self.has_state,
            life=self.life,
            joins=() if self.is_leaving else self.joins,
            hears=self._joiners(self._ticked),
        )

    def _promise(self, sender: str, word: Word) -> list[Output]:
        if self.phase in ("out", "joining"):
            return []
        if word.ballot < self.record.promised:
            return [Send(sender, Word("refused", word.generation, self.record.promised, life=self.life))]
        self.record = replace(self.record, promised=word.ballot)
        out: list[Output] = [Stop()] if self.phase == "training" else []
        self.phase = "stopped"
        return out if sender == self.name else [*out, Send(sender, self._own_promise(word.ballot))]

    def _collect(self, sender: str, word: Word, now: float) -> list[Output]:
        proposal = self._proposal
        if proposal is None or word.ballot != proposal.ballot or proposal.value is not None:
            return []
        proposal.promises[sender] = word
        members = [one.name for one in self.generation.members]
        expected = set(self._living(now))
        if not may_decide(members, proposal.promises, self._dead) or expected - proposal.promises.keys():
            return []
        if any(dead.promised > proposal.ballot for dead in self._dead.values()):
            return []
        votes = [(one.voted, one.value) for one in proposal.promises.values()] + [(d.voted, d.value) for d in self._dead.values()]
        newest, value = max(votes, key=lambda pair: pair[0])
        if newest == NO_BALLOT or value is None:
            value = self._next(proposal, now)
            if value is None and proposal.promises.keys() >= set(members) - self._dead.keys():
                return [GiveUp(NO_STATE)]
            if value is None:
                return self._wait(NO_STATE)
            if len(value.numbers) < max(1, self._min_devices):
                return self._wait(f"{len(value.numbers)} devices are left, and the run wants {self._min_devices}")
        proposal.value = value
        vote = Word("vote", self.generation.number, proposal.ballot, value, life=self.life)
        out: list[Output] = [Send(name, vote) for name in sorted(proposal.promises) if name != self.name]
        self.record = replace(self.record, voted=proposal.ballot, value=value)
        return out + self._count(self.name, Word("voted", self.generation.number, proposal.ballot), now)

    def _next(self, proposal: _Proposal, now: float) -> Generation | None:
        """The members that promised, without those that leave unless the others hold no state or are too few.

        None where nobody holds the state.
        """
        promises, value = proposal.promises, None
        for numbers in ({n: w.numbers for n, w in promises.items()}, {n: w.spare_numbers for n, w in promises.items()}):
            if any(numbers[name] and word.has_state for name, word in promises.items()):
                staying = [Member(name, numbers[name], word.life) for name, word in promises.items()]
                known = set(self._joiners(now)).intersection(*(word.hears for word in promises.values()))
                joining = {name: self._joining[name][:2] for name in known}
                value = make_next(self.generation, staying, joining, {name: word.joins for name, word in promises.items()})
                if len(value.numbers) >= self._min_devices:
                    break
        return value

    def _vote(self, sender: str, word: Word) -> list[Output]:
        if self.phase in ("out", "joining") or word.value is None:
            return []
        if word.ballot < self.record.promised:
            return [Send(sender, Word("refused", word.generation, self.record.promised, life=self.life))]
        self.record = replace(self.record, promised=word.ballot, voted=word.ballot, value=word.value)
        return [Send(sender, Word("voted", word.generation, word.ballot, life=self.life))]

    def _count(self, sender: str, word: Word, now: float) -> list[Output]:
        proposal = self._proposal
        if proposal is None or proposal.value is None or word.ballot != proposal.ballot:
            return []
        proposal.votes.add(sender)
        if not may_decide([one.name for one in self.generation.members], proposal.votes, self._dead):
            return []
        value = proposal.value
        told = {one.name for one in (*self.generation.members, *value.members)} - {self.name}
        out: list[Output] = [Send(name, Word("decided", value.number, value=value, life=self.life)) for name in sorted(told)]
        return out + self._learn(value, now)

    def _learn(self, value: Generation, now: float) -> list[Output]:
        if value.number <= self.generation.number:
            return []
        if self.phase == "out":  # a life that has left never comes back, even where somebody has taken in a late word of it
            self.record = Record(value)
            return []
        was_training, is_new, first_new = self.phase == "training", self.phase == "joining", self.generation.next_number
        self.record = Record(value)
        self._pausing = None
        self._paused.clear()
        self._proposal = self._since = None
        self._dead.clear()
        self._changed.clear()
        self._hears.clear()
        self._attempt = 0
        self.is_broken = False
        self._joining = {name: entry for name, entry in self._joining.items() if value.member(name, entry[0]) is None}
        self._heard = {one.name: -inf if self._heard.get(one.name) == -inf else now for one in value.members}
        member = value.member(self.name, self.life)
        stopped: list[Output] = [Stop()] if was_training else []
        if member is not None:
            self._last_ones = value.members if self.is_leaving else ()
            fresh = tuple(number for number in member.numbers if number >= first_new)
            self.phase, self._own = "training", member.numbers if is_new else self._own + fresh
            taken = {member.device_of(number) for number in fresh}
            self.joins = tuple(device for device in self.joins if device not in taken)
            return [*stopped, Form(value)]
        if is_new:
            return []
        self.phase = "out"
        return [*stopped, Leave(value)]

    def _greet_late(self, sender: str, word: Word, now: float) -> list[Output]:
        """Somebody speaks of an older generation: a member that missed the decision, or one that wants to join."""
        if word.joins and self.generation.member(sender, word.life) is None:
            self._note_joiner(sender, word, now)
        return [Send(sender, Word("decided", self.generation.number, value=self.generation, life=self.life))]


def lost_numbers(before: Generation, after: Generation) -> Mapping[str, tuple[int, ...]]:
    """Which processes of which nodes a new generation goes on without."""
    staying = set(after.numbers)
    lost = {one.name: tuple(number for number in one.numbers if number not in staying) for one in before.members}
    return {name: numbers for name, numbers in lost.items() if numbers}
