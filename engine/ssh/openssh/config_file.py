"""Reads the ssh configuration of one host as OpenSSH does: ~/.ssh/config, then /etc/ssh/ssh_config; the first value counts.

asyncssh's own reader differs where it decides whom one talks to: the order of Include, hidden files, tokens of ``Match exec``, two
proxies. Blocks under a kind of Match that is not known here are left out, with a warning.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import re
import socket
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ...protocol.regular_files import read_regular
from .config_lines import ConfigError, ConfigLine, config_lines, matches_list, matches_pattern, next_word, seconds_of

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
MAX_INCLUDE_DEPTH = 16
MAX_CONFIG_BYTES = 1 << 20
EXEC_TIMEOUT_S = 20.0
"""Seconds for a command of ``Match exec``; one that takes longer does not match."""
_TEXT_OPTIONS = (
    *("hostname", "user", "hostkeyalias", "bindaddress", "tag", "ciphers", "macs", "kexalgorithms", "hostkeyalgorithms"),
    *("casignaturealgorithms", "pubkeyacceptedalgorithms", "preferredauthentications", "pkcs11provider", "identityagent"),
    *("revokedhostkeys", "stricthostkeychecking", "addressfamily", "canonicalizehostname", "forwardagent", "knownhostscommand"),
)
_FLAG_OPTIONS = (
    *(
        "identitiesonly",
        "hashknownhosts",
        "nohostauthenticationforlocalhost",
        "compression",
        "tcpkeepalive",
        "passwordauthentication",
    ),
    *("kbdinteractiveauthentication", "gssapiauthentication", "gssapidelegatecredentials", "canonicalizefallbacklocal"),
)
_NUMBER_OPTIONS = ("port", "canonicalizemaxdots", "serveralivecountmax")
_TIME_OPTIONS = ("connecttimeout", "serveraliveinterval")
_LIST_OPTIONS = ("userknownhostsfile", "globalknownhostsfile", "canonicaldomains", "setenv")
_APPENDED_OPTIONS = ("identityfile", "certificatefile", "sendenv")
_ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "tisauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
    "identityfile2": "identityfile",
    "globalknownhostsfile2": "globalknownhostsfile",
    "userknownhostsfile2": "userknownhostsfile",
}
_FLAG_VALUES = {"yes": True, "true": True, "no": False, "false": False}
_TOKEN, _VARIABLE = re.compile(r"%(.?)", re.DOTALL), re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True)
class HostQuery:
    """The host that is asked for, and what the command line of ssh would give beside it."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass
class HostConfig:
    """Options of one host by their names in lower case, as they are written; ``None`` never stands for a value."""

    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    """What was left out, with file and line."""
    host: str = ""
    """The address, in lower case as ssh takes it."""

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option, by its name in lower case."""
        return self.options.get(name, default)


class _Reading:
    """One pass over the files for one host."""

    def __init__(self, query: HostQuery, config: HostConfig, host: str, is_final: bool, home: Path) -> None:
        self._query, self._config, self._host, self._is_final, self._home = query, config, host, is_final, home
        self._is_user_file = True
        self.wants_final = False
        """Whether ``Match final`` was found, which asks for another pass."""

    def read_file(self, path: Path, is_user_file: bool) -> None:
        """Read a file of the user or of the system; a missing one is empty. Raises ConfigError."""
        self._is_user_file = is_user_file
        self._read(path, True, 0)

    def _read(self, path: Path, is_active: bool, depth: int) -> None:
        if depth > MAX_INCLUDE_DEPTH:
            raise ConfigError(f"{path}: too many recursive configuration includes")
        if self._is_user_file:
            _check_owner(path)
        try:
            text = read_regular(path, MAX_CONFIG_BYTES).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return
        except OSError as error:
            if path.is_dir():  # a directory that Include found is an empty file for ssh
                return
            raise ConfigError(f"{path}: {error.strerror}") from None
        can_match = is_active
        for line in config_lines(text, str(path)):
            if line.keyword == "host":
                is_active = can_match and self._matches_host(line)
            elif line.keyword == "match":
                is_active = self._matches(line, can_match)
            elif line.keyword == "include":
                for pattern in line.words():
                    for included in self._included(pattern, line):
                        self._read(included, is_active, depth + 1)
            elif is_active:
                self._set(line)

    def _included(self, pattern: str, line: ConfigLine) -> list[Path]:
        """Files that a pattern names, in lexical order. Hidden files match only where the pattern names their dot (glob(7))."""
        if pattern.startswith("~"):
            if not self._is_user_file:
                raise ConfigError(f"{line.place}: bad include path {pattern}")
            pattern = str(_expand_home(pattern, self._home))
        elif not pattern.startswith("/"):
            base = self._home / ".ssh" if self._is_user_file else SYSTEM_CONFIG.parent
            pattern = f"{glob.escape(str(base))}/{pattern}"
        return [Path(name) for name in sorted(glob.glob(pattern))]

    def _matches_host(self, line: ConfigLine) -> bool:
        is_found = False
        for pattern in line.words():
            if matches_pattern(self._host, pattern.removeprefix("!")):
                if pattern.startswith("!"):
                    return False
                is_found = True
        return is_found

    def _matches(self, line: ConfigLine, can_match: bool) -> bool:
        """Whether all conditions of a Match line hold. Commands run only where all before them do."""
        rest, result, is_first = line.rest, can_match, True
        while rest:
            attribute, rest = next_word(rest, line.place)
            if not attribute or attribute.startswith("#"):
                break
            is_first = False
            name, _, value = attribute.removeprefix("!").lower(), None, None
            if name in ("all", "canonical", "final"):
                self.wants_final |= name == "final"
                holds = name == "all" or self._is_final
            else:
                value, rest = next_word(rest, line.place)
                known = self._condition(name, value, result)
                if known is None:
                    self._warn(line, f"Match {name} is not known here: its block is left out")
                    return False
                holds = known
            result = result and holds != attribute.startswith("!")
        if is_first:
            raise ConfigError(f"{line.place}: Match without a condition")
        return result

    def _condition(self, name: str, value: str, result: bool) -> bool | None:
        """Whether one condition holds; None: its kind is not known. ``result``: whether those before it hold."""
        match name:
            case "host":
                return matches_list(self._hostname(), value, is_lowered=True)
            case "originalhost":
                return matches_list(self._query.host, value, is_lowered=True)
            case "user":
                return matches_list(str(self._config.get("user") or local_user()), value)
            case "localuser":
                return matches_list(local_user(), value)
            case "tagged":
                return matches_list(str(self._config.get("tag") or ""), value)
            case "exec":
                tokens = expansion_tokens(self._query, self._config, self._hostname(), self._home)
                return result and _runs(expand(value, tokens, False))
        return None

    def _hostname(self) -> str:
        """The address as known so far."""
        name = self._config.get("hostname")
        return self._host if name is None else expand(name, {"h": self._host}, False)

    def _set(self, line: ConfigLine) -> None:
        name, options = _ALIASES.get(line.keyword, line.keyword), self._config.options
        if name in ("proxycommand", "proxyjump"):
            value = line.rest if name == "proxycommand" else " ".join(line.words()[:1])
            has_jump = str(options.get("proxyjump", "none")).lower() != "none"
            is_first = (
                "proxycommand" not in options and not has_jump
            )  # ``ProxyJump none`` leaves the choice to a later ProxyCommand
            if is_first and name not in options:
                options[name] = value or _fail(line, "value is missing")
        elif name == "pubkeyauthentication":
            options.setdefault(name, {"host-bound": True, "unbound": True}.get(_first(line).lower(), _flag_or_none(line)))
        elif name in _FLAG_OPTIONS:
            options.setdefault(name, _flag(line))
        elif name in _TIME_OPTIONS:
            value = _first(line)
            seconds = 0 if value.lower() == "none" else seconds_of(value)
            options.setdefault(name, _fail(line, f"{value!r} is no time") if seconds is None else seconds)
        elif name in _NUMBER_OPTIONS:
            options.setdefault(name, _number(line, name))
        elif name in _TEXT_OPTIONS:
            options.setdefault(name, _first(line))
        elif name in _LIST_OPTIONS:
            options.setdefault(name, line.words() or _fail(line, "value is missing"))
        elif name in _APPENDED_OPTIONS:
            options.setdefault(name, [])
            options[name] += [word for word in line.words() if word not in options[name]]

    def _warn(self, line: ConfigLine, text: str) -> None:
        warning = f"{line.place}: {text}"
        if warning not in self._config.warnings:
            self._config.warnings.append(warning)


def read_host(query: HostQuery, home: Path, resolve: Callable[[str], bool] | None = None) -> HostConfig:
    """The options of a host. ``resolve``: whether a name has an address, for CanonicalizeHostname. Raises ConfigError."""
    config = HostConfig({name: value for name, value in (("user", query.user), ("port", query.port)) if value is not None})
    wants_final = _read_all(query, config, query.host, False, home)
    config.host = _address(query.host, config).lower()
    canonicalize = str(config.get("canonicalizehostname", "no")).lower()
    if canonicalize in ("yes", "true", "always"):
        wants_final = True
        has_proxy = any(str(config.get(name, "none")).lower() != "none" for name in ("proxyjump", "proxycommand"))
        if not has_proxy or canonicalize == "always":
            config.host = _canonical(config, resolve or _has_address)
    if wants_final:
        config.options["hostname"] = config.host.replace("%", "%%")  # it is expanded again
        _read_all(query, config, config.host, True, home)
        config.host = _address(config.host, config).lower()
    return config


def _read_all(query: HostQuery, config: HostConfig, host: str, is_final: bool, home: Path) -> bool:
    reading = _Reading(query, config, host, is_final, home)
    reading.read_file(home / ".ssh" / "config", True)
    reading.read_file(SYSTEM_CONFIG, False)
    return reading.wants_final


def _address(host: str, config: HostConfig) -> str:
    name = config.get("hostname")
    return host if name is None else expand(name, {"h": host}, False)


def _canonical(config: HostConfig, resolve: Callable[[str], bool]) -> str:
    """The host with the first of CanonicalDomains under which it has an address; without one as it is (ssh_config(5))."""
    host = config.host
    domains = [domain for domain in config.get("canonicaldomains", []) if domain.lower() != "none"]
    is_address = re.fullmatch(r"[0-9.]+|.*:.*", host) is not None
    if is_address or not domains or host.count(".") > config.get("canonicalizemaxdots", 1):
        return host
    if host.endswith("."):
        return host.rstrip(".") if resolve(host) else host
    for domain in domains:
        if resolve(name := f"{host}.{domain}".lower()):
            return name
    if not config.get("canonicalizefallbacklocal", True):
        raise ConfigError(f"{host} has no address in any of CanonicalDomains")
    return host


def _has_address(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except (OSError, UnicodeError):
        return False


def local_user() -> str:
    """The name of the person; where the system has none, as in a container, that of the environment or the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())


def expansion_tokens(query: HostQuery, config: HostConfig, host: str, home: Path) -> dict[str, str]:
    """The values of the tokens that ssh expands, such as ``%h`` (ssh_config(5), TOKENS)."""
    local_host = socket.gethostname()
    port, user = str(config.get("port") or 22), str(config.get("user") or local_user())
    jump = "" if str(config.get("proxyjump", "none")).lower() == "none" else str(config.get("proxyjump"))
    connection = hashlib.sha1(f"{local_host}{host}{port}{user}{jump}".encode("utf-8", "surrogateescape")).hexdigest()
    tokens = {"C": connection, "L": local_host.partition(".")[0], "l": local_host, "d": str(home), "i": str(os.getuid())}
    tokens |= {"h": host, "n": query.host, "p": port, "r": user, "u": local_user(), "j": jump}
    return tokens | {"k": str(config.get("hostkeyalias") or query.host)}


def expand(text: str, tokens: dict[str, str], has_variables: bool) -> str:
    """A text with its ``%`` tokens and, ``has_variables``, its ``${variables}``. Raises ConfigError for an unknown one."""

    def token(match: re.Match[str]) -> str:
        name = match.group(1)
        if name != "%" and name not in tokens:
            raise ConfigError(f"unknown token %{name} in {text!r}")
        return "%" if name == "%" else tokens[name]

    def variable(match: re.Match[str]) -> str:
        if match.group(1) not in os.environ:
            raise ConfigError(f"the environment has no {match.group(1)}, which {text!r} names")
        return os.environ[match.group(1)]

    expanded = _TOKEN.sub(token, text)
    return _VARIABLE.sub(variable, expanded) if has_variables else expanded


def _expand_home(path: str, home: Path) -> Path:
    """A path with its leading ``~`` or ``~user``."""
    return home / path[2:] if path == "~" or path.startswith("~/") else Path(os.path.expanduser(path))


def _check_owner(path: Path) -> None:
    """Raise ConfigError, in the words of ssh, for a file that another user may have written."""
    try:
        status = path.stat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode) and (status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022):
        raise ConfigError(f"Bad owner or permissions on {path}")


def _runs(command: str) -> bool:
    """Whether a command of ``Match exec`` ends with status 0, run by the person's shell as ssh does."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        run = subprocess.run(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=EXEC_TIMEOUT_S,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0


def _first(line: ConfigLine) -> str:
    words = line.words()
    return words[0] if words else _fail(line, "value is missing")


def _flag(line: ConfigLine) -> bool:
    value = _flag_or_none(line)
    return _fail(line, f"expected yes or no, got {_first(line)!r}") if value is None else value


def _flag_or_none(line: ConfigLine) -> bool | None:
    return _FLAG_VALUES.get(_first(line).lower())


def _number(line: ConfigLine, name: str) -> int:
    value = _first(line)
    largest = 65535 if name == "port" else 1 << 31
    if not (value.isascii() and value.isdigit() and 0 <= int(value) <= largest) or (name == "port" and int(value) == 0):
        _fail(line, f"{value!r} is no {'port' if name == 'port' else 'number'}")
    return int(value)


def _fail(line: ConfigLine, text: str) -> NoReturn:
    raise ConfigError(f"{line.place}: {line.keyword}: {text}")
