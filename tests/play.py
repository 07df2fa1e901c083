"""A recording in the terminal UI: ``python tests/play.py RECORDING [SPEED] [--faulty]``. Tests run it in a real terminal."""

import sys
from pathlib import Path

from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp
from paceline.tui.widgets.sheet import Sheet


class FaultyApp(PacelineApp):
    """Breaks in the middle of drawing when ``p`` is pressed."""

    def action_pause(self) -> None:
        self.screen.query_one("#top", Sheet)._draw = lambda view, width, height: [][1 // 0]
        super().action_pause()


kind = FaultyApp if "--faulty" in sys.argv else PacelineApp
app = kind(ReplaySession(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0), log=Path("logs/control.log"))
app.run()
sys.exit(app.return_code)
