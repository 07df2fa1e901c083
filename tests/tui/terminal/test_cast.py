"""Casts: both versions as asciinema specifies them, and what a player shows is what the terminal showed."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyte
import pytest
from paceline.engine.errors import UsageError
from paceline.engine.events import Captioned
from paceline.engine.telemetry.recording import Recording
from paceline.tui.terminal.cast import CAST_VERSIONS, CastVersion, CastWriter

from tests.support.places import CHECKOUT
from tests.tui.terminal.test_terminal import Terminal

KEPT = CHECKOUT / "data" / "demo" / "reference-lab.jsonl"
SENT_AT_START = (
    "\x1b[?1049h\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h\x1b[?25l\x1b[?1004h\x1b[>1u\x1b[?2026$p\x1b[?2048$p\x1b[?2004h\x1b[?7l"
)
SENT_AT_END = "\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1049l\x1b[?25h\x1b[?1004l\x1b[<u"


class Clock:
    """A clock that is moved by hand."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=CAST_VERSIONS, ids=lambda version: f"v{version}")
def version(request: pytest.FixtureRequest) -> CastVersion:
    return request.param  # type: ignore[no-any-return]  # pytest gives Any


def events_of(path: Path) -> tuple[dict[str, Any], list[tuple[float, str, str]]]:
    """Header and events with absolute times, each checked against the specification of its version."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    header = json.loads(first)
    version = header["version"]
    size = (header["width"], header["height"]) if version == 2 else (header["term"]["cols"], header["term"]["rows"])
    assert all(type(number) is int and number > 0 for number in size)
    assert isinstance(header.get("timestamp", 0), int)
    assert all(isinstance(value, str) for value in header.get("env", {}).values())
    assert ("term" in header) == (version == 3)
    times, codes, texts = zip(*map(json.loads, rest), strict=True) if rest else ((), (), ())
    assert all(isinstance(time, int | float) and time >= 0 for time in times)
    assert set(codes) <= {"o", "i", "m", "r"} | ({"x"} if version == 3 else set())
    assert all(isinstance(text, str) for text in texts)
    for code, text in zip(codes, texts, strict=True):
        if code == "r":
            assert [int(part) > 0 for part in text.split("x")] == [True, True]
        if code == "x":
            assert text.isdecimal()
    moments = list(times) if version == 2 else list(accumulate(times))
    assert moments == sorted(moments)
    return header, list(zip(moments, codes, texts, strict=True))


def played(path: Path) -> pyte.Screen:
    """The screen of a terminal after a cast was played in it."""
    header, events = events_of(path)
    size = (header["width"], header["height"]) if header["version"] == 2 else (header["term"]["cols"], header["term"]["rows"])
    screen = pyte.Screen(*size)
    stream = pyte.Stream(screen)
    for _, code, text in events:
        if code == "o":
            stream.feed(text)
        elif code == "r":
            columns, lines = map(int, text.split("x"))
            screen.resize(lines, columns)
    return screen


def test_a_cast_has_the_times_markers_and_sizes_of_its_session(tmp_path: Path, version: CastVersion) -> None:
    clock, path = Clock(), tmp_path / "x.cast"
    cast = CastWriter(path, (80, 24), clock, version=version, header={"title": "paceline demo", "timestamp": 7, "term": "xterm"})
    acts: list[tuple[float, Callable[[], None]]] = [
        (50.0, lambda: cast.output("hello \x1b[1mÄ▇\x1b[0m")),
        (51.5, lambda: cast.marker("rank 2 is slow\x1b[2J\nvery")),
        (51.5, lambda: cast.resize((100, 30))),
        (52.0, lambda: cast.resize((100, 30))),
        (53.25, lambda: cast.output("\udc80 no text")),
    ]
    for now, act in acts:
        clock.now = now
        act()
    cast.close(3)
    cast.output("too late")
    cast.marker("too late")
    header, events = events_of(path)
    assert header["title"] == "paceline demo"
    assert [(time, code) for time, code, _ in events] == [
        (0.0, "o"),
        (1.5, "m"),
        (1.5, "r"),
        (3.25, "o"),
        (3.25, "o"),
        *([(3.25, "x")] if version == 3 else []),
    ]
    assert events[0][2] == "hello \x1b[1mÄ▇\x1b[0m"
    assert "\x1b" not in events[1][2]
    assert "\n" not in events[1][2]
    assert events[2][2] == "100x30"
    assert path.stat().st_mode & 0o777 == 0o600


def test_rounded_times_do_not_add_up_to_a_drift(tmp_path: Path, seed: int) -> None:
    clock, path, chance = Clock(), tmp_path / "x.cast", random.Random(seed)
    cast = CastWriter(path, (80, 24), clock, version=3, header={})
    moments = []
    for _ in range(2000):
        clock.now += chance.random() * 1e-3
        moments.append(clock.now - 50.0)
        cast.output("x")
    cast.close()
    _, events = events_of(path)
    assert all(abs(told - real) < 2e-6 for (told, _, _), real in zip(events, moments, strict=False))


def test_what_is_about_the_terminal_itself_is_left_out_and_the_last_picture_stays(tmp_path: Path, version: CastVersion) -> None:
    path = tmp_path / "x.cast"
    cast = CastWriter(path, (20, 5), Clock(), version=version, header={})
    for part in (SENT_AT_START, "\x1b[2;3Hseen \x1b[38;2;1;2;3mred\x1b[0m", "\x1b]11;?\x07\x1b[c\x1b[>q", SENT_AT_END):
        cast.output(part)
    cast.close(0)
    _, events = events_of(path)
    sent = "".join(text for _, code, text in events if code == "o")
    shown = "\x1b[?25l\x1b[?7l\x1b[2;3Hseen \x1b[38;2;1;2;3mred\x1b[0m"
    assert sent == f"\x1b[H\x1b[2J{shown}\x1b[?7h\x1b[?25h\x1b[0m\x1b[?7h\x1b[?25h\x1b[5;1H"
    assert [line.rstrip() for line in played(path).display] == ["", "  seen red", "", "", ""]


def test_a_cast_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        CastWriter(path, (80, 24), Clock(), header={})
    assert path.read_text() == "mine"


@pytest.fixture
def _no_large_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_no_large_files")
def test_a_file_that_can_grow_no_further_ends_the_cast_and_not_the_session(tmp_path: Path) -> None:
    cast = CastWriter(tmp_path / "x.cast", (80, 24), Clock(), header={})
    for _ in range(50):
        cast.output("x" * 30)
    cast.close(0)
    assert cast.failure is not None
    assert "the session goes on" in str(cast.failure)


@pytest.mark.slow
@pytest.mark.parametrize("version", CAST_VERSIONS)
def test_a_cast_of_a_replay_plays_to_the_same_last_screen(tmp_path: Path, version: int) -> None:
    recording = KEPT
    cast = tmp_path / "x.cast"
    options = ["--cast", str(cast), "--cast-version", str(version)]
    terminal = Terminal(sys.executable, "-m", "paceline.tui", *options, "replay", str(recording), "--speed", "inf", cwd=tmp_path)
    try:
        terminal.until(lambda: terminal.is_drawn)
        terminal.until(lambda: b"2.27x" in terminal.seen)  # the result, to which the screen goes by itself at the end
        before = len(terminal.seen)
        terminal.type(b"1")
        terminal.until(lambda: b"demo4" in terminal.seen[before:])
        terminal.resize(30, 100)
        terminal.until(lambda: b"\x1b[30;" in terminal.seen)
        terminal.type(b"q")
        assert terminal.ended() == 0
    finally:
        terminal.close()
    model = pyte.Screen(100, 30)
    pyte.ByteStream(model).feed(re.sub(rb"\x1b\[[<>]\d*u", b"", terminal.seen))  # it does not know the keyboard protocol
    ours = played(cast)
    assert (ours.columns, ours.lines) == (100, 30)
    assert ours.display == model.display
    assert any("demo4" in line for line in ours.display)
    _, events = events_of(cast)
    marked = [text for _, code, text in events if code == "m"]
    captions = [event.text[:40] for event in Recording(recording) if isinstance(event, Captioned)]
    assert len(marked) >= 4
    assert all(any(text.startswith(caption) for text in marked) for caption in captions)
    assert os.stat(cast).st_mode & 0o777 == 0o600
