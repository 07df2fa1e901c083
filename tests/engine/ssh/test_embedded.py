"""The embedded node: a real SSH server on loopback whose commands end with their channel, and nothing that has detached does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio
from paceline.engine.errors import NodeRefused, NodeUnreachable
from paceline.engine.specs import DeviceSpec, NodeSpec
from paceline.engine.ssh.connect import open_connection
from paceline.engine.ssh.embedded import EmbeddedNode

from tests.support.waiting import until

SPEC = NodeSpec("demo1", kind="embedded", devices=(DeviceSpec("RTX 3060", 12.7, 12 << 30),))
Connect = Callable[[], Awaitable[asyncssh.SSHClientConnection]]


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    served = EmbeddedNode(tmp_path / "demo1", asyncssh.generate_private_key("ssh-ed25519"))
    await served.start()
    yield served
    await served.close()


@pytest_asyncio.fixture
async def connection(node: EmbeddedNode) -> AsyncIterator[asyncssh.SSHClientConnection]:
    opened = await open_connection(SPEC, node)
    yield opened
    opened.abort()
    await opened.wait_closed()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def start(connection: asyncssh.SSHClientConnection, command: str) -> tuple[asyncssh.SSHClientProcess[str], int]:
    """Start a command that first says a pid."""
    process = await connection.create_process(command)
    return process, int(await process.stdout.readline())


async def test_a_command_has_its_directory_status_and_both_outputs(
    node: EmbeddedNode, connection: asyncssh.SSHClientConnection
) -> None:
    done = await connection.run("pwd; echo $HOME; echo oops >&2; cat; exit 7", input="from the centre\n")
    assert done.stdout == f"{node.directory}\n{node.directory}\nfrom the centre\n"
    assert done.stderr == "oops\n"
    assert done.exit_status == 7


async def test_a_command_inherits_nothing_private_of_ours(
    connection: asyncssh.SSHClientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    done = await connection.run("env")
    assert "SOME_TOKEN" not in str(done.stdout)
    assert "PYTHONPATH" not in str(done.stdout)
    assert "SSH_CONNECTION=127.0.0.1 " in str(done.stdout)


async def test_much_output_arrives_whole(connection: asyncssh.SSHClientConnection) -> None:
    done = await connection.run("head -c 5000000 /dev/zero", encoding=None)
    assert isinstance(done.stdout, bytes)
    assert len(done.stdout) == 5_000_000


async def test_a_signal_reaches_the_command(connection: asyncssh.SSHClientConnection) -> None:
    process, _ = await start(connection, "trap 'exit 9' TERM; echo $$; while :; do sleep 0.01; done")
    process.terminate()
    assert (await process.wait()).exit_status == 9


async def test_files_come_and_go_relative_to_the_node_s_home(
    node: EmbeddedNode, connection: asyncssh.SSHClientConnection, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    (tmp_path / "here").write_bytes(data)
    async with connection.start_sftp_client() as sftp:
        assert await sftp.realpath(".") == str(node.directory)
        await sftp.put(str(tmp_path / "here"), "there")
        assert (node.directory / "there").read_bytes() == data
        await sftp.get("there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data


async def test_closing_the_channel_ends_the_process_group(connection: asyncssh.SSHClientConnection) -> None:
    process, child = await start(connection, "sleep 600 & echo $!; wait")
    process.close()
    await until(lambda: not is_running(child))


async def test_a_child_that_ignores_the_hang_up_is_killed(connection: asyncssh.SSHClientConnection) -> None:
    process, child = await start(connection, "trap '' HUP; sleep 600 & echo $!; wait")
    process.close()
    await until(lambda: not is_running(child))


async def test_a_lost_connection_ends_the_process_group(connection: asyncssh.SSHClientConnection) -> None:
    _, child = await start(connection, "sleep 600 & echo $!; wait")
    connection.abort()
    await until(lambda: not is_running(child))


async def test_a_child_that_called_setsid_survives_its_channel_and_the_server(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path / "demo1", asyncssh.generate_private_key("ssh-ed25519"))
    await node.start()
    connection = await open_connection(SPEC, node)
    command = "setsid sh -c 'echo $$ >pid; exec sleep 600' </dev/null >/dev/null 2>&1 & sleep 600 & echo $!; wait"
    _, attached = await start(connection, command)
    await until(lambda: (node.directory / "pid").exists() and (node.directory / "pid").read_text() != "")
    detached = int((node.directory / "pid").read_text())
    try:
        await node.close()
        assert not is_running(attached)
        assert is_running(detached)
    finally:
        os.kill(detached, 9)
    await connection.wait_closed()


async def test_a_detached_child_that_keeps_the_pipes_does_not_hold_the_channel(connection: asyncssh.SSHClientConnection) -> None:
    done = await connection.run("setsid sleep 600 & echo $!")
    assert done.exit_status == 0
    child = int(str(done.stdout))
    assert is_running(child)
    os.kill(child, 9)


async def test_closing_the_server_leaves_no_process_behind(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path / "demo1", asyncssh.generate_private_key("ssh-ed25519"))
    await node.start()
    connection = await open_connection(SPEC, node)
    children = [(await start(connection, "sleep 600 & echo $!; wait"))[1] for _ in range(3)]
    await node.close()
    assert not any(is_running(child) for child in children)
    await connection.wait_closed()


async def test_two_control_processes_serve_the_same_directory(node: EmbeddedNode, tmp_path: Path) -> None:
    other = EmbeddedNode(node.directory, asyncssh.generate_private_key("ssh-ed25519"))
    await other.start()
    for served in (node, other):
        connection = await open_connection(SPEC, served)
        await connection.run("echo here >>seen")
        connection.abort()
        await connection.wait_closed()
    await other.close()
    assert (node.directory / "seen").read_text() == "here\nhere\n"


async def test_another_host_key_is_refused(node: EmbeddedNode) -> None:
    node.host_key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(NodeRefused, match=r"demo1: the host key of 127\.0\.0\.1") as caught:
        await open_connection(SPEC, node)
    assert caught.value.exit_status == 4


async def test_another_client_key_is_refused(node: EmbeddedNode) -> None:
    node.client_key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(NodeRefused, match=r"demo1: authentication at 127\.0\.0\.1 failed"):
        await open_connection(SPEC, node)


async def test_a_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    node = EmbeddedNode(tmp_path / "demo1", asyncssh.generate_private_key("ssh-ed25519"))
    await node.start()
    await node.close()
    with pytest.raises(NodeUnreachable, match=r"demo1: 127\.0\.0\.1"):
        await open_connection(SPEC, node)
