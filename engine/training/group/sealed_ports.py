"""Seals the ports that gloo leaves open: once all ranks are connected, the kernel drops whatever strangers send there.

gloo does not ask who connects, holds a descriptor for each, and listens for as long as the group lives, although it makes all its
connections while the group forms. A filter on the listening socket (Linux: socket(7), SO_ATTACH_FILTER) drops every packet of new
connections; those that exist have sockets of their own, and gloo notices nothing. It needs no privilege. Elsewhere the ports stay
as gloo opens them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator

_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""One instruction of classic BPF: return 0, the number of bytes of the packet to keep (linux/filter.h)."""
LAZY_VARIABLE = "TORCH_GLOO_LAZY_INIT"
"""With it gloo connects two ranks at their first message, and needs its port for as long as that takes."""


def tcp_sockets() -> Iterator[tuple[int, socket.socket, bool]]:
    """The TCP sockets of this process: descriptor, a copy that is closed afterwards, whether it listens.

    None where the system does not report them.
    """
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir("/proc/self/fd")
    for name in names:
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue  # a copy of anything else would stay open: socket.socket refuses it and does not close it
            copied = os.dup(int(name))
            try:
                copy = socket.socket(fileno=copied)
            except OSError:  # another thread has closed it meanwhile, and opened something else
                os.close(copied)
                continue
            with copy:
                if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
                    yield int(name), copy, bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def listening_descriptors() -> set[int]:
    """Descriptors of this process that are listening TCP sockets."""
    return {descriptor for descriptor, _, is_listening in tcp_sockets() if is_listening}


def seal_ports(known: set[int]) -> int:
    """Seal all listening sockets but the ``known`` ones, which were there before the group formed. Returns how many."""
    if sys.platform != "linux" or os.environ.get(LAZY_VARIABLE, "0").lower() in ("1", "true", "yes"):
        return 0
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("@HP", 1, ctypes.addressof(code))
    sealed = 0
    for descriptor, copy, is_listening in tcp_sockets():
        if is_listening and descriptor not in known:
            with contextlib.suppress(OSError):
                copy.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
                sealed += 1
    return sealed
