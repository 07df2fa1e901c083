"""Names inside a packed project, which the centre writes and every node reads."""

from __future__ import annotations

MANIFEST = "manifest.json"
"""``{"files": {path: {"size", "executable"}}}``."""
FILES = "files"
"""Directory of the files, in the order of the project."""
WORK_DIRECTORY = "work"
"""Directory of a run that holds its own copy of the files: a script writes beside them."""
