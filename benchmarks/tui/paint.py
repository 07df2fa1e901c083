"""Time to the first paint before any node answers, and until a node that answers is painted: ``python -m benchmarks tui/paint``.

In a real pseudo-terminal of 160x50, warm, from fork to the bytes. A hung node is a socket that accepts connections and stays
silent. Other load on the machine affects the seconds; the CPU time beside them is independent of it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from benchmarks.table import Figure, print_figures, write_csv

PAINTS = 15
ANSWERS = 5
NODE = '[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0, memory = "4GiB" }]\n'
HUNG = '[[node]]\nname = "hung"\nhost = "127.0.0.1"\nport = {port}\nuser = "nobody"\nhost_key = "SHA256:' + "A" * 43 + '"\n'


def measure() -> list[Figure]:
    """The first paint, and the paint of one node alone and next to a hung node."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = HUNG.format(port=silent.getsockname()[1])
        first = [_seconds_until(NODE, b"demo1") for _ in range(PAINTS)]
        alone = [_seconds_until(NODE, "●".encode()) for _ in range(ANSWERS)]
        beside = [_seconds_until(NODE + hung, "●".encode()) for _ in range(ANSWERS)]
    write_csv("tui_paint", ["wall", "processor"], first)
    walls, processor = sorted(wall for wall, _ in first), statistics.median(used for _, used in first)
    median = statistics.median(walls)
    painted = f"median {median:.2f} s, best {walls[0]:.2f} of {PAINTS}; {processor:.2f} s of processor"
    one, two = (statistics.median(wall for wall, _ in seen) for seen in (alone, beside))
    answered = f"{one:.2f} s alone, {two:.2f} s beside it, medians of {ANSWERS}"
    return [
        Figure("first paint with no node answered, warm, 160x50", "<= 0.35 s", painted, median <= 0.35),
        Figure("a node is painted as it answers, beside a hung one", "no later", answered, two <= one + 0.25),
    ]


def _seconds_until(nodes: str, text: bytes) -> tuple[float, float]:
    """Seconds and CPU seconds from fork until this text is sent to the terminal."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "nodes.toml").write_text(nodes)
        began = time.monotonic()
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(directory)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", HOME=directory)
            os.execv(sys.executable, [sys.executable, "-m", "paceline.tui"])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        output = b""
        while text not in output and time.monotonic() - began < 30:
            if select.select([terminal], [], [], 0.01)[0]:
                output += os.read(terminal, 65536)
        seconds = time.monotonic() - began
        used = time.clock_gettime((~pid << 3) | 2)
        os.write(terminal, b"q")
        try:
            while os.read(terminal, 65536):
                continue
        except OSError:
            pass
        os.waitpid(pid, 0)
        os.close(terminal)
    return seconds, used


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
