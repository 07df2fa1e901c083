"""Many nodes played by one process: real SSH with keys, real files, real agent lines, and no program started on any of them.

``python -m tests.support.ssh.crowd DIRECTORY --nodes 256 --devices 8`` writes DIRECTORY/nodes.toml, which reaches all of them on
loopback, and obeys lines on its standard input (``--help`` names them) until that ends. All nodes share one home, so our modules
arrive once.
What is measured with it says so: *played by one server process*.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import asyncssh
from paceline.engine.events import DeviceReading, HostReading, NodeReported, ProcessReading
from paceline.engine.inventory.nodeset import expand_node_set
from paceline.engine.wire import dumps, encode

from tests.support.places import CHECKOUT

COMMANDS = """lines on standard input, each answered by one line on standard output:
  kill SET     the nodes refuse connections, and those they have are cut
  hole SET     nothing from the nodes arrives any more, and nothing reaches them: black holes
  revive SET   they are themselves again; connections that were not given up meanwhile go on
SET is a node set such as n[000-063], or all."""
MEMORY = 80 << 30
BACKLOG = 128


class _Connection(asyncssh.SSHServerConnection):
    """A connection that can be made deaf."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport
        super().connection_made(transport)

    def set_deaf(self, is_deaf: bool) -> None:
        """Stop reading what arrives, or go on with it."""
        wire = cast(asyncio.Transport, self.wire)
        wire.pause_reading() if is_deaf else wire.resume_reading()


class PlayedNode:
    """One node: a port, the connections to it, and how it behaves now. ``accept`` is called with each client's socket."""

    def __init__(self, name: str, devices: int, home: Path, seed: int, accept: Callable[[socket.socket], None]) -> None:
        self.name = name
        self.home = home
        self.state = "down"
        self.rate: float | None = None
        self.connections: set[_Connection] = set()
        self._random = random.Random(seed)
        self._devices = range(devices)
        self._accept = accept
        self._stoppers: list[socket.socket] = []
        self._bind(0)

    @property
    def port(self) -> int:
        """On 127.0.0.1; the node keeps it whatever happens to it."""
        return int(self._socket.getsockname()[1])

    def revive(self) -> None:
        """Answer, also those who are still connected."""
        self.state = "up"
        while self._stoppers:
            self._stoppers.pop().close()
        for connection in self.connections:
            connection.set_deaf(False)
        self._socket.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket, self._knocked)

    def kill(self) -> None:
        """Refuse connections and cut those that are there."""
        self.revive()
        port = self.port
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._bind(port)
        for connection in tuple(self.connections):
            connection.abort()
        self.state = "down"

    def hole(self) -> None:
        """Neither accept nor answer: the kernel drops new connections, because the backlog is full."""
        self.revive()
        asyncio.get_running_loop().remove_reader(self._socket)
        for connection in self.connections:
            connection.set_deaf(True)
        self._socket.listen(0)
        for _ in range(2):
            stopper = socket.socket()
            stopper.setblocking(False)
            stopper.connect_ex(("127.0.0.1", self.port))
            self._stoppers.append(stopper)
        self.state = "hole"

    def _bind(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))

    def _knocked(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            while True:
                self._accept(self._socket.accept()[0])

    def reading(self) -> bytes:
        """One line of an agent whose every value has changed."""
        rnd = self._random.random
        devices = tuple(
            DeviceReading(
                index=index,
                name="NVIDIA H100 80GB HBM3",
                kind="emulated",
                utilization=round(rnd(), 3),
                memory_used=int(rnd() * MEMORY),
                memory_total=MEMORY,
                temperature=round(40.0 + 40.0 * rnd(), 1),
                power=round(100.0 + 600.0 * rnd(), 1),
                power_limit=700.0,
                clock=round(1000.0 + 980.0 * rnd(), 1),
                processes=(ProcessReading(4000 + index, "lab", "python", int(rnd() * MEMORY)),),
            )
            for index in self._devices
        )
        host = HostReading(cpu=round(rnd(), 3), memory_used=int(rnd() * 2**39), memory_total=2**39, disk_free=int(rnd() * 2**40))
        return encode(NodeReported(node=self.name, node_time=time.time(), host=host, devices=devices)).encode() + b"\n"

    def hello(self) -> bytes:
        """The first line of an agent."""
        facts = {"hostname": self.name, "python": "3.12.0", "system": "played", "boot_id": self.name, "address": "127.0.0.1"}
        return dumps({"hello": {**facts, "interface": "lo", "addresses": {"lo": "127.0.0.1"}}}).encode() + b"\n"

    async def speak(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Play the agent of one connection."""
        said = re.search(r"([0-9a-f]{64}\.zip)", process.command or "")
        process.stdout.write(f"paceline home {self.home}\n".encode())
        if said is None or not (self.home / "bundles" / said[1]).exists():
            process.stdout.write(b"paceline bundle missing\n")
            process.exit(0)
            return
        process.stdout.write(self.hello())
        reporting: asyncio.Task[None] | None = None
        try:
            while line := await process.stdin.readline():
                message = json.loads(line) if line.strip() else {}  # the first line is empty
                if "setup" in message and reporting is None:
                    reporting = asyncio.create_task(self._report(process, self._interval(message["setup"])))
                elif "ask" in message:
                    process.stdout.write(dumps({"id": message["id"], **_answer(message["ask"])}).encode() + b"\n")
        except (asyncssh.Error, OSError):
            pass  # the other side is gone
        finally:
            if reporting is not None:
                reporting.cancel()
            process.close()

    def _interval(self, setup: dict[str, Any]) -> float:
        return float(setup["interval"]) if self.rate is None else 1.0 / self.rate

    async def _report(self, process: asyncssh.SSHServerProcess[bytes], interval: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        with suppress(OSError, asyncssh.Error):
            while True:
                if self.state == "up":
                    process.stdout.write(self.reading())
                    await process.stdout.drain()
                due = max(due + interval, loop.time())
                await asyncio.sleep(due - loop.time())


def _answer(word: str) -> dict[str, Any]:
    """What a node without any run answers."""
    known = {
        "list_runs": {"runs": []},
        "cancel": {"is_known": False, "survivors": []},
        "detach_status": {"rung": "setsid", "next": None, "killed": [], "missing": []},
    }
    if word in known:
        return {"answer": known[word]}
    return {"error": {"type": "UsageError", "reason": f"a played node cannot {word}", "hint": None}}


class _Doorkeeper(asyncssh.SSHServer):
    """Knows by the port which node a connection is for."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._own = cast(_Connection, conn)
        self._node = self._crowd.by_port[conn.get_extra_info("sockname")[1]]
        self._node.connections.add(self._own)

    def connection_lost(self, exc: Exception | None) -> None:
        self._node.connections.discard(self._own)


class _SharedFiles(asyncssh.SFTPServer):
    """One home for all: what a node calls its own directory below the state directory is the home itself."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], crowd: Crowd) -> None:
        super().__init__(channel)
        self._home = bytes(crowd.home)
        self._own = re.compile(re.escape(self._home) + rb"/\.local/state/paceline/[^/]+")

    def map_path(self, path: bytes) -> bytes:
        return self._own.sub(lambda _: self._home, self._home + b"/" + path if not path.startswith(b"/") else path, count=1)


class Crowd:
    """All nodes of one process."""

    def __init__(self, directory: Path, nodes: int, devices: int, seed: int = 0, rate: float | None = None) -> None:
        """``rate``: readings a second of each node; without one as often as the centre asks for."""
        self.directory = directory
        self.home = directory / "home"
        (self.home / "bundles").mkdir(mode=0o700, parents=True, exist_ok=True)
        self.nodes = {
            name: PlayedNode(name, devices, self.home, seed + i, self._accept) for i, name in enumerate(node_names(nodes))
        }
        for node in self.nodes.values():
            node.rate = rate
        self.by_port = {node.port: node for node in self.nodes.values()}
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._options: asyncssh.SSHServerConnectionOptions | None = None
        self._accepting: set[asyncio.Task[Any]] = set()

    async def start(self) -> Path:
        """Listen for all nodes; returns the nodes.toml that reaches them."""
        self._options = asyncssh.SSHServerConnectionOptions(
            server_host_keys=[self._host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self._client_key.export_public_key().decode()),
            server_factory=lambda: _Doorkeeper(self),
            process_factory=self._open_channel,
            sftp_factory=lambda channel: _SharedFiles(channel, self),
            encoding=None,
            allow_pty=False,
            config=[],
            gss_host=None,
            keepalive_interval=0,
        )
        for node in self.nodes.values():
            node.revive()
        key = self.directory / "key"
        key.unlink(missing_ok=True)
        key.touch(mode=0o600)
        self._client_key.write_private_key(str(key))
        path = self.directory / "nodes.toml"
        path.write_text("\n".join(self._entry(node, key) for node in self.nodes.values()))
        path.chmod(0o600)
        return path

    def obey(self, line: str) -> str:
        """One line of control; the answer, in one line."""
        verb, _, names = line.strip().partition(" ")
        if verb not in ("kill", "hole", "revive"):
            return f"unknown: {verb}"
        wanted = self.nodes.keys() if names == "all" else expand_node_set(names) & self.nodes.keys()
        for name in wanted:
            getattr(self.nodes[name], verb)()
        return f"{verb} {len(wanted)}"

    def _accept(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        options = self._options
        assert options is not None
        task = loop.create_task(loop.connect_accepted_socket(lambda: _Connection(loop, options), accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _open_channel(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        await self.by_port[process.get_extra_info("sockname")[1]].speak(process)

    def _entry(self, node: PlayedNode, key: Path) -> str:
        fingerprint = self._host_key.get_fingerprint()
        return (
            f'[[node]]\nname = "{node.name}"\nhost = "127.0.0.1"\nport = {node.port}\nuser = "lab"\nkey = "{key}"\n'
            f'host_key = "{fingerprint}"\n'
        )


def node_names(count: int) -> list[str]:
    """n000, n001 ...: with as many digits as they need, three at least."""
    digits = max(3, len(str(count - 1)))
    return [f"n{number:0{digits}d}" for number in range(count)]


class CrowdProcess:
    """A crowd in a process of its own, for tests and benchmarks."""

    def __init__(self, directory: Path, nodes: int, devices: int = 2, rate: float | None = None) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.support.ssh.crowd",
            str(directory),
            "--nodes",
            str(nodes),
            "--devices",
            str(devices),
        ]
        command += [] if rate is None else ["--rate", str(rate)]
        self._process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.nodes_toml = Path(self._answer().removeprefix("ready "))

    @property
    def pid(self) -> int:
        """Of the server process."""
        return self._process.pid

    def send(self, line: str) -> str:
        """One line of control, obeyed when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close_input(self) -> None:
        """End its standard input; returns when the process has ended by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the crowd is gone")
        return line.strip()


async def serve(directory: Path, nodes: int, devices: int, seed: int, rate: float | None) -> None:
    """Play them until standard input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + 8 * nodes  # listeners, connections, attempts, and what fills the backlog of a black hole
    if hard == resource.RLIM_INFINITY or hard >= wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    crowd = Crowd(directory, nodes, devices, seed, rate)
    print(f"ready {await crowd.start()}", flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(crowd.obey(line.decode()), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.ssh.crowd",
        description=__doc__,
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="where nodes.toml, the key and the shared home are written")
    parser.add_argument("--nodes", type=int, default=256)
    parser.add_argument("--devices", type=int, default=8, help="of each node")
    parser.add_argument("--seed", type=int, default=0, help="of the readings")
    parser.add_argument("--rate", type=float, help="readings a second of each node (as often as the centre asks for)")
    asked = parser.parse_args()
    asked.directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(asked.directory.resolve(), asked.nodes, asked.devices, asked.seed, asked.rate))


if __name__ == "__main__":
    main()
