"""Which verb a JSON document answers: its ``type``, or what its fields tell where it was written before documents had one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BEFORE_TYPES = (("remedies", "advise"), ("all_reduce", "profile"), ("cases", "bench"), ("epochs", "train"))
"""A field that only this verb's documents had."""


def document_type(document: Mapping[str, Any]) -> str:
    """The name of a verb, such as ``bench``; empty: none is known. The document may be another machine's, so anything may be in it."""
    found = document.get("type")
    if isinstance(found, str):
        return found
    return next((verb for field, verb in _BEFORE_TYPES if field in document), "")
