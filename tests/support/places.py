"""Where the checkout and the files that tests read from it are."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED_DATA = CHECKOUT.parent / "shared" / "data"
"""Real data sets beside the checkout; tests pass without them."""
PLAY = CHECKOUT / "tests" / "support" / "screens" / "play.py"
"""The program that shows a recording in a pty."""
