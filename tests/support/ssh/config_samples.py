"""Random ssh configurations with everything that decides whom one talks to; the same seed gives the same configuration."""

from __future__ import annotations

import random
from pathlib import Path

HOSTS = ("atlas", "boreas.lab", "n1", "Gate", "10.0.0.7")
"""Names that are asked for."""
PATTERNS = (
    "atlas",
    "at*",
    "*",
    "n?",
    "!n1 *",
    "boreas.*",
    "*.lab",
    "Gate",
    "gate",
    "10.0.0.*",
    "atlas n1",
    "[a]tlas",
    "!atlas",
    "?ate",
)
NAMES = ("127.0.0.1", "%h.example", "Big.Example.ORG", "h-%%", "fe80::1", "10.1.2.3")
USERS = ("lab", "LAB\\user1", '"two words"', "root", "'q u'")
JUMPS = ("gate", "lab@gate:2222", "none", "ssh://lab@gate:2222", "%r@gate", "a@g1,g2:99", "[::1]:22", "ssh://gate")


class ConfigSample:
    """A configuration with files that it includes."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / "config"
        self._write(self.path, self._lines(0))
        self.host = self.random.choice(HOSTS)

    def _write(self, path: Path, lines: list[str]) -> None:
        path.write_bytes("\n".join(lines).encode("latin-1") + self.random.choice((b"\n", b"", b"\r\n")))
        path.chmod(0o600)

    def _lines(self, depth: int) -> list[str]:
        lines = []
        for _ in range(self.random.randrange(1, 9)):
            lines.append(self._line(depth))
        return lines

    def _line(self, depth: int) -> str:
        draw = self.random
        kind = draw.random()
        if kind < 0.25:
            line = f"{draw.choice(('Host', 'host', 'HOST'))} {draw.choice(PATTERNS)}"
        elif kind < 0.42:
            line = self._match()
        elif kind < 0.5 and depth < 3:
            return self._include(depth)
        elif kind < 0.55:
            return draw.choice(("", "   ", "# caf\xe9 rack", "\t# x"))
        else:
            line = self._option()
        return " " * draw.choice((0, 2, 4)) + line + draw.choice(("", "", "", " # note", "  ", "\t"))

    def _option(self) -> str:
        draw = self.random
        name, value = draw.choice(
            (
                ("HostName", draw.choice(NAMES)),
                ("User", draw.choice(USERS)),
                ("Port", str(draw.choice((22, 2222, 65535)))),
                ("ProxyJump", draw.choice(JUMPS)),
                ("ProxyCommand", draw.choice(("none", "nc %h %p", 'sh -c "nc %h %p 2>/dev/null"'))),
                ("IdentityFile", draw.choice(("/keys/a", "/keys/%r", '"/keys/with space"', "/keys/%h-%p"))),
                ("CertificateFile", "/keys/a-cert.pub"),
                ("IdentitiesOnly", draw.choice(("yes", "no", "True"))),
                ("HostKeyAlias", draw.choice(("alias", "Other"))),
                ("UserKnownHostsFile", draw.choice(("/k/a", "/k/a /k/b", '"/k/with space"'))),
                ("GlobalKnownHostsFile", draw.choice(("/g/a", "/g/a /g/b"))),
                ("StrictHostKeyChecking", draw.choice(("yes", "no", "ask", "accept-new", "off"))),
                ("HashKnownHosts", draw.choice(("yes", "no"))),
                ("RevokedHostKeys", "/k/revoked"),
                ("ConnectTimeout", draw.choice(("30s", "1m", "10", "1m30s"))),
                ("ServerAliveInterval", draw.choice(("1m", "15"))),
                ("PubkeyAuthentication", draw.choice(("yes", "no", "host-bound"))),
                ("AddressFamily", draw.choice(("any", "inet"))),
                ("ForwardAgent", "no"),
                ("LogLevel", "ERROR"),
            )
        )
        separator = draw.choice((" ", "=", " = ", "\t"))
        return f"{draw.choice((name, name.lower(), name.upper()))}{separator}{value}"

    def _match(self) -> str:
        draw = self.random
        conditions = []
        for _ in range(draw.randrange(1, 3)):
            conditions.append(
                draw.choice(("", "!"))
                + draw.choice(
                    (
                        f"host {draw.choice(('atlas', 'AT*', 'boreas.lab,n1', '!n1,*', '*.example', '10.*'))}",
                        f"originalhost {draw.choice(('atlas', 'n*', '!atlas,*', '*'))}",
                        f"user {draw.choice(('lab', 'root', 'l*'))}",
                        f"localuser {draw.choice(('root', 'nobody', '*'))}",
                        f'exec "test %n = {draw.choice(HOSTS)}"',
                        'exec "test x = x"',
                        'exec "test %h-%p-%r = 127.0.0.1-2222-lab"',
                        "final",
                        "canonical",
                    )
                )
            )
        return f"Match {draw.choice(('all', *[' '.join(conditions)] * 9))}"

    def _include(self, depth: int) -> str:
        draw = self.random
        folder = self.directory / f"include{draw.randrange(10**6)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        names = draw.sample(["01-a", "02-b", "10-c", "Z", "a", ".hidden", "é".encode().hex()], draw.randrange(1, 4))
        for name in names:
            self._write(folder / name, self._lines(depth + 1))
        return f"Include {folder}/{draw.choice(('*', '*', '0*', names[0], 'missing', '*.conf'))}"
