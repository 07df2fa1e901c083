"""What docs/json.md promises, and what a document really holds, in the same words."""

from __future__ import annotations

import re
from typing import Any

from tests.support.places import CHECKOUT


def paths(value: Any, where: str = "") -> set[str]:
    """Every field of a document, written as docs/json.md writes it."""
    if isinstance(value, dict):
        return set().union(*(paths(item, f"{where}.{key}" if where else key) for key, item in value.items()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(paths(item, f"{where}[]") for item in value))
    return {where}


def documented(verb: str) -> set[str]:
    """The fields that docs/json.md names for a verb."""
    text = (CHECKOUT / "docs/json.md").read_text()
    section = re.search(rf"^## {verb}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/json.md has no section {verb}"
    return set(re.findall(r"^\| `([^`]+)`", section[0], re.MULTILINE))
