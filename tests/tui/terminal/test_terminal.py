"""The terminal is restored however the program ends; in a real pseudo-terminal."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.places import PLAY
from tests.support.screens import story
from tests.support.waiting import until_sync

MODES = {b"1049": False, b"25": True, b"1000": False, b"1002": False, b"1003": False, b"1006": False, b"2004": False, b"7": True}
"""Private modes of a terminal with their initial state: alternate screen, cursor, mouse, pasting, line wrapping."""
PLAY_COMMAND = [sys.executable, str(PLAY)]


class Terminal:
    """A pseudo-terminal of 80x24 with its output; the program leads a session of its own, as under a login shell."""

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
        """Change the size and send SIGWINCH."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def read(self) -> None:
        """Read the output that is available."""
        while select.select([self.master], [], [], 0.01)[0]:
            self.seen += os.read(self.master, 65536)

    def until(self, condition: Callable[..., bool]) -> None:
        """Read until a condition holds; fails if the program ends before."""

        def is_met() -> bool:
            has_ended = self.process.poll() is not None
            self.read()
            assert condition() or not has_ended, self.seen[-2000:]
            return condition()

        try:
            until_sync(is_met)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast written: {self.seen[-2000:]!r}") from None
        self.read()

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def ended(self) -> int:
        """Wait until the program ends by itself; returns its exit status."""
        self.until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def state_of(self, state: str) -> bool:
        """Whether the program is in this state of the kernel: T stopped, S sleeping, R running."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] in state

    @property
    def modes(self) -> dict[bytes, bool]:
        """The current private modes."""
        state = dict(MODES)
        for names, sign in re.findall(rb"\x1b\[\?([\d;]+)([hl])", self.seen):
            state |= {name: sign == b"h" for name in names.split(b";") if name in state}
        return state

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal is restored: modes, line discipline, keyboard protocol."""
        pushed, popped = self.seen.count(b"\x1b[>"), len(re.findall(rb"\x1b\[<\d*u", self.seen))
        return self.modes == MODES and termios.tcgetattr(self.slave) == self.before and pushed <= popped

    @property
    def is_drawn(self) -> bool:
        """Whether the fleet was painted."""
        return b"demo4" in self.seen

    def close(self) -> None:
        """Kill the program and close both ends."""
        self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            if end >= 0:
                os.close(end)


@pytest.fixture
def replaying(tmp_path: Path) -> Iterator[Terminal]:
    """The app replaying a recording, after its first paint."""
    terminal = Terminal(*PLAY_COMMAND, str(story.record(tmp_path / "a.jsonl", story.healthy())), cwd=tmp_path)
    try:
        terminal.until(lambda: terminal.is_drawn)
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("key", [b"q", b"\x03", pytest.param(b"\x11", marks=pytest.mark.slow)], ids=["q", "ctrl-c", "ctrl-q"])
def test_a_quit_key_restores_the_terminal(replaying: Terminal, key: bytes) -> None:
    assert not replaying.is_as_before
    replaying.type(key)
    assert replaying.ended() == 0
    assert replaying.is_as_before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["term", "hangup"])
def test_a_terminating_signal_restores_the_terminal(replaying: Terminal, number: int, status: int) -> None:
    replaying.process.send_signal(number)
    assert replaying.ended() == status
    assert replaying.is_as_before


def test_q_quits_before_the_first_paint(tmp_path: Path) -> None:
    terminal = Terminal(*PLAY_COMMAND, str(story.record(tmp_path / "a.jsonl", story.healthy())), cwd=tmp_path)
    try:
        terminal.type(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before
    finally:
        terminal.close()


@pytest.mark.parametrize(
    "keys",
    [*(pytest.param(keys, marks=pytest.mark.slow) for keys in (b"?", b"\x10the", b"7/")), b":ben", b"3", b"/util<"],
    ids=["help", "palette", "search", "prompt", "run", "filter"],
)
def test_ctrl_c_quits_from_every_screen_and_dialog(replaying: Terminal, keys: bytes) -> None:
    replaying.type(keys)
    replaying.read()
    replaying.type(b"\x03")
    assert replaying.ended() == 0, replaying.seen[-3000:].decode(errors="replace")
    assert replaying.is_as_before


def test_a_closed_terminal_ends_the_program(replaying: Terminal) -> None:
    os.close(replaying.slave)
    os.close(replaying.master)
    replaying.master = replaying.slave = -1
    assert replaying.process.wait() != 0


def test_ctrl_z_suspends_to_the_shell_and_fg_resumes(replaying: Terminal) -> None:
    replaying.process.send_signal(signal.SIGTSTP)
    replaying.until(lambda: replaying.state_of("T"))
    assert replaying.is_as_before
    drawn = len(replaying.seen)
    replaying.process.send_signal(signal.SIGCONT)
    replaying.until(lambda: b"demo4" in replaying.seen[drawn:])
    assert not replaying.is_as_before
    replaying.type(b"q")
    assert replaying.ended() == 0
    assert replaying.is_as_before


def test_many_resizes_down_to_zero_end_in_a_complete_picture(replaying: Terminal) -> None:
    for lines, columns in [(0, 0), (1, 1), (50, 160), (2, 200), (200, 2), (9, 39), (0, 80), (24, 0)] * 5:
        replaying.resize(lines, columns)
        replaying.read()
    drawn = len(replaying.seen)
    replaying.resize(24, 80)
    replaying.until(lambda: b"demo4" in replaying.seen[drawn:])
    replaying.type(b"q")
    assert replaying.ended() == 0
    assert replaying.is_as_before


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
        lines = [line for line in re.sub(rb"\x1b\[[^a-zA-Z]*[a-zA-Z]", b"", after).split(b"\r\n") if line.strip()]
        assert len(lines) == 1, lines
        assert b"paceline: a bug in Paceline ended the screen, runs go on: ZeroDivisionError" in lines[0]
        log = tmp_path / "logs" / "control.log"
        assert log.stat().st_mode & 0o777 == 0o600
        assert "Traceback" in log.read_text()
    finally:
        terminal.close()


EXPECTED_TEXTS = {
    **{b"2": b"progress", b"1": b"by trouble", b"3": b"throughput", b"4": b"active", b"5": b"over equal"},
    **{b"6": b"speed-up", b"7": b"recording", b"8": b"all-reduce", b"\x10": b"by any part of its name"},
}
"""Keys, and a text that only the screen of that key shows. The first key leads away from fleet and run, where the app begins."""


@pytest.mark.slow
def test_an_ascii_terminal_gets_only_ascii_from_every_screen(tmp_path: Path) -> None:
    recording = str(story.record(tmp_path / "a.jsonl", story.trouble()))
    terminal = Terminal(*PLAY_COMMAND, recording, "64", "--ascii", cwd=tmp_path)
    try:
        terminal.resize(50, 160)
        terminal.until(lambda: b"64 %" in terminal.seen)
        for key, expected in EXPECTED_TEXTS.items():
            start = len(terminal.seen)
            terminal.type(key)
            terminal.until(lambda start=start, expected=expected: expected in terminal.seen[start:])
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
def test_a_terminal_with_few_colours_gets_no_others(names: dict[str, str], sent: bytes, tmp_path: Path) -> None:
    recording = str(story.record(tmp_path / "a.jsonl", story.trouble()))
    terminal = Terminal(*PLAY_COMMAND, recording, "64", cwd=tmp_path, COLORTERM="", **names)
    try:
        terminal.until(lambda: b"demo2 rank 1" in terminal.seen)
        codes = set(re.findall(rb"\x1b\[[\d;]*m", terminal.seen))
        assert {code for code in codes if not re.fullmatch(sent, code)} == set()
        assert any(b"91" in code for code in codes) == (names["TERM"] == "xterm")
    finally:
        terminal.close()
