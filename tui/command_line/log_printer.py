"""Prints log lines of a run to a terminal or a pipe: every line made safe, one colour per node where the stream takes colours."""

from __future__ import annotations

import os
import sys
import zlib
from typing import Any, TextIO

from paceline.engine.jobs.logs.merge import MergedLine

from ..terminal.format import local_time, sanitize

MAX_LINE_CHARS = 4000
NODE_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
"""SGR codes; red is reserved for errors."""


def has_colours(stream: TextIO) -> bool:
    """Whether the stream is a terminal with colours and NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def log_line(node: str, rank: int | None, at: float | None, text: str, is_coloured: bool) -> str:
    """One line, without the newline. A node has the same colour wherever it is shown."""
    clock = local_time(at, "%H:%M:%S ")
    source = sanitize(node) + ("" if rank is None else f" [{rank}]")
    if is_coloured:
        source = f"\x1b[{NODE_COLOURS[zlib.crc32(node.encode()) % len(NODE_COLOURS)]}m{source}\x1b[0m"
    return f"{source}  {clock}{sanitize(text, MAX_LINE_CHARS)}"


def log_text(document: dict[str, Any]) -> str:
    """All lines of a ``logs`` document."""
    is_coloured = has_colours(sys.stdout)
    return "\n".join(log_line(line["node"], line["rank"], line["at"], line["text"], is_coloured) for line in document["lines"])


def print_line(line: MergedLine) -> None:
    """Print one line of a followed log at once."""
    print(log_line(line.node, line.rank, line.at, line.text, has_colours(sys.stdout)), flush=True)
