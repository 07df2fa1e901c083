"""How the training of a rank goes on in the next group: the group formed again, the state of the furthest member taken over.

No process ends: the model is built anew around the new group, and the weights, the optimizer and the place in the data come from
the member that is furthest. It repeats nothing, the others at most one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ...balancer.policies import Problem
from ...events import GroupReformed, RankEvent, StragglerEnded, StragglerFound
from ...membership.generation import pick_source
from ..checkpoints.writer import Checkpointer
from ..group.peer_failure import is_collateral
from ..group.process_group import Group
from ..group.reform import Regroup, broadcast
from ..trainer import Trainer

Place = tuple[int, int, int, int]
"""Steps taken, epochs evaluated, epoch and offset of the next step."""
_SEED_STEP_BITS = 20


@dataclass
class Members:
    """The group of one case as its members change."""

    regroup: Regroup
    group: Group
    build: Callable[[Group, tuple[int, ...]], Trainer]
    """A trainer of a new group, of these numbers."""
    make_checkpointer: Callable[[tuple[int, ...]], Checkpointer | None]
    checkpointer: Checkpointer | None
    """Of this rank; None: it writes none."""
    seed: int
    _lost: tuple[int, ...] = field(default=())

    @property
    def reason(self) -> str:
        """Why the last group was left."""
        return self.regroup.reason

    def go_on(self, trainer: Trainer, problem: Problem, place: Place) -> tuple[Trainer, Problem, Place]:
        """Leave the broken group; return trainer, shares and place in the next one. Tries again where that breaks, too.

        Raises WorkFailed where the run goes on without this rank, or not at all.
        """
        own, before = trainer.state(), self.regroup.numbers
        while True:
            self.group = self.regroup.next_group()
            numbers = self.regroup.numbers
            try:
                places = {numbers[rank]: row for rank, row in enumerate(self.group.gather([float(part) for part in place]))}
                steps = {number: tuple(int(part) for part in row) for number, row in places.items()}
                source = pick_source(steps)
                fresh = self.build(self.group, numbers)
                _take_over(fresh, own, numbers.index(source))
            except Exception as error:
                if not is_collateral(error):
                    raise
                continue
            self._lost = tuple(number for number in before if number not in numbers)
            at = steps[source]
            torch.manual_seed(self.seed + (at[0] << _SEED_STEP_BITS) + self.regroup.number)
            fresh.trained_samples = trainer.trained_samples
            if self.group.rank == 0 and self.checkpointer is None:
                self.checkpointer = self.make_checkpointer(numbers)
            return fresh, _part_of(problem, before, numbers), (at[0], at[1], at[2], at[3])

    def event(self, step: int, repeated_steps: int, seconds: float) -> GroupReformed:
        """What a rank records of the last change."""
        return GroupReformed(
            generation=self.regroup.generation,
            ranks=self.regroup.numbers,
            lost=self._lost,
            reason=self.reason,
            step=step,
            repeated_steps=repeated_steps,
            seconds=seconds,
        )

    def by_device(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes by rank of the group in the order of the plan's ranks, 0 for those that are lost."""
        known = dict(zip(self.regroup.numbers, sizes, strict=True))
        return tuple(known.get(rank.rank, 0) for rank in self.regroup.plan.ranks)

    def renamed(self, event: RankEvent) -> RankEvent:
        """An event that names a rank of the group, with its number."""
        if isinstance(event, (StragglerFound, StragglerEnded)) and event.straggler is not None and event.straggler >= 0:
            return replace(event, straggler=self.regroup.numbers[event.straggler])
        return event


def _part_of(problem: Problem, before: tuple[int, ...], numbers: tuple[int, ...]) -> Problem:
    """The problem of those members that are left."""
    kept = [rank for rank, number in enumerate(before) if number in numbers]
    return replace(
        problem,
        profile=tuple(problem.profile[rank] for rank in kept),
        lows=tuple(problem.lows[rank] for rank in kept),
        highs=tuple(problem.highs[rank] for rank in kept),
    )


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
