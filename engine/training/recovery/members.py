"""How the training of a rank goes on in the next group: the group formed again, the state of the furthest member taken over.

No process ends: the model is built anew around the new group, and the weights, the optimizer and the place in the data come from
the member that is furthest. It repeats nothing, the others at most one step, and none where all stood at the same step. A process
that has only just come takes over everything, and what was measured when the run began.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from ...balancer.policies import Problem
from ...balancer.step_time import StepTime
from ...errors import WorkFailed
from ...events import GroupReformed, RankEvent, StragglerEnded, StragglerFound
from ...membership.generation import pick_source
from ...states import Precision
from ..checkpoints.resume import checkpoint_writers
from ..checkpoints.writer import Checkpointer
from ..group.peer_failure import is_collateral
from ..group.process_group import Group
from ..group.reform import Formation, Regroup, broadcast
from ..trainer import Trainer

Place = tuple[int, int, int, int]
"""Steps taken, epochs evaluated, epoch and offset of the next step."""
NOWHERE: Place = (-1, -1, -1, -1)
"""Of a process that has only just come."""
_SEED_STEP_BITS = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """What the ranks of the first group measured and agreed on, by rank of the plan."""

    case: str
    profile: tuple[StepTime, ...]
    max_micro_batches: tuple[int, ...]
    precision: Precision

    def to_text(self) -> str:
        """As it is told to whoever comes."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str) -> Measured:
        """Raises ValueError, TypeError or KeyError for what is no such text."""
        document = json.loads(text)
        profile = tuple(StepTime(**one) for one in document["profile"])
        return Measured(str(document["case"]), profile, tuple(document["max_micro_batches"]), document["precision"])


@dataclass
class Members:
    """The group of one case as its members change."""

    regroup: Regroup
    group: Group | None
    """None: this process has yet to form its first one."""
    measured: Measured | None
    """None: to be told by the group that it joins."""
    build: Callable[[Group, Measured], Trainer]
    """A trainer of a new group."""
    problem_of: Callable[[Trainer, Measured, Sequence[int]], Problem]
    """The problem of sharing among these ranks of the plan."""
    make_checkpointer: Callable[[], Checkpointer | None]
    """The writer of this rank; None where the run writes none."""
    checkpointer: Checkpointer | None
    """Of this rank; None: it writes none."""
    seed: int
    _before: Formation = field(init=False)

    def __post_init__(self) -> None:
        """The group before the first change."""
        self._before = self.regroup.formation

    @property
    def reason(self) -> str:
        """Why the last group was left."""
        return self.regroup.formation.reason

    def go_on(self, trainer: Trainer | None, place: Place, *, is_planned: bool = False) -> tuple[Trainer, Problem, Place]:
        """Leave the group; return trainer, shares and place in the next one. Tries again where that breaks, too.

        ``trainer``: None in a process that has only just come; ``is_planned``: all ranks stand at this place. Raises WorkFailed
        where the run goes on without this rank, or not at all.
        """
        own = None if trainer is None else trainer.state()
        before = self.regroup.formation
        if trainer is None:
            kept = [pair for pair in zip(before.numbers, before.devices, strict=True) if pair[0] != self.regroup.number]
            before = replace(before, numbers=tuple(one[0] for one in kept), devices=tuple(one[1] for one in kept))
        while True:
            group = self.group = self.regroup.next_group(is_planned=is_planned)
            is_planned = False
            formation = self.regroup.formation
            try:
                places = {
                    formation.numbers[rank]: (int(row[0]), int(row[1]), int(row[2]), int(row[3]))
                    for rank, row in enumerate(group.gather([float(part) for part in place]))
                }
                source = pick_source(places)
                if places[source] == NOWHERE:
                    raise WorkFailed("no process is left that holds the state of the training")
                measured = self._share_measured(group, source, is_anybody_new=NOWHERE in places.values())
                fresh = self.build(group, measured)
                _take_over(fresh, own or fresh.state(), formation.numbers.index(source))
            except Exception as error:
                if not is_collateral(error):
                    raise
                continue
            self._before = before
            at = places[source]
            torch.manual_seed(self.seed + (at[0] << _SEED_STEP_BITS) + self.regroup.number)
            if trainer is not None:
                fresh.trained_samples = trainer.trained_samples
            self._choose_writer(formation)
            self.regroup.tell_formed()
            return fresh, self.problem_of(fresh, measured, formation.devices), at

    def event(self, step: int, repeated_steps: int, seconds: float) -> GroupReformed:
        """What a rank records of the last change."""
        before, now = self._before, self.regroup.formation
        return GroupReformed(
            generation=now.generation,
            ranks=now.devices,
            numbers=now.numbers,
            lost=tuple(device for number, device in zip(before.numbers, before.devices, strict=True) if number not in now.numbers),
            joined=tuple(device for number, device in zip(now.numbers, now.devices, strict=True) if number not in before.numbers),
            reason=self.reason,
            step=step,
            repeated_steps=repeated_steps,
            seconds=seconds,
        )

    def by_device(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes by rank of the group in the order of the plan's ranks, 0 for those that are lost."""
        known = dict(zip(self.regroup.formation.devices, sizes, strict=True))
        return tuple(known.get(rank.rank, 0) for rank in self.regroup.plan.ranks)

    def renamed(self, event: RankEvent) -> RankEvent:
        """An event that names a rank of the group, with that of the plan."""
        if isinstance(event, (StragglerFound, StragglerEnded)) and event.straggler is not None and event.straggler >= 0:
            return replace(event, straggler=self.regroup.formation.devices[event.straggler])
        return event

    def _share_measured(self, group: Group, source: int, *, is_anybody_new: bool) -> Measured:
        """What was measured when the run began: told by the source, where somebody has only just come."""
        formation = self.regroup.formation
        if is_anybody_new and formation.numbers[group.rank] == source and self.measured is not None:
            group.tell("measured", self.measured.to_text())
        if self.measured is None:
            self.measured = Measured.from_text(group.hear("measured"))
        return self.measured

    def _choose_writer(self, formation: Formation) -> None:
        """Two nodes keep a copy of each checkpoint: a rank takes the place of a writer that is lost."""
        is_writer = self.regroup.rank in checkpoint_writers(self.regroup.plan, formation.devices)
        if is_writer and self.checkpointer is None:
            self.checkpointer = self.make_checkpointer()
        elif not is_writer and self.checkpointer is not None:
            self.checkpointer.wait()
            self.checkpointer = None


def _take_over(trainer: Trainer, own: dict[str, Any], source: int) -> None:
    """Give a new trainer the state of one rank. Collective."""
    has_moments = bool(own["optimizer"]["state"])
    flags = torch.tensor([float(has_moments), float(own["loss_scale"])], dtype=torch.float64)
    broadcast([flags], source)
    trainer.replica.model.load_state_dict(own["model"])
    if has_moments:
        trainer.optimizer.load_state_dict(own["optimizer"])
    if flags[0] and not has_moments:
        _make_moments(trainer.optimizer)
    tensors = [tensor for _, tensor in sorted(trainer.replica.model.state_dict().items())]
    if flags[0]:
        state = trainer.optimizer.state_dict()["state"]
        tensors += [state[index][name] for index in sorted(state) for name in sorted(state[index])]
    broadcast(tensors, source)
    if trainer.loss_scale.is_used:
        trainer.loss_scale.value = float(flags[1])


def _make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give Adam the state that its first step makes, to be overwritten."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[weight] = {"step": torch.zeros((), dtype=torch.float32), **moments}
