"""Size, opening and seeking of the recording of an hour of 64 devices in training: ``python -m benchmarks tui/recording``.

The events are generated (``lab_hour.py``) and go through the real recorder, compressed and as plain lines. Two to four minutes.
"""

from __future__ import annotations

import asyncio
import functools
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from paceline.engine.telemetry.recording import Recorder, Recording
from paceline.engine.telemetry.replay import ReplaySession

from benchmarks.table import Figure, print_figures, write_csv
from benchmarks.tui.lab_hour import lab_hour

HOUR_S = 3600
SEEKS, PLAIN_SEEKS = 25, 1
OPENINGS = 7
MAX_BYTES, MAX_OPENING_S, MAX_SEEK_S = 20e6, 0.5, 0.2


def measure(seconds: int = HOUR_S) -> list[Figure]:
    """All figures; single seeks are written to results/tui_recording.csv."""
    with tempfile.TemporaryDirectory() as directory:
        compressed, plain = Path(directory) / "hour.pace", Path(directory) / "hour.jsonl"
        events, spent = _record(compressed, plain, seconds)
        size, plain_size = compressed.stat().st_size, plain.stat().st_size
        opening, plain_opening = (_best(functools.partial(Recording, path)) for path in (compressed, plain))
        recording = Recording(compressed)
        seeks = asyncio.run(_seeks(compressed, SEEKS, seconds))
        plain_seeks = asyncio.run(_seeks(plain, PLAIN_SEEKS, seconds))
    rows = [("pace", *seek) for seek in seeks] + [("jsonl", *seek) for seek in plain_seeks]
    write_csv("tui_recording", ("format", "seek_seconds", "processor_seconds"), rows)
    scale = HOUR_S / seconds
    waited, worked = sorted(wall for wall, _ in seeks), max(processor for _, processor in seeks)
    middle, worst = waited[len(waited) // 2], waited[-1]
    return [
        Figure(
            f"an hour of 64 devices in training, {events * scale:,.0f} events",
            "<= 20 MB",
            f"{size * scale / 1e6:.1f} MB; plain lines {plain_size * scale / 1e6:.0f} MB",
            size * scale <= MAX_BYTES,
        ),
        Figure(
            f"opening it: index, {len(recording.marks)} marks, length",
            "<= 0.5 s",
            f"{opening:.3f} s; plain lines {plain_opening:.3f} s, without marks",
            opening <= MAX_OPENING_S and recording.is_surveyed,
        ),
        Figure(
            f"{SEEKS} random seeks in it, median and worst",
            "<= 0.2 s",
            f"{middle:.3f} s, {worst:.3f} s, of a processor {worked:.3f} s; first one in plain lines {plain_seeks[0][0]:.1f} s",
            worst <= MAX_SEEK_S,
        ),
        Figure("recording it, of one core while it happens", "<= 2 %", f"{100 * spent / seconds:.2f} %", spent / seconds <= 0.02),
    ]


def _record(compressed: Path, plain: Path, seconds: int) -> tuple[int, float]:
    """Record the hour twice: the number of events, and the processor seconds of the compressed recording."""

    def fail(error: Exception) -> None:
        raise error

    recorder, plain_recorder = Recorder(compressed, "benchmark", fail), Recorder(plain, "benchmark", fail)
    events, spent = 0, 0.0
    for event in lab_hour(seconds):
        events += 1
        begun = time.process_time()
        recorder(event)
        spent += time.process_time() - begun
        plain_recorder(event)
    begun = time.process_time()
    recorder.close()
    plain_recorder.close()
    return events, spent + time.process_time() - begun


def _best(work: Callable[[], object]) -> float:
    """The least of some times: others use the machine."""
    times = []
    for _ in range(OPENINGS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


async def _seeks(path: Path, amount: int, seconds: int) -> list[tuple[float, float]]:
    """Wall and processor seconds of seeks to random moments, each the first of its session: later ones find states in memory."""
    draw, times = random.Random(amount), []
    for _ in range(amount):
        session = ReplaySession(path)
        session.is_paused = True
        moment = draw.uniform(0.0, seconds)
        begun, worked = time.perf_counter(), time.process_time()
        await session._fold_until(moment)
        times.append((time.perf_counter() - begun, time.process_time() - worked))
    return times


def main() -> int:
    """Measure and print. An argument: seconds of the stream instead of an hour. Returns 1 where a goal was missed."""
    return print_figures(measure(*map(int, sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
