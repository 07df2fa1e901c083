"""The TCP sockets of a process: found, sealed and shut down without a descriptor left over."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from paceline.engine.training.group.reform import shut_sockets
from paceline.engine.training.group.sealed_ports import listening_descriptors


def test_looking_at_descriptors_of_any_kind_leaves_none_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w"), socket.socketpair()[0], socket.create_server(("127.0.0.1", 0)) as server:
        read_end, write_end = os.pipe()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            assert server.fileno() in listening_descriptors()
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(read_end)
        os.close(write_end)


def test_connections_are_shut_down_and_listeners_and_unix_sockets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair()
    with left, right, socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            known = {str(one.fileno()) for one in (left, right, server, client)}
            listed = os.listdir
            monkeypatch.setattr(os, "listdir", lambda path: [name for name in listed(path) if name in known])
            before = len(listed("/proc/self/fd"))
            assert shut_sockets() == 1
            assert peer.recv(1) == b""
            left.sendall(b"x")
            assert right.recv(1) == b"x"
            assert len(listed("/proc/self/fd")) == before
