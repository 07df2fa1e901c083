"""A recording in the terminal UI, run by tests in a pty.

Usage: ``python tests/support/screens/play.py RECORDING [SPEED] [--faulty] [--ascii]``
"""

import sys
from pathlib import Path

from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp
from paceline.tui.preferences import Preferences
from paceline.tui.widgets.line_canvas import LineCanvas, RowList


class FaultyApp(PacelineApp):
    """Breaks in the middle of drawing when ``p`` is pressed."""

    def action_pause(self) -> None:
        self.screen.query_one("#top", LineCanvas)._draw = lambda view, width, height: [][1 // 0]
        super().action_pause()


def never_styled(rows: RowList) -> None:
    """Breaks before the list of the first screen is mounted."""
    raise ZeroDivisionError


if "--broken" in sys.argv:
    RowList.notify_style_update = never_styled  # type: ignore[assignment, method-assign]  # its own parameter name
kind = FaultyApp if "--faulty" in sys.argv else PacelineApp
words = [word for word in sys.argv[1:] if not word.startswith("--")]
session = ReplaySession(Path(words[0]), float(words[1]) if len(words) > 1 else 1.0)
app = kind(session, Preferences(ascii="--ascii" in sys.argv), log=Path("logs/control.log"))
app.run()
sys.exit(app.return_code)
