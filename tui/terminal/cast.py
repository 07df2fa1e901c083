"""Writes what a terminal is sent as an asciicast, version 2 or 3: asciinema's format of recorded terminals.

Each event is one write, so a crash loses at most one. A write error ends the cast, not the session.
Formats: https://docs.asciinema.org/manual/asciicast/v2/ and .../v3/.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from paceline.engine.errors import StorageFailed, UsageError

from .format import sanitize

CastVersion = Literal[2, 3]
CAST_VERSIONS = (2, 3)
MAX_MARKER_CHARS = 120
IDLE_LIMIT_S = 3.0
"""Longest pause that a player keeps."""
_NOT_FOR_PLAYERS = re.compile(
    r"\x1b\[(?:\?(?:1000|1002|1003|1004|1006|1015|1016|2004|2031|2048)[hl]"  # mouse, focus, paste, colour scheme, in-band resize
    r"|[<>=]\d*(?:;\d+)*u|\?u"  # keyboard protocol
    r"|\?\d+\$p|[>=]?\d*c|>\d*q|\?996n|[56]n|1[0-9](?:;\d+)*t)"  # queries, which a terminal answers
    r"|\x1b\](?:1[0-9]|4;\d+);\?(?:\x07|\x1b\\)"  # queries of colours
)
"""What is about the terminal itself: a player would pass it on, and the viewer's terminal would answer or change its modes."""
_ALTERNATE_SCREEN = re.compile(r"\x1b\[\?1049[hl]")
_CLEARED, _LEFT = "\x1b[H\x1b[2J", "\x1b[0m\x1b[?7h\x1b[?25h\x1b[{lines};1H"
"""Instead of the alternate screen a cast clears the screen, so that its last picture stays when a player has ended."""


class CastWriter:
    """One cast. Times are seconds of the given clock since the cast began."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        clock: Callable[[], float],
        *,
        version: CastVersion = 2,
        header: Mapping[str, object],
    ) -> None:
        """Create the file, readable by its owner only; never overwrites one. Raises UsageError or StorageFailed.

        ``size``: columns and lines. ``header``: what else the header says, such as title, timestamp and term.
        """
        self.path, self.version = path, version
        self.failure: StorageFailed | None = None
        """Why it ended before the session; None: it did not."""
        self._clock = clock
        self._start = self._last = clock()
        self._size = size
        self._is_open = True
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="choose another name") from None
        except OSError as error:
            raise StorageFailed(f"cannot write the cast {path}: {_error_text(error)}") from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._write(_header(version, size, dict(header)))

    def output(self, text: str) -> None:
        """The terminal was sent this text."""
        shown = _ALTERNATE_SCREEN.sub(lambda code: _CLEARED if code[0].endswith("h") else "", _NOT_FOR_PLAYERS.sub("", text))
        if shown:
            self._event("o", shown.encode("utf-8", "replace").decode())

    def resize(self, size: tuple[int, int]) -> None:
        """The terminal has another size: columns and lines."""
        if size != self._size:
            self._size = size
            self._event("r", f"{size[0]}x{size[1]}")

    def marker(self, label: str) -> None:
        """Something happened that a viewer may want to jump to."""
        self._event("m", sanitize(label, MAX_MARKER_CHARS))

    def close(self, status: int | None = None) -> None:
        """End the cast; what is written later is left out. ``status``: exit status of the program, which only version 3 holds."""
        self._event("o", _LEFT.format(lines=self._size[1]))
        if self._is_open and self.version == 3 and status is not None:
            self._event("x", str(status))
        self._is_open = False
        self._file.close()

    def _event(self, code: str, data: str) -> None:
        if not self._is_open:
            return
        now = self._clock()
        # Version 3 counts from the event before, so what was rounded off must not add up: the rounded moment is what is kept.
        moment = max(round(now - self._start, 6), self._last - self._start if self.version == 3 else 0.0)
        time = round(moment - (self._last - self._start), 6) if self.version == 3 else moment
        self._last = self._start + moment
        self._write([time, code, data])

    def _write(self, value: object) -> None:
        data = memoryview(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._is_open = False
            self._file.close()
            self.failure = StorageFailed(f"the cast {self.path} stopped: {_error_text(error)}", hint="the session goes on")


def _header(version: CastVersion, size: tuple[int, int], values: dict[str, object]) -> dict[str, object]:
    terminal = str(values.pop("term", "") or "xterm-256color")
    kept = {name: value for name, value in values.items() if value is not None}
    if version == 3:
        return {"version": 3, "term": {"cols": size[0], "rows": size[1], "type": terminal}, "idle_time_limit": IDLE_LIMIT_S, **kept}
    return {"version": 2, "width": size[0], "height": size[1], "idle_time_limit": IDLE_LIMIT_S, "env": {"TERM": terminal}, **kept}


def _error_text(error: OSError) -> str:
    return "no space left on the device" if error.errno == errno.ENOSPC else (error.strerror or type(error).__name__).lower()
