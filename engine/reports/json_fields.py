"""Reads fields of JSON documents of other machines, which may hold values of any type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def listed(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects in a list field; empty where the field is no list."""
    value = document.get(key)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def numeric(value: object) -> float | None:
    """The value as a float; None where it is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
