"""A result that a report is made of, and the places of its fields."""

from __future__ import annotations

from dataclasses import dataclass

from ..reports.document_type import Document


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
