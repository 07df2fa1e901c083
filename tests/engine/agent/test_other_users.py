"""What another user of a node can do to a run there: nothing. Needs root, to become another user."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.agent.runner.local_service import ask_runner
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.protocol.run_files import PRIVATE_DIR
from paceline.engine.protocol.runner_socket import PLACE_FILE

from tests.support.runs.runners import RUN, STAYS, Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, to become another user")
NOBODY = 65534

ATTACKS = """
import fcntl, json, os, signal, socket, sys
from pathlib import Path

run, sock, runner, worker = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def connect():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(sock)
        connection.sendall(b'{"ask": "count"}\\n')
        return connection.recv(100)


def bind():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / "private" / "mine.sock"))


attacks = {
    "list the run": lambda: os.listdir(run),
    "list the private directory": lambda: os.listdir(run / "private"),
    "read where the socket is": lambda: (run / "private" / "socket").read_bytes(),
    "connect to the socket": connect,
    "put a socket beside it": bind,
    "replace the socket": lambda: os.rename(sock, sock + "2"),
    "read the plan": lambda: (run / "plan.json").read_bytes(),
    "read the log": lambda: (run / "out.log").read_bytes(),
    "write an end": lambda: (run / "exit.json").write_text("{}"),
    "write an event": lambda: (run / "events.jsonl").open("a"),
    "lock the run": lambda: fcntl.flock(os.open(run, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB),
    "move the run away": lambda: os.rename(run, str(run) + "2"),
    "read the environment of the runner": lambda: Path(f"/proc/{runner}/environ").read_bytes(),
    "read the environment of a rank": lambda: Path(f"/proc/{worker}/environ").read_bytes(),
    "read the memory of the runner": lambda: open(f"/proc/{runner}/mem", "rb"),
    "take over its descriptors": lambda: os.listdir(f"/proc/{runner}/fd"),
    "end the runner": lambda: os.kill(runner, signal.SIGKILL),
    "stop a rank": lambda: os.kill(worker, signal.SIGSTOP),
}
done = []
for name, attack in attacks.items():
    if sys.argv[5:] and name not in sys.argv[5:]:
        continue
    try:
        attack()
    except OSError:
        continue
    done.append(name)
print(json.dumps([len(attacks), done]))
"""


async def attack_as(user: int, *words: str) -> list[object]:
    """Number of attacks, and the names of those that had an effect."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable  # one that everybody may start
    process = await asyncio.create_subprocess_exec(
        python, "-c", ATTACKS, *words, user=user, group=user, extra_groups=[], cwd="/", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    result: list[object] = json.loads(out)
    return result


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may enter, as a machine's own directories are; pytest's are not."""
    path = Path(tempfile.mkdtemp(prefix="paceline-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def test_another_user_of_the_node_has_no_effect_on_a_run(shared: Path) -> None:
    lab = Lab(shared, [STAYS, STAYS])
    before = os.umask(0)
    try:
        await lab.start()
    finally:
        os.umask(before)
    await lab.until_text(0, "events.jsonl", "LaunchStarted")
    run, root = lab.run(0), lab.homes[0].root
    root.chmod(0o755)
    place = (run / PRIVATE_DIR / PLACE_FILE).read_text()
    worker = pids_of_run(RUN, root)[0]
    words = (str(run), place, str(lab.pid(0)), str(worker))
    assert await attack_as(NOBODY, *words) == [18, []]
    allowed = ["list the run", "connect to the socket", "read the plan", "read the environment of the runner"]
    assert await attack_as(os.getuid(), *words, *allowed) == [18, allowed]  # they are real: the run's own user succeeds
    assert (await ask_runner(run, {"ask": "count"}, 60))["value"] == 0
    assert "StrangersRefused" not in (run / "events.jsonl").read_text()
    await lab.end()
