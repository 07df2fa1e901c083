"""Experiments that lie at the centre, for the screen: read from their results, the oldest first."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ...errors import PacelineError
from ...experiments.board import board_of
from ...protocol.json_files import read_json
from ...reports.document_type import Document
from ..runs.result_path import RESULT_FILE

MAX_STORED = 20
"""Newest experiments that are read at the start."""


def stored_boards(directory: Path) -> list[Document]:
    """Boards of the newest experiments that have a result; one that cannot be read is left out."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in directory.glob(f"*/{RESULT_FILE}"):
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime, path))
    boards = []
    for _, path in sorted(found)[-MAX_STORED:]:
        with contextlib.suppress(PacelineError, KeyError, TypeError, ValueError, AttributeError):
            document = read_json(path)
            board = None if document is None else board_of(document)
            if board is not None:
                boards.append(board)
    return boards
