"""``logs/control.log`` beside nodes.toml: log records and tracebacks of the control centre, readable by this user only."""

from __future__ import annotations

import io
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_LOG_BYTES = 1 << 20
"""At this size control.log becomes control.log.1, which is then replaced."""


def log_path(nodes: Path) -> Path:
    """Path of the log that belongs to a nodes.toml."""
    return nodes.parent / "logs" / "control.log"


@contextmanager
def control_log(path: Path) -> Iterator[None]:
    """Write INFO and above of the logger ``paceline`` to the log. The file is created by the first record, not before."""
    logger, handler = logging.getLogger("paceline"), _ControlLogHandler(path)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def write_crash(error: BaseException | None, path: Path | None) -> str:
    """Append the traceback to the log; returns the line for the person. ``path`` None: nothing is written."""
    reason = f"{type(error).__name__}: {error}" if error is not None else "an unknown error"
    text = "".join(traceback.format_exception(error)) if error is not None else ""
    line = f"paceline: a bug in Paceline ended the screen, runs go on: {' '.join(reason.split())[:200]}"
    if path is None:
        return line
    try:
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        with _open_private(path) as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {reason}\n{text}\n")
    except OSError as failure:
        return f"{line} ({path} could not be written: {failure.strerror})"
    return f"{line} ({path})"


def _open_private(path: Path) -> io.TextIOWrapper:
    """The log, opened to append with mode 0600; a symbolic link is refused."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND, 0o600)
    return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")


class _ControlLogHandler(RotatingFileHandler):
    """A bounded, private log file. A record that cannot be written is dropped: standard error belongs to the narration."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s %(name)s: %(message)s"))

    def _open(self) -> io.TextIOWrapper:
        return _open_private(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Drop the record."""
