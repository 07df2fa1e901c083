"""The type of a JSON document: its field ``type``, or for older documents a guess from their fields. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]
"""A verb's JSON document, or an object inside one."""
_BEFORE_TYPES = (("remedies", "advise"), ("all_reduce", "profile"), ("cases", "bench"), ("epochs", "train"))
"""A field that only this verb's documents have."""


def document_type(document: Mapping[str, Any]) -> str:
    """The name of the verb, such as ``bench``; empty if unknown. A document of another machine may hold anything."""
    found = document.get("type")
    if isinstance(found, str):
        return found
    return next((verb for field, verb in _BEFORE_TYPES if field in document), "")
