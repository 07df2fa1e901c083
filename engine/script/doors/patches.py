"""Replaces functions of torch inside this process, and puts them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Functions replaced so far."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by ``make(original)``; a name that this version of torch lacks is left alone."""
        original = vars(owner).get(name)
        if original is None:
            return
        setattr(owner, name, make(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def add(self, undo: Callable[[], None]) -> None:
        """Remember how to undo another change."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Put everything back, the newest first."""
        while self._undo:
            self._undo.pop()()
