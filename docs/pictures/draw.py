"""Draws every picture of README and guide from the recordings of the demo sessions: ``make pictures``.

What is shown is what the terminal UI showed of real sessions of the embedded lab, at the moments named below.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paceline.engine.errors import PacelineError
from paceline.engine.events import Captioned, Event, NodeLost, SharesChanged, StragglerFound
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recording
from paceline.tui.pictures.draw import gif_bytes, picture_of
from paceline.tui.pictures.moment import IsOver, MomentSession, after
from paceline.tui.stills.still import StillApp

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).resolve().parent
RECORDINGS = HERE.parents[1] / "data" / "demo"
MAX_BYTES = 1 << 20
"""Of any picture: README is read over slow lines too."""
ANIMATED_SIZE = (110, 32)
FRAMES_PER_CAPTION = (0.6, 2.4)
"""Seconds after a caption at which a frame is taken; each is shown for half of CAPTION_SECONDS."""
CAPTION_SECONDS = 4.0


class Picture(NamedTuple):
    """One picture of a screen at a moment of a session."""

    session: str
    screen: str
    moment: Callable[[], IsOver | None]
    """Makes the moment: it may remember what it has seen. None: the end."""


def epoch_of(policy: str, epoch: int) -> Callable[[], IsOver]:
    """When a case has run so many epochs."""

    def is_over(state: State, event: Event) -> bool:
        case = state.run.current if state.run else None
        return case is not None and case.policy == policy and case.epoch >= epoch

    return lambda: is_over


def the_end() -> None:
    """The end of the recording."""


PICTURES = {
    "run": Picture("policies", "run", epoch_of("dynamic", 4)),
    "fleet": Picture("policies", "fleet", epoch_of("dynamic", 4)),
    "results": Picture("policies", "results", the_end),
    "advice": Picture("advice", "advice", the_end),
    "straggler": Picture("straggler", "alerts", lambda: after(StragglerFound, 2.5)),
    "loss": Picture("loss", "alerts", lambda: after(NodeLost, 2.5)),
    "search": Picture("search", "experiments", the_end),
    "script": Picture("script", "run", lambda: after(SharesChanged, 12.0)),
}
ANIMATION = "straggler"


def recording_of(session: str) -> Path:
    """The kept recording of a session. Raises StopIteration where there is none."""
    return next(iter(sorted(RECORDINGS.glob(f"{session}.*"))))


async def draw(picture: Picture) -> bytes:
    """A picture as SVG."""
    async with StillApp(MomentSession(recording_of(picture.session), picture.moment()), picture.screen) as app:
        return app.export_screenshot(title="paceline", simplify=True).encode()


async def frames(session: str) -> list[tuple[Image, float]]:
    """A session as an animation: some frames of what each caption is about, on the screen that it points at."""
    path = recording_of(session)
    captions = [event for event in Recording(path) if isinstance(event, Captioned)]
    drawn, screen = [], "fleet"
    for caption in captions:
        screen = caption.screen or screen
        for seconds in FRAMES_PER_CAPTION:
            moment = caption.at + seconds

            def is_over(state: State, event: Event, moment: float = moment) -> bool:
                return event.at >= moment

            try:
                still = StillApp(MomentSession(path, is_over), screen, ANIMATED_SIZE)
            except PacelineError:  # the recording ends before
                still = StillApp(MomentSession(path), screen, ANIMATED_SIZE)
            async with still as app:
                drawn.append((picture_of(app), CAPTION_SECONDS / len(FRAMES_PER_CAPTION)))
    return drawn


def write(path: Path, data: bytes) -> bool:
    """Write a picture; returns whether it is small enough."""
    path.write_bytes(data)
    print(f"{path}: {len(data):,} bytes{'' if len(data) <= MAX_BYTES else ', too large'}")
    return len(data) <= MAX_BYTES


def main() -> int:
    """Draw all, or those that are named; returns 1 where one is too large."""
    chosen = sys.argv[1:] or [*PICTURES, f"{ANIMATION}.gif"]
    is_small = [write(HERE / f"{name}.svg", asyncio.run(draw(PICTURES[name]))) for name in chosen if name in PICTURES]
    if f"{ANIMATION}.gif" in chosen:
        is_small.append(write(HERE / f"{ANIMATION}.gif", gif_bytes(asyncio.run(frames(ANIMATION)))))
    return 0 if all(is_small) else 1


if __name__ == "__main__":
    sys.exit(main())
