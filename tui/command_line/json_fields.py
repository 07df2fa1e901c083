"""Fields of JSON documents, which other machines wrote and which may hold anything: of the right kind, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def listed(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list; what else stands there is left out."""
    found = document.get(key)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def numeric(value: object) -> float | None:
    """A number that is one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
