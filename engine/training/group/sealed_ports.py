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

_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""One instruction of classic BPF: return 0, the number of bytes of the packet to keep (linux/filter.h)."""
LAZY_VARIABLE = "TORCH_GLOO_LAZY_INIT"
"""With it gloo connects two ranks at their first message, and needs its port for as long as that takes."""


def listening_descriptors() -> set[int]:
    """Descriptors of this process that are listening TCP sockets; none where the system does not report them."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as copy:
                is_tcp = copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM
                if is_tcp and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(int(name))
    return found


def seal_ports(known: set[int]) -> int:
    """Seal all listening sockets but the ``known`` ones, which were there before the group formed. Returns how many."""
    if sys.platform != "linux" or os.environ.get(LAZY_VARIABLE, "0").lower() in ("1", "true", "yes"):
        return 0
    code = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    program = struct.pack("@HP", 1, ctypes.addressof(code))
    sealed = 0
    for descriptor in listening_descriptors() - known:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
            copy.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
            sealed += 1
    return sealed
