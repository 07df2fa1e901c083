"""Lines of a run on a terminal or in a pipe: every line through the gate, one colour a node where a terminal wants colours."""

from __future__ import annotations

import os
import sys
import zlib
from typing import Any, TextIO

from ..terminal.format import moment, untrusted

WIDTH = 4000
"""Characters of a line that are shown."""
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
"""SGR numbers; red is left for trouble."""


def has_colours(stream: TextIO) -> bool:
    """Whether a person looks and has not asked for none (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def log_line(node: str, rank: int | None, at: float | None, text: str, is_coloured: bool) -> str:
    """One line, without the newline. A node has the same colour wherever it is shown."""
    clock = moment(at, "%H:%M:%S ")
    who = untrusted(node) + ("" if rank is None else f" [{rank}]")
    if is_coloured:
        who = f"\x1b[{COLOURS[zlib.crc32(node.encode()) % len(COLOURS)]}m{who}\x1b[0m"
    return f"{who}  {clock}{untrusted(text, WIDTH)}"


def log_text(document: dict[str, Any]) -> str:
    """All lines of a document of ``logs``."""
    is_coloured = has_colours(sys.stdout)
    return "\n".join(log_line(one["node"], one["rank"], one["at"], one["text"], is_coloured) for one in document["lines"])


def show(line: Any) -> None:
    """Print a line as it comes (engine.jobs.merging.Line)."""
    print(log_line(line.node, line.rank, line.at, line.text, has_colours(sys.stdout)), flush=True)
