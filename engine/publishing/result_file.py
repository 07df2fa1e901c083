"""A result that a report is made of, and the places of its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..reports.document_type import Document
from .content import Cell, figure


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One result document and where it lies."""

    name: str
    """Run id, or name of the experiment."""
    path: str
    """Its result.json."""
    document: Document

    def at(self, field: str) -> str:
        """The place of a field, for ``Cell.source``."""
        return f"{self.path}#{field}"

    def cells(self, place: str, values: Mapping[str, Any], forms: Iterable[tuple[str, str]]) -> Iterator[Cell]:
        """Cells of fields of one object. ``place``: its path, such as ``rows[2].``; ``forms``: each field and its format."""
        return (figure(values.get(field), form, self.at(f"{place}{field}")) for field, form in forms)
