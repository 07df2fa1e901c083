"""The log lines of a run in a recording: the events in words, and what of its output was kept, up to the moment of the replay.

It answers the same questions as an index of files. The recording is read once, in the thread that scans.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...errors import PacelineError
from ...events import Event, OutputSeen, RankEvent, RunEnded, Ticked
from ...telemetry.recording import Recording
from ...wire import decode
from ..mirror.levels import is_at_least
from ..mirror.notable_lines import output_lines
from .event_sentence import sentence
from .event_text import parse_rank
from .line_index import IndexedLine, LineFilter
from .merge import Clock

_PASSED_OVER = tuple(
    f'{{"kind":"{kind}"'.encode()
    for kind in ("StepsTaken", "NodeReported", "RankEpochEnded", "ReadingsRecorded", "ReadingsKept", "DeviceUsed", "ProfileStored")
)
"""How lines begin that are no sentence: nearly all."""
_TICK = b'{"kind":"Ticked"'


class RecordedLines:
    """The lines of one run. ``scan`` may run in a thread; all other methods belong to one event loop."""

    def __init__(self, recording: Recording, run_id: str, now: Callable[[], float]) -> None:
        """``now``: the second of the stream up to which lines are shown."""
        self._recording, self._run_id, self._now = recording, run_id, now
        self._times: list[float] = []
        self._lines: list[IndexedLine] = []
        self._is_read = False
        self._seen = -1
        self._shown: list[int] = []
        self._shown_until = -1
        self.filter = LineFilter()
        self.clocks: Mapping[str, Clock] = {}

    def __len__(self) -> int:
        self._update()
        return len(self._shown)

    def scan(self) -> Sequence[object]:
        """Read the recording, once. Not empty: there are other lines to show than at the last scan."""
        if not self._is_read:
            self._is_read = True
            found = list(self._read())
            self._times, self._lines = [at for at, _ in found], [line for _, line in found]
        visible = self._visible()
        changed, self._seen = visible != self._seen, visible
        return (visible,) if changed else ()

    def add(self, found: Sequence[object]) -> None:
        """Nothing: a scan shows what it has found."""

    def set_filter(self, wanted: LineFilter) -> None:
        """Show only the lines that pass the filter."""
        self.filter, self._shown_until = wanted, -1

    def line(self, number: int) -> IndexedLine:
        """One of the lines shown, by its number."""
        return self._lines[self._shown[number]]

    def line_at(self, at: float) -> int:
        """Number of the first line shown at or after ``at``, seconds since 1970; the last line where all are older."""
        number = bisect_left(self._shown, at, key=lambda place: self._lines[place].at or 0.0)
        return min(number, max(0, len(self) - 1))

    def find(self, text: str, start: int, step: int) -> int | None:
        """The next line from ``start`` on that contains the text, ignoring case; ``step``: 1 or -1. None: there is no such line."""
        needle = text.casefold()
        numbers = range(start, len(self) if step > 0 else -1, step)
        return next((number for number in numbers if number >= 0 and needle in self.line(number).text.casefold()), None)

    def _visible(self) -> int:
        return bisect_right(self._times, self._now())

    def _update(self) -> None:
        visible = self._visible()
        if visible != self._shown_until:
            self._shown = [place for place in range(visible) if self._passes(self._lines[place])]
            self._shown_until = visible

    def _passes(self, line: IndexedLine) -> bool:
        wanted = self.filter
        return (
            wanted.node in (None, line.node)
            and (wanted.rank is None or line.rank in (None, wanted.rank))
            and is_at_least(line.level, wanted.level)
            and (wanted.since is None or line.at is None or line.at >= wanted.since)
        )

    # Reading the recording ------------------------------------------------------------------------------------------------------

    def _read(self) -> Iterator[tuple[float, IndexedLine]]:
        """Second of the stream and text of each line. What cannot be read ends it: the replay itself says why."""
        run, clock = f'"{self._run_id}"'.encode(), None
        try:
            for _, line in self._recording.read_lines():
                if clock is None and line.startswith(_TICK):
                    tick = decode(line)
                    clock = tick.clock - tick.at if isinstance(tick, Ticked) and tick.clock else None
                elif run in line and not line.startswith(_PASSED_OVER):
                    event = decode(line)
                    if event is not None and event.run_id == self._run_id:
                        for text in _texts(event):
                            yield event.at, text if clock is None else text._replace(at=event.at + clock)
        except (ValueError, PacelineError):
            return


def _texts(event: Event) -> Iterator[IndexedLine]:
    if isinstance(event, OutputSeen):
        for text, level in output_lines(event):
            yield IndexedLine(None, event.node, parse_rank(text), text, level)
        return
    if isinstance(event, RunEnded):
        reason = f": {event.reason}" if event.reason else ""
        yield IndexedLine(
            None, event.failed_node, event.rank, f"the run is {event.state}{reason}", "info" if event.state == "done" else "error"
        )
        return
    told = sentence(event)
    if told is not None:
        yield IndexedLine(None, event.node, event.rank if isinstance(event, RankEvent) else None, *told)
