"""A generation: who trains together. Which side of a broken run may form the next one, and from whose state it goes on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """One node of a generation."""

    name: str
    numbers: tuple[int, ...]
    """Its processes. A number belongs to one process for ever: whoever joins gets new ones."""
    life: int = 0
    """Which runner of that name: a node that was out and joins again is another one."""
    devices: tuple[int, ...] = ()
    """Of the plan, in the order of the numbers; empty: the numbers are those of the plan."""

    def device_of(self, number: int) -> int:
        """The device of the plan on which one of its processes runs."""
        return self.devices[self.numbers.index(number)] if self.devices else number


@dataclass(frozen=True, slots=True)
class Generation:
    """The members that form one process group."""

    number: int
    members: tuple[Member, ...]
    """By name."""
    next_number: int
    """First number that no process has had."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """All processes: the place of a number in this order is its rank in the group."""
        return tuple(sorted(number for member in self.members for number in member.numbers))

    @property
    def devices(self) -> tuple[int, ...]:
        """Devices of the plan on which they run, in the same order."""
        known = {number: member.device_of(number) for member in self.members for number in member.numbers}
        return tuple(known[number] for number in self.numbers)

    def member(self, name: str, life: int) -> Member | None:
        """A node of this generation; None where it is none."""
        return next((one for one in self.members if (one.name, one.life) == (name, life)), None)


def may_decide(members: Collection[str], voters: Collection[str], dead: Collection[str] = ()) -> bool:
    """Whether these members may decide without the others: more than half, or half of them with the lowest name.

    ``dead``: members that are proved to be dead and whose records were read. They count on no side. Any two sides that may decide
    have a member in common or a record of one, so no two of them go on apart.
    """
    living = set(members) - set(dead)
    side = living & set(voters)
    if not side:
        return False
    return 2 * len(side) > len(living) or (2 * len(side) == len(living) and min(living) in side)


def make_next(
    last: Generation,
    staying: Iterable[Member],
    joining: Mapping[str, tuple[int, tuple[int, ...]]],
    returning: Mapping[str, tuple[int, ...]] | None = None,
) -> Generation:
    """The next generation. ``joining``: life and devices by name; ``returning``: devices of nodes that stay, whose processes have
    been started again. Processes of both get new numbers.
    """
    known = dict(zip(last.numbers, last.devices, strict=True))
    back = returning or {}
    members = {
        one.name: Member(one.name, one.numbers, one.life, tuple(known[number] for number in one.numbers))
        for one in staying
        if one.numbers or back.get(one.name)
    }
    number = last.next_number
    for name in sorted({*members, *joining}):
        if (member := members.get(name)) is None:
            life, devices = joining[name]
            member = Member(name, (), life)
        else:
            devices = back.get(name, ())
        fresh = tuple(range(number, number + len(devices)))
        members[name] = Member(name, member.numbers + fresh, member.life, member.devices + tuple(devices))
        number += len(devices)
    return Generation(last.number + 1, tuple(members[name] for name in sorted(members)), number)


def pick_source(places: Mapping[int, tuple[int, ...]]) -> int:
    """The process whose state all others take over: the one that is furthest, of several the lowest number.

    ``places``: by number, how far it is, such as (steps taken, epochs evaluated). Processes of one group differ by one step at
    most: nobody begins a step before all have exchanged the one before. So at most one step is repeated, and none is lost that
    any of them has taken.
    """
    return min(places, key=lambda number: (tuple(-part for part in places[number]), number))
