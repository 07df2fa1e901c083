"""Leaves no mess: whatever ends the screen, the terminal is as it was before, in a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.places import PLAY
from tests.support.screens import story

MODES = {b"1049": False, b"25": True, b"1000": False, b"1002": False, b"1003": False, b"1006": False, b"2004": False, b"7": True}
"""Private modes of a terminal and how they stand before: alternate screen, cursor, mouse, pasting, wrapping of lines."""
PLAY_COMMAND = [sys.executable, str(PLAY)]


class Terminal:
    """A pseudo-terminal of 80x24 and what was written to it; the program leads a session of its own, as under a login shell."""

    def __init__(self, *command: str, cwd: Path, **env: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "HOME": str(cwd), **env}
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment, cwd=cwd, start_new_session=True
        )

    def resize(self, lines: int, columns: int) -> None:
        """Another size; whoever draws here is told by the kernel, or else by hand."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def read(self) -> None:
        """Take what was written."""
        while select.select([self.master], [], [], 0.01)[0]:
            self.seen += os.read(self.master, 65536)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read on until something is so."""
        while not condition():
            has_ended = self.process.poll() is not None
            self.read()
            assert condition() or not has_ended, self.seen[-2000:]
            time.sleep(0.01)
        self.read()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def ended(self) -> int:
        """The exit status, once the program has ended by itself."""
        self.until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def state_of(self, state: str) -> bool:
        """Whether the kernel says so of the program: T stopped, S sleeping, R running."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] in state

    @property
    def modes(self) -> dict[bytes, bool]:
        """How the private modes stand."""
        found = dict(MODES)
        for names, sign in re.findall(rb"\x1b\[\?([\d;]+)([hl])", self.seen):
            found |= {name: sign == b"h" for name in names.split(b";") if name in found}
        return found

    @property
    def is_as_before(self) -> bool:
        """Whether nothing of the screen is left: modes, line discipline, keyboard protocol."""
        pushed, popped = self.seen.count(b"\x1b[>"), len(re.findall(rb"\x1b\[<\d*u", self.seen))
        return self.modes == MODES and termios.tcgetattr(self.slave) == self.before and pushed <= popped

    @property
    def is_drawn(self) -> bool:
        """Whether the fleet was painted."""
        return b"demo4" in self.seen

    def close(self) -> None:
        """End what still runs, and let go of both ends."""
        self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            if end >= 0:
                os.close(end)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Terminal]:
    """The screen over a recording, painted."""
    terminal = Terminal(*PLAY_COMMAND, str(story.record(tmp_path / "a.jsonl", story.healthy())), cwd=tmp_path)
    try:
        terminal.until(lambda: terminal.is_drawn)
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x11"], ids=["q", "ctrl-c", "ctrl-q"])
def test_a_key_that_leaves_gives_the_terminal_back(played: Terminal, key: bytes) -> None:
    assert not played.is_as_before
    played.type(key)
    assert played.ended() == 0
    assert played.is_as_before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["term", "hangup"])
def test_a_signal_that_ends_gives_the_terminal_back(played: Terminal, number: int, status: int) -> None:
    played.process.send_signal(number)
    assert played.ended() == status
    assert played.is_as_before


def test_q_leaves_while_nothing_is_painted_yet(tmp_path: Path) -> None:
    terminal = Terminal(*PLAY_COMMAND, str(story.record(tmp_path / "a.jsonl", story.healthy())), cwd=tmp_path)
    try:
        terminal.type(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before
    finally:
        terminal.close()


@pytest.mark.parametrize(
    "keys", [b"?", b":ben", b"\x10the", b"3", b"7/", b"/util<"], ids=["help", "prompt", "palette", "run", "search", "filter"]
)
def test_ctrl_c_leaves_from_wherever_one_is(played: Terminal, keys: bytes) -> None:
    played.type(keys)
    played.read()
    played.type(b"\x03")
    assert played.ended() == 0
    assert played.is_as_before


def test_a_terminal_without_an_end_to_read_from_ends_the_program(played: Terminal) -> None:
    os.close(played.slave)
    os.close(played.master)
    played.master = played.slave = -1
    assert played.process.wait() != 0


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(played: Terminal) -> None:
    played.process.send_signal(signal.SIGTSTP)
    played.until(lambda: played.state_of("T"))
    assert played.is_as_before
    drawn = len(played.seen)
    played.process.send_signal(signal.SIGCONT)
    played.until(lambda: b"demo4" in played.seen[drawn:])
    assert not played.is_as_before
    played.type(b"q")
    assert played.ended() == 0
    assert played.is_as_before


def test_a_storm_of_sizes_down_to_nothing_ends_in_a_whole_picture(played: Terminal) -> None:
    for lines, columns in [(0, 0), (1, 1), (50, 160), (2, 200), (200, 2), (9, 39), (0, 80), (24, 0)] * 5:
        played.resize(lines, columns)
        played.read()
    drawn = len(played.seen)
    played.resize(24, 80)
    played.until(lambda: b"demo4" in played.seen[drawn:])
    played.type(b"q")
    assert played.ended() == 0
    assert played.is_as_before


@pytest.mark.parametrize("fault", ["--faulty", "--broken"], ids=["while drawing", "while mounting"])
def test_a_fault_of_ours_leaves_one_line_a_log_for_its_owner_and_the_terminal_as_it_was(tmp_path: Path, fault: str) -> None:
    recording = story.record(tmp_path / "a.jsonl", story.healthy())
    terminal = Terminal(*PLAY_COMMAND, str(recording), "1", fault, cwd=tmp_path)
    try:
        if fault == "--faulty":
            terminal.until(lambda: terminal.is_drawn)
            terminal.type(b"p")
        assert terminal.ended() == 1
        assert terminal.is_as_before
        after = terminal.seen.rpartition(b"\x1b[?1049l")[2]
        told = [line for line in re.sub(rb"\x1b\[[^a-zA-Z]*[a-zA-Z]", b"", after).split(b"\r\n") if line.strip()]
        assert len(told) == 1, told
        assert b"paceline: a fault of ours ended the screen, runs go on: ZeroDivisionError" in told[0]
        log = tmp_path / "logs" / "control.log"
        assert log.stat().st_mode & 0o777 == 0o600
        assert "Traceback" in log.read_text()
    finally:
        terminal.close()


SIGNS_OF = {
    **{b"1": b"by trouble", b"2": b"progress", b"3": b"throughput", b"4": b"troubles", b"5": b"over equal"},
    **{b"6": b"speed-up", b"7": b"recording", b"8": b"all-reduce", b"\x10": b"by any part of its name"},
}
"""Keys, and words that are seen only where each leads."""


def test_a_terminal_of_ascii_is_sent_nothing_else_from_any_screen(tmp_path: Path) -> None:
    recording = str(story.record(tmp_path / "a.jsonl", story.trouble()))
    terminal = Terminal(*PLAY_COMMAND, recording, "64", "--ascii", cwd=tmp_path)
    try:
        terminal.resize(50, 160)
        terminal.until(lambda: b"64 %" in terminal.seen)
        for key, words in SIGNS_OF.items():
            start = len(terminal.seen)
            terminal.type(key)
            terminal.until(lambda start=start, words=words: words in terminal.seen[start:])
        assert terminal.seen.isascii()
        terminal.type(b"\x03")
        assert terminal.ended() == 0
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("names", "sent"),
    [
        ({"TERM": "xterm"}, rb"\x1b\[(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|[01279]|2[0-9]|[345]?[59]|;)*m"),
        ({"TERM": "xterm-256color"}, rb"\x1b\[(?:[34]8;5;\d+|\d|2\d|[34]9|;)*m"),
    ],
    ids=["16", "256"],
)
def test_a_terminal_of_few_colours_is_sent_no_others(names: dict[str, str], sent: bytes, tmp_path: Path) -> None:
    recording = str(story.record(tmp_path / "a.jsonl", story.trouble()))
    terminal = Terminal(*PLAY_COMMAND, recording, "64", cwd=tmp_path, COLORTERM="", **names)
    try:
        terminal.until(lambda: b"demo2 rank 1" in terminal.seen)
        told = set(re.findall(rb"\x1b\[[\d;]*m", terminal.seen))
        assert {code for code in told if not re.fullmatch(sent, code)} == set()
        assert any(b"91" in code for code in told) == (names["TERM"] == "xterm")
    finally:
        terminal.close()
