"""What a connection may have to ask a person, and who answers. Standard library only: the screens import it too.

Answers are used once and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that only a person can answer."""

    node: str
    """The node whose connection waits."""
    host: str
    """The machine that asks: the node itself or a jump host on the way."""
    kind: str
    """``host key``, ``passphrase``, ``password`` or ``code``."""
    text: str
    """What is asked, in words; may hold text of the other side, so it is shown through the gate."""
    is_secret: bool = True
    """Whether what is typed is hidden; a host key is confirmed with yes."""


Ask = Callable[[Question], Awaitable[str | None]]
"""Put a question to a person; None: no answer, and the connection is given up."""
