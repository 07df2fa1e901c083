"""Who a runner is to its peers: a certificate made for this run and this node, and whom it believes. TLS 1.3, both ways.

The centre makes an authority for the run, signs one certificate a node with it, and forgets its key (``jobs.doors.certificates``).
Names are compared by ``peer_name``'s callers: they are names of nodes, no host names. The key is on disk while OpenSSL reads it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import WorkFailed
from ...protocol.private_files import make_directory, write_bytes
from ...protocol.run_files import PRIVATE_DIR
from .knock import knock_key

_KEY_FILE = "key.pem"


class Identity:
    """The TLS contexts of one runner."""

    def __init__(self, run: Path, certificates: Mapping[str, Any]) -> None:
        """``certificates``: {"certificate", "key", "authority"}, each PEM text. Raises WorkFailed."""
        self.knock_keys: list[bytes] = []
        """One for each authority that is believed; the first is that of the own certificate."""
        self.authority = str(certificates.get("authority", ""))
        """PEM text of the authority of the own certificate."""
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.num_tickets = 0  # no resumption: every connection proves itself
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        path = run / PRIVATE_DIR / _KEY_FILE
        try:
            make_directory(path.parent)
            write_bytes(path, f"{certificates['key']}\n{certificates['certificate']}".encode())
            for context in (self.server, self.client):
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_cert_chain(path)
            self.trust(certificates["authority"])
        except (KeyError, TypeError, ValueError, ssl.SSLError) as error:
            raise WorkFailed(f"the certificate of this run cannot be used: {error}") from None
        finally:
            path.unlink(missing_ok=True)

    def trust(self, authority: str) -> None:
        """Believe certificates of one more authority: that of a centre which adds a node later. Raises ValueError or SSLError."""
        if (key := knock_key(authority)) in self.knock_keys:
            return
        for context in (self.server, self.client):
            context.load_verify_locations(cadata=authority)
        self.knock_keys.append(key)


def peer_name(connection: ssl.SSLObject | ssl.SSLSocket) -> str:
    """Name of the node at the other end, by its certificate; empty where that names none."""
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    names = [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return names[0] if len(names) == 1 else ""
