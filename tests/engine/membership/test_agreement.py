"""Who trains together after a fault: who may decide, who is told that it is out, and whole schedules by a virtual clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from paceline.engine.membership.agreement import (
    PAUSE_S,
    Agreement,
    Form,
    GiveUp,
    Leave,
    Output,
    Send,
    Stop,
    Wait,
    Word,
    lost_numbers,
)
from paceline.engine.membership.generation import Generation, Member, make_next, may_decide, pick_source

from tests.support.runs.membership_lab import MembershipLab

SCHEDULES = 6
"""Of faults, by a virtual clock; ``benchmarks jobs/membership`` plays 10,000."""


def first(*names: str, numbers: int = 1) -> Generation:
    members = (Member(name, tuple(range(i * numbers, (i + 1) * numbers))) for i, name in enumerate(names))
    return Generation(0, tuple(members), len(names) * numbers)


class Talk:
    """Agreements that hear each other at once."""

    def __init__(self, *names: str, min_devices: int = 1, numbers: int = 1) -> None:
        self.now = 0.0
        generation = first(*names, numbers=numbers)
        self.of = {name: Agreement(name, generation, 0.0, min_devices=min_devices) for name in names}
        self.gone: set[str] = set()
        self.out: dict[str, list[object]] = {name: [] for name in names}
        for agreement in self.of.values():
            agreement.note_state(agreement.generation.numbers)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            for name in [name for name in self.of if name not in self.gone]:
                self._take(name, self.of[name].tick(self.now))

    def stand(self, *names: str) -> None:
        """The processes of these nodes stand."""
        for name in names:
            self._take(name, self.of[name].note_paused(self.now))

    def _take(self, name: str, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if not isinstance(output, Send):
                self.out[name].append(output)
            elif output.to in self.of and output.to not in self.gone:
                self._take(output.to, self.of[output.to].hear(name, output.word, self.now))


def test_two_sides_never_both_decide_whatever_is_known_to_be_dead() -> None:
    members = tuple("abcde")
    for size in range(1, 6):
        for split in itertools.product((True, False), repeat=size):
            left = {name for name, is_left in zip(members, split, strict=False) if is_left}
            right = set(members[:size]) - left
            assert not (may_decide(members[:size], left) and may_decide(members[:size], right))
            assert may_decide(members[:size], left) or may_decide(members[:size], right)
    assert may_decide(("a", "b"), ("b",), dead=("a",))
    assert not may_decide(("a", "b"), ("b",))


def test_the_survivors_go_on_without_a_silent_node_and_keep_their_numbers() -> None:
    talk = Talk("n0", "n1", "n2")
    talk.run(5)
    assert talk.out["n0"] == []
    talk.gone.add("n0")
    talk.run(4)
    for name in ("n1", "n2"):
        stop, form = talk.out[name]
        assert isinstance(stop, Stop)
        assert isinstance(form, Form)
        assert (form.generation.number, form.generation.numbers) == (1, (1, 2))
    assert lost_numbers(first("n0", "n1", "n2"), talk.of["n1"].generation) == {"n0": (0,)}
    talk.gone.clear()  # it was only stopped
    talk.run(2)
    assert isinstance(talk.out["n0"][-1], Leave)


def test_half_of_the_nodes_without_the_lowest_name_waits_and_says_so() -> None:
    talk = Talk("n0", "n1")
    talk.gone.add("n0")
    talk.run(6)
    waits = [output for output in talk.out["n1"] if isinstance(output, Wait)]
    assert [wait.reason for wait in waits] == ["no word from n0, without whom n1 may not go on"]
    talk.gone.clear()
    talk.run(6)
    assert talk.of["n0"].generation == talk.of["n1"].generation
    assert talk.of["n1"].phase == "training"


def test_fewer_devices_than_a_person_wants_wait() -> None:
    talk = Talk("n0", "n1", "n2", min_devices=3)
    talk.gone.add("n2")
    talk.run(6)
    assert talk.of["n0"].generation.number == 0
    assert any(isinstance(one, Wait) and "2 devices are left, and the run wants 3" in one.reason for one in talk.out["n0"])


def test_the_last_holders_of_the_state_are_not_taken_out() -> None:
    talk = Talk("n0")
    talk.of["n0"].is_leaving = True
    talk.run(4)
    assert talk.of["n0"].generation.numbers == (0,)


def test_a_wanted_change_waits_until_the_processes_of_all_members_stand() -> None:
    talk = Talk("n0", "n1", "n2")
    talk.of["n2"].is_leaving = True
    talk.run(5)
    assert all(one.is_pausing and one.generation.number == 0 for one in talk.of.values())
    talk.stand("n2", "n0")
    talk.run(5)
    assert not any(talk.out.values())
    talk.stand("n1")
    assert [type(one) for one in talk.out["n0"]] == [Stop, Form]
    assert [type(one) for one in talk.out["n2"]] == [Stop, Leave]
    assert talk.of["n0"].generation.numbers == (0, 1)
    assert not any(one.is_pausing for one in talk.of.values())


def test_a_wanted_change_is_made_although_a_process_does_not_stand_in_time() -> None:
    talk = Talk("n0", "n1")
    talk.of["n1"].is_leaving = True
    talk.run(PAUSE_S + 2)
    assert talk.of["n0"].generation.numbers == (0,)


def test_a_node_does_not_leave_where_too_few_devices_would_be_left() -> None:
    talk = Talk("n0", "n1", min_devices=2)
    talk.of["n1"].is_leaving = True
    talk.run(1)
    talk.stand("n0", "n1")
    talk.run(5)
    assert talk.of["n0"].generation.numbers == talk.of["n1"].generation.numbers == (0, 1)
    assert talk.of["n0"].phase == "training"
    assert not talk.of["n0"].is_pausing


def test_a_process_that_is_started_again_gets_a_new_number_on_its_device() -> None:
    talk = Talk("n0", "n1", numbers=2)
    talk.of["n1"].lose((2,))
    talk.run(3)
    assert talk.of["n0"].generation.numbers == (0, 1, 3)
    talk.of["n1"].joins = (2,)
    talk.run(1)
    talk.stand("n0", "n1")
    for one in talk.of.values():
        assert (one.generation.numbers, one.generation.devices) == ((0, 1, 3, 4), (0, 1, 3, 2))
    assert not talk.of["n1"].joins
    talk.run(5)
    assert talk.of["n0"].generation.number == 2


def test_nobody_waits_where_all_members_are_here_and_none_holds_the_state() -> None:
    talk = Talk("n0", "n1")
    for number, name in enumerate(talk.of):
        talk.of[name].lose((number,))
    talk.run(3)
    assert any(isinstance(one, GiveUp) for outputs in talk.out.values() for one in outputs)


def test_a_node_whose_last_process_has_ended_leaves() -> None:
    talk = Talk("n0", "n1")
    talk.of["n1"].lose((1,))
    talk.run(2)
    assert talk.of["n0"].generation.numbers == (0,)
    assert isinstance(talk.out["n1"][-1], Leave)


def test_whoever_joins_gets_numbers_that_nobody_has_had() -> None:
    grown = make_next(first("n0", "n1"), [Member("n0", (0,))], {"n1": (1, (1, 7)), "n9": (0, (8,))}, {"n0": (5,)})
    assert [(member.name, member.numbers) for member in grown.members] == [("n0", (0, 2)), ("n1", (3, 4)), ("n9", (5,))]
    assert grown.devices == (0, 5, 1, 7, 8)
    assert grown.next_number == 6


def test_the_state_of_whoever_is_furthest_is_taken_over() -> None:
    assert pick_source({4: (7, 0), 2: (8, 0), 3: (8, 0)}) == 2
    assert pick_source({0: (8, 0), 1: (8, 1)}) == 1


def test_every_sample_counts_once_whatever_happens_to_nodes_paths_and_centre(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(SCHEDULES):
        MembershipLab(draw.randrange(1 << 30), steps=60).run(fault_seconds=20.0)


@pytest.mark.slow
def test_five_hundred_schedules_of_faults(seed: int) -> None:
    for number in range(500):
        MembershipLab(seed + number).run()


def test_a_life_that_has_left_never_takes_part_again_though_a_late_word_of_it_takes_it_in() -> None:
    first = Generation(0, (Member("n0", (0,)), Member("n1", (1,))), 2)
    left = Agreement("n1", first, 0.0)
    without = Generation(1, (Member("n0", (0,), 0, (0,)),), 2)
    with_late_word = Generation(2, (Member("n0", (0,), 0, (0,)), Member("n1", (2,), 0, (1,))), 3)
    left.hear("n0", Word("decided", 1, value=without), 1.0)
    assert left.phase == "out"
    assert left.hear("n0", Word("decided", 2, value=with_late_word), 2.0) == []
    assert (left.phase, left.generation) == ("out", with_late_word)
