"""The factor of a rank's loss, so that DDP's mean over ranks becomes the gradient of the whole batch.

A term S / v of every rank's loss has to become sum(S) / sum(v). With the factor v W / sum(v) on every rank DDP's mean is that. The
sum of the v is either known after backward, from the slot (the gradients get one more common factor), or exchanged before it where
gradients of several backward passes add up, or terms differ. A rank whose samples only stand in has the factor 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any

import torch

from .cuts import Cut
from .loss import Reading

Number = float | torch.Tensor

FIRST_EXCHANGES = 2
"""Exchanges of the library in which counts are always sent, until it is known whether they have to be."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Factors of one backward pass."""

    root: Number = 1.0
    """Of the whole loss."""
    terms: tuple[tuple[Any, Number], ...] = ()
    """Of single terms, by the autograd node that starts them."""
    empty: tuple[tuple[Any, Number], ...] = ()
    """Nodes above which a term is divided by nothing, such as a batch without valid tokens, or by a number that only the device
    knows, and that number: 0 / 0 there is no gradient."""
    count: Number = float("nan")
    """v of this rank, for the slot: the sum of all of them corrects the gradient. NaN: it needs no correction."""


@dataclass(slots=True)
class Weighing:
    """Computes the factors of one process."""

    world: int
    exchange: Callable[[list[Number]], list[Number]]
    """Sums some numbers over all ranks. Collective."""
    is_library: bool
    """Whether a loss that is a plain sum means the sum over all ranks: a script's own DDP divides it by them."""
    ratio: float = 1.0
    """Newest sum of counts over samples of a step, the same on every rank."""
    is_slot_broken: bool = False
    """Whether a hook of the script changes what the slot carries, so that counts need a message."""
    has_messages: bool = False
    """Whether every backward exchanges its counts: agreed by all ranks, as a message that one rank does not send is a deadlock."""
    wants_message: bool = False
    """Whether a loss of this rank has needed one since the last exchange."""
    _is_wanted: bool = False
    _exchanges: int = 0
    _seen: dict[tuple[str, ...], list[tuple[float, set[int]]]] = field(default_factory=dict)
    """For each loss, the count of each term while it never changed, NaN after that, and local batch sizes it was seen with."""

    _per_sample: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    _uneven: set[tuple[str, ...]] = field(default_factory=set)
    """Losses whose counts for each sample have changed."""

    def __post_init__(self) -> None:
        self.has_messages = self.is_library

    def needs_message(self, reading: Reading | None, *, adds_up: bool) -> bool:
        """Whether the counts of a loss have to be exchanged before backward. ``reading``: None for a sum with its count."""
        if self.is_slot_broken:
            return True
        if reading is None:
            return adds_up
        if not reading.terms or self._grow_alike(reading):
            return False
        return adds_up or not self._is_one_count(reading)

    def _grow_alike(self, reading: Reading) -> bool:
        """Whether all counts are so many for each sample, whichever batch: a padded one holds more with longer samples."""
        return reading.signature not in self._uneven and all(term.is_shape for term in reading.terms)

    def _is_one_count(self, reading: Reading) -> bool:
        return len(reading.terms) < 2 or (reading.is_one_count and reading.signature not in self._uneven)

    def of_loss(self, reading: Reading, cut: Cut, *, adds_up: bool) -> Weights:
        """Return the factors for a loss that was read. ``adds_up``: other backward passes share its optimizer step."""
        weights = self._of_terms(reading, cut, adds_up=adds_up)
        empty = tuple(
            (term.innermost, term.count) for term in reading.terms if isinstance(term.count, torch.Tensor) or term.count == 0.0
        )
        return replace(weights, empty=empty) if empty else weights

    def _of_terms(self, reading: Reading, cut: Cut, *, adds_up: bool) -> Weights:
        counts = [term.count for term in reading.terms]
        if self.is_library and counts and all(term.kind == "sum" for term in reading.terms):
            return Weights(root=float(self.world) if cut.own else 0.0)
        self.wants_message |= self.needs_message(reading, adds_up=adds_up)
        weighed = self._without_stand_ins(reading, cut)
        if self.has_messages:
            sums = self.exchange(weighed)
            if not counts:
                return Weights(root=0.0)
            # A penalty on the weights is no term: it keeps the factor 1 on every rank where terms have factors of their own.
            factors = [_ratio(self.world * count, total) if cut.own else 0.0 for count, total in zip(counts, sums, strict=True)]
            if len(factors) == 1:
                return Weights(root=factors[0])
            return Weights(terms=tuple((term.node, factor) for term, factor in zip(reading.terms, factors, strict=True)))
        if adds_up or not self._is_one_count(reading):  # exact where all counts grow with the samples; else the next step is
            return self.of_samples(cut, count=nan if adds_up else cut.own * self.ratio)
        if not counts:
            return Weights(root=0.0, count=0.0)
        return Weights(root=counts[0] / self._reference(cut) if cut.own else 0.0, count=weighed[0])

    def of_sum(self, count: Number, cut: Cut | None, *, adds_up: bool) -> Weights:
        """Return the factor for a sum of losses with its count."""
        is_counted = cut is None or cut.own > 0
        own = count if is_counted else 0.0
        self.wants_message |= self.needs_message(None, adds_up=adds_up)
        if self.has_messages or adds_up or cut is None:  # ``accumulate`` is the same code on every rank
            (total,) = self.exchange([own])
            return Weights(root=_ratio(float(self.world), total) if is_counted else 0.0)
        return Weights(root=1.0 / self._reference(cut) if is_counted else 0.0, count=own)

    def agree(self, wants: Sequence[float]) -> None:
        """Take what all ranks said in one exchange: whether one of them needs messages."""
        self._exchanges += 1
        self.wants_message = False
        if any(wants):
            self._is_wanted = True
        self.has_messages = self._is_wanted or (self.is_library and self._exchanges < FIRST_EXCHANGES)

    def of_samples(self, cut: Cut, part: float = 1.0, count: float = nan) -> Weights:
        """Return the factor for a mean over the samples of the cut, or over a ``part`` of them."""
        return Weights(root=part * self.world * cut.own / cut.total, count=count)

    def correction(self, counts: Sequence[float], samples: int) -> float:
        """Return the factor that all gradients need after the exchange; remember the ratio for the next step.

        ``counts``: of all ranks; ``samples``: of the step.
        """
        total = sum(counts)
        if not isfinite(total) or total == 0.0:
            return 1.0  # no correction is needed, or nothing was counted and there is no gradient
        factor = samples * self.ratio / total
        self.ratio = total / samples
        return 1.0 if abs(factor - 1.0) < 1e-15 else factor

    def _reference(self, cut: Cut) -> float:
        """Mean count of a rank that the factor of this step assumes."""
        return cut.total * self.ratio / self.world

    def remember(self, reading: Reading, cut: Cut) -> None:
        """Note which counts stay the same whatever the samples of the batch."""
        if not cut.own:
            return
        counts = [_fixed(term.count) for term in reading.terms]
        if all(term.is_shape for term in reading.terms):
            each = [count / cut.own for count in counts]
            if self._per_sample.setdefault(reading.signature, each) != each:
                self._uneven.add(reading.signature)
        if reading.signature not in self._seen:
            self._seen[reading.signature] = [(count, {cut.own}) for count in counts]
            return
        for place, (count, (known, owns)) in enumerate(zip(counts, self._seen[reading.signature], strict=False)):
            if count != known:
                self._seen[reading.signature][place] = (nan, owns)
            elif len(owns) < 3:
                owns.add(cut.own)

    def _without_stand_ins(self, reading: Reading, cut: Cut) -> list[Number]:
        """Counts as they enter the sum: those of samples that only stand in do not, a constant divisor does."""
        self.remember(reading, cut)
        if cut.own:
            return [term.count for term in reading.terms]
        known = self._seen.get(reading.signature, [])
        result: list[Number] = []
        for place, term in enumerate(reading.terms):
            value, owns = known[place] if place < len(known) else (nan, set[int]())
            is_constant = term.kind == "sum" or (
                not term.is_shape and not term.is_data and len(owns) > 1 and value == _fixed(term.count)
            )
            result.append(term.count if is_constant else 0.0)
        return result


def no_gradient_without(count: Number) -> Callable[..., tuple[torch.Tensor | None, ...]]:
    """A hook that lets no gradient out of a node where the count is zero."""

    def passed(gradient: torch.Tensor | None) -> torch.Tensor | None:
        if gradient is None:
            return None
        nothing = torch.zeros_like(gradient)
        return torch.where(count.to(gradient.device) != 0, gradient, nothing) if isinstance(count, torch.Tensor) else nothing

    return lambda gradients, _: tuple(map(passed, gradients))


def _fixed(count: Number) -> float:
    """A count that the host knows; NaN, which equals nothing, where only the device does."""
    return count if isinstance(count, float) else nan


def _ratio(value: Number, total: Number) -> Number:
    if isinstance(total, torch.Tensor) or isinstance(value, torch.Tensor):
        quotient = torch.as_tensor(value) / total
        return torch.where(quotient.isfinite(), quotient, torch.zeros_like(quotient))
    return value / total if total else 0.0
