"""Shows a recording in the terminal UI: ``python tests/play.py RECORDING [SPEED]``. The tests run it in a real terminal."""

import sys
from pathlib import Path

from paceline.engine.telemetry.replay import ReplaySession
from paceline.tui.app import PacelineApp

app = PacelineApp(ReplaySession(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0))
app.run()
sys.exit(app.return_code)
