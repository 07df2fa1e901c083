"""Stratified training and validation split of labelled rows, shuffled by a hash."""

from __future__ import annotations

import hashlib
from collections import Counter

VALIDATION_FRACTION = 0.2


def split_by_class(labels: list[int], seed: str, fraction: float = VALIDATION_FRACTION) -> tuple[list[int], list[int]]:
    """Indices of the training and the validation rows, both shuffled, stratified by class. ``fraction``: of validation.

    The order comes from a hash and not from a random generator, whose sequence a new release could change.
    """
    shuffled = sorted(range(len(labels)), key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())
    left = {label: round(count * fraction) for label, count in Counter(labels).items()}
    train: list[int] = []
    validation: list[int] = []
    for index in shuffled:
        if left[labels[index]] > 0:
            left[labels[index]] -= 1
            validation.append(index)
        else:
            train.append(index)
    return train, validation


def split_facts(train: list[int], validation: list[int], seed: str) -> dict[str, object]:
    """The manifest's entry about the split."""
    rule = "by class, in the order of sha256 of seed:index"
    return {"rule": rule, "seed": seed, "train": len(train), "validation": len(validation)}


def some_rows(count: int, limit: int, seed: str) -> list[int]:
    """``limit`` of ``count`` row numbers, ascending, chosen by a hash, so that files sorted by class give all classes; 0: all."""
    if not limit or limit >= count:
        return list(range(count))
    return sorted(sorted(range(count), key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest())[:limit])


def validation_fraction(train: int, validation: int) -> float:
    """The fraction of rows to judge by, where a source has one part only and these largest numbers are wanted; 0: no limit."""
    return validation / (train + validation) if train and validation else VALIDATION_FRACTION
