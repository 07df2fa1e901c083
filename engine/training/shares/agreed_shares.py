"""The shares of the next step: every rank decides them by itself, and no rank uses shares that another one could not decide.

``decide`` gives all ranks the same result, unless it fails on one of them. That rank then keeps its last shares and says so in its
slot of the next step. When the slots of a step name such a rank, all ranks return to the shares of the step before, which every
rank had decided, and these rest until the case ends. A step that ranks took with different shares in the meantime is void: no
optimizer takes it, and it is repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ...balancer.policies import Decision, Memory, Observation, Problem, decide, sizes_for, start
from ...errors import PlanImpossible, WorkFailed
from ...events import SharesChanged
from ..guard import Guard
from .step_stats import RankReport

_REMEMBERED_STEPS = 4
"""A GPU's slots are read one step late, so three steps are needed."""


class AgreedShares:
    """The balancer of one case on one rank; its failures change no share."""

    def __init__(self, problem: Problem, guard: Guard) -> None:
        """Raises PlanImpossible, on all ranks alike, where the devices' memory does not hold the batch."""
        self._problem, self._guard = problem, guard
        self.is_undecided = False
        """Whether this rank could not decide; all ranks have to know it before shares can rest."""
        self.is_resting = False
        """Whether a rank could not decide in this case, so that shares no longer change."""
        try:
            self.memory = start(problem)
        except PlanImpossible:
            raise
        except Exception as error:
            self._fail(error)
            self.memory = Memory(_split_like((1,) * len(problem.profile), problem.global_batch_size), ())
        self._used: deque[tuple[int, Memory]] = deque(maxlen=_REMEMBERED_STEPS)
        """The newest steps, and the memory that each was taken with."""

    def sizes_for(self, step: int, size: int) -> tuple[int, ...]:
        """Return the local batch sizes of a step of that many samples."""
        self._used.append((step, self.memory))
        shares = self.memory.local_batch_sizes
        if size == self._problem.global_batch_size:
            return shares
        if self.is_undecided or self.is_resting:
            return _split_like(shares, size)
        try:
            sizes = sizes_for(self._problem, self.memory, size)
            _check(sizes, size)
        except Exception as error:
            self._fail(error)
            return _split_like(shares, size)
        return sizes

    def decide(self, report: RankReport) -> Decision | None:
        """Take the report of a full step; return the decision about the next one, None where shares rest."""
        if self.is_undecided or self.is_resting:
            return None
        observed = [Observation(seconds, samples) for seconds, samples in zip(report.seconds, report.samples, strict=True)]
        try:
            decision = decide(self._problem, self.memory, observed)
            _check(decision.local_batch_sizes, self._problem.global_batch_size)
        except Exception as error:
            self._fail(error)
            return None
        self.memory = decision.memory
        return decision

    def agree(self, step: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rest on the shares from before ``step``, the first that names a rank without a decision; return old and new shares."""
        before = self.memory.local_batch_sizes
        earlier = [memory for used_step, memory in self._used if used_step < step]
        shares = earlier[-1].local_batch_sizes if earlier else _split_like((1,) * len(before), sum(before))
        self.memory = replace(self.memory, local_batch_sizes=shares)
        self.is_undecided, self.is_resting = False, True
        return before, shares

    def _fail(self, error: Exception) -> None:
        self.is_undecided = True
        self._guard.report("balancing", error)


def _check(sizes: Sequence[int], samples: int) -> None:
    if sum(sizes) != samples or min(sizes) < 0:
        raise WorkFailed(f"the balancer shared {samples} samples as {tuple(sizes)}")


def _split_like(shares: Sequence[int], samples: int) -> tuple[int, ...]:
    """Return sizes in proportion to ``shares`` that sum to ``samples``: floors of the cumulated shares, so nothing can fail."""
    total, sizes, given, cumulated = sum(shares), [], 0, 0
    for share in shares:
        cumulated += share
        upto = samples * cumulated // total
        sizes.append(upto - given)
        given = upto
    return tuple(sizes)


def shares_changed(step: int, before: Memory, decision: Decision) -> SharesChanged:
    """The event of a decision that changes the shares from a step on."""
    return SharesChanged(
        step=step,
        before=before.local_batch_sizes,
        after=decision.local_batch_sizes,
        reason=decision.reason,
        predicted_before=decision.predicted_before,
        predicted_after=decision.predicted_after,
    )
