"""Cuts: which samples of a global batch each rank trains. Pure: order and sizes in, positions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """One rank's part of one global batch, as it was when the batch was cut."""

    sizes: tuple[int, ...]
    """Samples of every rank."""
    rank: int
    is_own: bool = False
    """Whether it is the batch that the unchanged script would have: equal parts, padded by its own sampler."""
    stand_ins: int = 0
    """Samples that a rank without samples runs so that its step does not fail; they weigh nothing."""

    @property
    def own(self) -> int:
        """Samples of this rank that count."""
        return self.sizes[self.rank]

    @property
    def seen(self) -> int:
        """Samples of the batch that the rank was handed."""
        return self.own or self.stand_ins

    @property
    def total(self) -> int:
        """Samples of all ranks."""
        return sum(self.sizes)


def positions(cut: Cut, start: int) -> range:
    """Return this rank's positions in the order of the epoch, for a global batch that begins at ``start``.

    Stand-ins are the first samples of the batch, which another rank trains in the same step: what is finite there is finite here.
    """
    if not cut.own:
        return range(start, start + min(cut.stand_ins, cut.total))
    first = start + sum(cut.sizes[: cut.rank])
    return range(first, first + cut.own)


def at_least(sizes: Sequence[int], low: int) -> tuple[int, ...]:
    """Return sizes with the same sum, none of them between 0 and ``low`` and none 0, as far as the sum allows.

    The ranks that lack samples take them from the largest. Where the sum does not hold ``low`` for every rank, the smallest
    ranks get none.
    """
    low = max(low, 1)
    total, result = sum(sizes), list(sizes)
    by_size = sorted(range(len(result)), key=lambda rank: (-result[rank], rank))
    keep = by_size[: max(1, total // low)]
    for rank in by_size[len(keep) :]:
        result[keep[0]] += result[rank]
        result[rank] = 0
    for rank in keep:
        while result[rank] < low and total >= low * len(keep):
            largest = max(keep, key=lambda one: (result[one], -one))
            result[largest] -= 1
            result[rank] += 1
    return tuple(result)


def equal_sizes(samples: int, ranks: int) -> tuple[int, ...]:
    """Return sizes that differ by one at most."""
    return tuple(samples * (rank + 1) // ranks - samples * rank // ranks for rank in range(ranks))
