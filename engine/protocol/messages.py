"""JSON objects that cross between the centre and an agent, one a line.

A request is ``{"id", "ask": word, ...}``; its answer is ``{"id", "answer"}`` or ``{"id", "error": {"type", "reason", "hint"}}``.
Frames of a followed run travel beside the answers as ``{"frame": {...}}``.
"""

from __future__ import annotations

from typing import Any

Body = dict[str, Any]
"""Fields of a request, or of its answer."""
Frame = dict[str, Any]
"""One part of a followed run (see ``protocol.frames``)."""
